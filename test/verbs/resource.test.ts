import { describe, expect, test } from 'bun:test';
import { VerbsError } from '../../src/verbs/doctor.ts';
import { allocateMemory } from '../../src/verbs/memory.ts';
import { Resource, ResourceStack } from '../../src/verbs/resource.ts';

const destroyed: string[] = [];

class Thing extends Resource {
  protected readonly destroyCall = 'destroy_thing';
  errno = 0;
  constructor(label: string, parents: Resource[] = []) {
    super(label, 1n, parents);
  }
  protected destroy(): number {
    if (this.errno === 0) destroyed.push(this.label);
    return this.errno;
  }
}

describe('ownership', () => {
  test('a parent is not closed before its children, and names them', () => {
    const device = new Thing('device');
    const domain = new Thing('domain', [device]);
    const queue = new Thing('queue', [device]);
    const pair = new Thing('pair', [domain, queue, queue]);
    expect(() => device.close()).toThrow('cannot close device');
    try {
      queue.close();
    } catch (error) {
      expect((error as VerbsError).likelyCause).toContain('still open: pair');
    }
    expect(queue.closed).toBe(false);
    destroyed.length = 0;
    for (const thing of [pair, queue, domain, device]) thing.close();
    expect(destroyed).toEqual(['pair', 'queue', 'domain', 'device']);
  });

  test('closing again does nothing, using a closed object throws', () => {
    const thing = new Thing('thing');
    thing.close();
    destroyed.length = 0;
    thing.close();
    thing[Symbol.dispose]();
    expect(destroyed).toEqual([]);
    expect(() => thing.handle).toThrow('use thing after it was closed');
  });

  test('what the library refuses to free stays open', () => {
    const thing = new Thing('thing');
    thing.errno = 16;
    expect(() => thing.close()).toThrow('EBUSY');
    expect(thing.closed).toBe(false);
    thing.errno = 0;
    thing.close();
    expect(thing.closed).toBe(true);
  });

  test('using closes in reverse order, also after an error', () => {
    destroyed.length = 0;
    const work = (): void => {
      using device = new Thing('device');
      using _domain = new Thing('domain', [device]);
      throw new Error('work failed');
    };
    expect(work).toThrow('work failed');
    expect(destroyed).toEqual(['domain', 'device']);
  });

  test('a stack closes newest first, goes on after an error, and throws the first', () => {
    const order: number[] = [];
    const stack = new ResourceStack();
    stack.defer(() => order.push(1));
    stack.defer(() => {
      throw new Error('second');
    });
    stack.defer(() => order.push(3));
    expect(() => stack.close()).toThrow('second');
    expect(order).toEqual([3, 1]);
    stack.close();
    expect(order).toEqual([3, 1]);
  });

  test('a moved stack closes nothing any more', () => {
    const order: string[] = [];
    const first = new ResourceStack();
    first.defer(() => order.push('closed'));
    const second = first.move();
    first.close();
    expect(order).toEqual([]);
    second.close();
    expect(order).toEqual(['closed']);
  });
});

describe('memory', () => {
  test('is zeroed, page aligned, writable, and of the length asked for', () => {
    using memory = allocateMemory(5000);
    expect(memory.address % 4096n).toBe(0n);
    expect(memory.bytes.length).toBe(5000);
    expect(memory.bytes.every((byte) => byte === 0)).toBe(true);
    memory.bytes.fill(7);
    expect(memory.bytes[4999]).toBe(7);
  });

  test('views are empty after close instead of dangling', () => {
    const memory = allocateMemory(4096);
    const { bytes } = memory;
    bytes[0] = 1;
    memory.close();
    memory.close();
    expect(bytes.length).toBe(0);
    expect(bytes[0]).toBeUndefined();
    expect(memory.bytes.length).toBe(0);
    expect(() => memory.address).toThrow(VerbsError);
  });

  test('many allocations come and go', () => {
    for (let i = 0; i < 2000; i++) {
      using memory = allocateMemory(1 + i * 10);
      memory.bytes[i] = 1;
    }
  });

  test('impossible lengths are refused', () => {
    for (const length of [0, -1, 1.5, Number.NaN, 2 ** 50, '5' as unknown as number]) {
      expect(() => allocateMemory(length)).toThrow(VerbsError);
    }
    try {
      allocateMemory(2 ** 46);
      throw new Error('not refused');
    } catch (error) {
      expect((error as VerbsError).code).toBe('ENOMEM');
      expect((error as VerbsError).exitCode).toBe(3);
    }
  });
});
