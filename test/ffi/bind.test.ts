import { describe, expect, test } from 'bun:test';
import koffi from 'koffi';
import { ArgumentError, bind, checkArgument, lastErrno, normalizeResult } from '../../ffi/bind.ts';

const libc = bind('libc', () => koffi.load('libc.so.6'), {
  abs: ['i32', ['i32']],
  strerror: ['str', ['i32']],
  close: ['i32', ['i32']],
  malloc: ['ptr', ['u64']],
  free: ['void', ['ptr']],
  strtoull: ['u64', ['str', 'ptr?', 'i32']],
  no_such_function_at_all: ['void', []],
});

describe('bound functions', () => {
  test('call C and give results in one form', () => {
    expect(libc.abs(-5)).toBe(5);
    expect(libc.strerror(12)).toContain('memory');
    expect(libc.strtoull('7', null, 10)).toBe(7n);
    expect(libc.strtoull('18446744073709551615', null, 10)).toBe((1n << 64n) - 1n);
    const memory = libc.malloc(16n);
    expect(memory).toBeGreaterThan(0n);
    libc.free(memory);
  });

  test('leave errno readable', () => {
    expect(libc.close(-1)).toBe(-1);
    expect(lastErrno()).toBe(9);
  });

  test('run on a pool thread, with their errno', async () => {
    expect(await libc.close.later(-1)).toEqual({ result: -1, errno: 9 });
  });

  test('name the library and the function that it lacks', () => {
    expect(() => libc.no_such_function_at_all()).toThrow('libc has no function no_such_function_at_all');
  });

  test('refuse a wrong number of arguments', () => {
    // @ts-expect-error too few
    expect(() => libc.abs()).toThrow(ArgumentError);
    // @ts-expect-error too many
    expect(() => libc.abs(1, 2)).toThrow(ArgumentError);
  });
});

describe('argument checks', () => {
  const wrong: [Parameters<typeof checkArgument>[1], unknown[]][] = [
    ['i32', ['1', null, undefined, 1.5, Number.NaN, 2 ** 31, -(2 ** 31) - 1, 1n, {}, true]],
    ['u8', [-1, 256, '1', 1n]],
    ['u16', [-1, 65536]],
    ['u32', [-1, 2 ** 32, 1n]],
    ['u64', [1, -1n, 1n << 64n, '1', null]],
    ['ptr', [0n, -1n, 1n << 63n, 4096, null, undefined, 'x', new Uint8Array(1)]],
    ['ptr?', [0n, 4096, undefined]],
    ['buf', [null, new Uint8Array(0), new ArrayBuffer(8), [1], 'x', 5n, new DataView(new ArrayBuffer(8))]],
    ['buf?', [undefined, 5, new Uint8Array(0)]],
    ['str', [null, 5, 'a\0b', Buffer.from('x')]],
  ];
  for (const [type, values] of wrong) {
    test(`${type} refuses what does not fit`, () => {
      for (const value of values) expect(() => checkArgument('f', type, value)).toThrow(ArgumentError);
    });
  }

  test('take what fits', () => {
    for (const value of [0, -1, 2 ** 31 - 1, -(2 ** 31)]) checkArgument('f', 'i32', value);
    checkArgument('f', 'u32', 0xffffffff);
    checkArgument('f', 'u64', (1n << 64n) - 1n);
    checkArgument('f', 'ptr?', null);
    checkArgument('f', 'buf?', null);
    checkArgument('f', 'buf', new BigUint64Array(1));
  });
});

test('results have one form whatever the value', () => {
  expect(normalizeResult('u64', 5)).toBe(5n);
  expect(normalizeResult('u64', 5n)).toBe(5n);
  expect(normalizeResult('ptr', null)).toBe(0n);
  expect(normalizeResult('str', null)).toBe(null);
  expect(normalizeResult('void', 5)).toBe(undefined);
});
