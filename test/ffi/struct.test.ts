import { describe, expect, test } from 'bun:test';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { offsetOf, Struct, sizeOf, verifyLayouts } from '../../ffi/struct.ts';
import { LAYOUTS } from '../../ffi/structs.generated.ts';

describe('Struct', () => {
  test('writes and reads every width at its offset', () => {
    const attr = new Struct('ibv_qp_attr')
      .set('qp_state', 3)
      .set('dest_qp_num', 0xabcdef)
      .set('ah_attr.dlid', 0x1234)
      .set('ah_attr.grh.hop_limit', 64)
      .set('ah_attr.grh.dgid.global.interface_id', 0x0102030405060708n);
    const view = new DataView(attr.bytes.buffer);
    expect(view.getUint32(offsetOf('ibv_qp_attr', 'dest_qp_num'), true)).toBe(0xabcdef);
    expect(attr.num('qp_state')).toBe(3);
    expect(attr.num('ah_attr.dlid')).toBe(0x1234);
    // The interface id is big-endian on the wire and in the struct.
    expect([...attr.part('ah_attr.grh.dgid.raw').subarray(8)]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(attr.big('ah_attr.grh.dgid.global.interface_id')).toBe(0x0102030405060708n);
  });

  test('refuses values that do not fit instead of wrapping', () => {
    const attr = new Struct('ibv_qp_attr');
    expect(() => attr.set('ah_attr.sl', 256)).toThrow(RangeError);
    expect(() => attr.set('ah_attr.sl', -1)).toThrow(RangeError);
    expect(() => attr.set('qkey', 2 ** 32)).toThrow(RangeError);
    expect(() => attr.set('qkey', 1.5)).toThrow(RangeError);
    expect(() => attr.set('qkey', Number.NaN)).toThrow(RangeError);
    expect(attr.bytes.every((byte) => byte === 0)).toBe(true);
  });

  test('refuses values of the wrong kind, which would abort the process in a native struct', () => {
    const attr = new Struct('ibv_qp_attr');
    // @ts-expect-error text is no number
    expect(() => attr.set('qkey', '1')).toThrow(RangeError);
    // @ts-expect-error null is no number
    expect(() => attr.set('qkey', null)).toThrow(RangeError);
    // @ts-expect-error there is no such field
    expect(() => attr.set('no_such_field', 1)).toThrow('has no field');
    // The type lets nested structs through because part() takes them; set() does not.
    expect(() => attr.set('cap', 1)).toThrow(TypeError);
  });

  test('signed fields take negative numbers', () => {
    const pingpong = new Struct('rk_dp_pingpong').set('core', -1);
    expect(pingpong.num('core')).toBe(-1);
    expect(() => pingpong.set('core', 0x80000000)).toThrow(RangeError);
  });

  test('64-bit fields beyond 2^53 come as bigint only', () => {
    const attr = new Struct('ibv_device_attr').set('max_mr_size', (1n << 64n) - 1n);
    expect(attr.big('max_mr_size')).toBe((1n << 64n) - 1n);
    expect(() => attr.num('max_mr_size')).toThrow(RangeError);
  });

  test('text ends at the first NUL', () => {
    const attr = new Struct('ibv_device_attr');
    attr.part('fw_ver').set(new TextEncoder().encode('1.2.3'));
    expect(attr.text('fw_ver')).toBe('1.2.3');
  });

  test('a struct over foreign bytes must have their size', () => {
    expect(() => new Struct('ibv_qp_attr', new Uint8Array(10))).toThrow(RangeError);
  });
});

describe('layouts', () => {
  test('agree with koffi on this machine', () => {
    expect(() => verifyLayouts()).not.toThrow();
  });

  test('agree with what the compiler says about the headers, asked another way', () => {
    const checks = [
      ['ibv_qp_attr', 'ah_attr.grh.sgid_index'],
      ['ibv_qp_attr', 'rate_limit'],
      ['ibv_qp_init_attr', 'cap.max_inline_data'],
      ['ibv_port_attr', 'active_speed'],
      ['ibv_device_attr', 'phys_port_cnt'],
      ['ibv_gid_entry', 'ndev_ifindex'],
      ['ibv_mr', 'rkey'],
      ['ibv_qp', 'qp_num'],
      ['ibv_context', 'async_fd'],
      ['ibv_comp_channel', 'fd'],
      ['ibv_async_event', 'event_type'],
      ['rk_dp_stats', 'hist.counts'],
    ] as const;
    const folder = mkdtempSync(join(tmpdir(), 'rdmakit-layout-'));
    try {
      const asserts = checks.map(([name, field]) => {
        const offset = offsetOf(name as 'ibv_qp_attr', field as 'qkey');
        return `_Static_assert(offsetof(struct ${name}, ${field}) == ${offset} && sizeof(struct ${name}) == ${sizeOf(name)}, "${name}");`;
      });
      const includes = [
        '<stddef.h>',
        '<infiniband/verbs.h>',
        `"${join(import.meta.dir, '../../c/datapath/datapath.h')}"`,
      ];
      const source = `${includes.map((name) => `#include ${name}`).join('\n')}\n${asserts.join('\n')}\n`;
      writeFileSync(join(folder, 'layout.c'), source);
      expect(() =>
        execFileSync('gcc', ['-fsyntax-only', join(folder, 'layout.c')], { stdio: 'pipe' }),
      ).not.toThrow();
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('the checked-in file is what the generator makes of the headers', () => {
    const generator = join(import.meta.dir, '../../ffi/gen/gen-structs.ts');
    expect(() => execFileSync(process.execPath, [generator, '--check'], { stdio: 'pipe' })).not.toThrow();
  });

  test('hold no private part of a lock', () => {
    expect(Object.keys(LAYOUTS).filter((name) => name.includes('pthread'))).toEqual([]);
  });
});
