import { describe, expect, test } from 'bun:test';
import { ENUMS } from '../../ffi/structs.generated.ts';
import { decodeEndpoint, encodeEndpoint } from '../../src/verbs/connect.ts';
import { VerbsError } from '../../src/verbs/doctor.ts';
import { parseGid } from '../../src/verbs/gid.ts';
import { initAttributes, pathMtu, rtrAttributes, rtsAttributes } from '../../src/verbs/transitions.ts';
import { DEFAULT_QKEY, type Endpoint, type PortAttributes } from '../../src/verbs/types.ts';
import { port } from './fixtures.ts';

const MASK = ENUMS.ibv_qp_attr_mask;

const remote: Endpoint = {
  qpType: 'RC',
  qpn: 0x123456,
  psn: 0xabcdef,
  gid: '::ffff:10.0.0.2',
  lid: 0,
  mtuBytes: 4096,
  maxDestReadAtomic: 16,
  memory: { address: 0x7fff_1234_5678_9000n, length: 4096, rkey: 0xdeadbeef },
};

describe('transitions carry what ibv_modify_qp(3) requires', () => {
  test('INIT', () => {
    const base = MASK.IBV_QP_STATE | MASK.IBV_QP_PKEY_INDEX | MASK.IBV_QP_PORT;
    expect(initAttributes('RC').mask).toBe(base | MASK.IBV_QP_ACCESS_FLAGS);
    expect(initAttributes('UC').mask).toBe(base | MASK.IBV_QP_ACCESS_FLAGS);
    const ud = initAttributes('UD');
    expect(ud.mask).toBe(base | MASK.IBV_QP_QKEY);
    expect(ud.attributes.num('qkey')).toBe(DEFAULT_QKEY);
    const { IBV_ACCESS_LOCAL_WRITE, IBV_ACCESS_REMOTE_READ } = ENUMS.ibv_access_flags;
    const read = initAttributes('RC', { access: ['local-write', 'remote-read'] });
    expect(read.attributes.num('qp_access_flags')).toBe(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ);
  });

  test('RTR', () => {
    const { attributes, mask } = rtrAttributes('RC', remote, port, 128, { gidIndex: 3 });
    const uc =
      MASK.IBV_QP_STATE | MASK.IBV_QP_AV | MASK.IBV_QP_PATH_MTU | MASK.IBV_QP_DEST_QPN | MASK.IBV_QP_RQ_PSN;
    expect(mask).toBe(uc | MASK.IBV_QP_MAX_DEST_RD_ATOMIC | MASK.IBV_QP_MIN_RNR_TIMER);
    expect(rtrAttributes('UC', remote, port, 0).mask).toBe(uc);
    expect(rtrAttributes('UD', remote, port, 0).mask).toBe(MASK.IBV_QP_STATE);
    expect(attributes.num('dest_qp_num')).toBe(0x123456);
    expect(attributes.num('rq_psn')).toBe(0xabcdef);
    expect(attributes.num('path_mtu')).toBe(ENUMS.ibv_mtu.IBV_MTU_1024);
    expect(attributes.num('ah_attr.is_global')).toBe(1);
    expect(attributes.num('ah_attr.grh.sgid_index')).toBe(3);
    expect([...attributes.part('ah_attr.grh.dgid.raw')]).toEqual([...parseGid('10.0.0.2')]);
    expect(attributes.num('max_dest_rd_atomic')).toBe(16);
    expect(rtrAttributes('RC', remote, port, 4).attributes.num('max_dest_rd_atomic')).toBe(4);
  });

  test('RTS', () => {
    const { attributes, mask } = rtsAttributes('RC', 128, { psn: 5 });
    const base = MASK.IBV_QP_STATE | MASK.IBV_QP_SQ_PSN;
    const rc =
      MASK.IBV_QP_TIMEOUT | MASK.IBV_QP_RETRY_CNT | MASK.IBV_QP_RNR_RETRY | MASK.IBV_QP_MAX_QP_RD_ATOMIC;
    expect(mask).toBe(base | rc);
    expect(rtsAttributes('UC', 0, { psn: 5 }).mask).toBe(base);
    expect(rtsAttributes('UD', 0, { psn: 5 }).mask).toBe(base);
    expect(attributes.num('sq_psn')).toBe(5);
    expect(attributes.num('rnr_retry')).toBe(7);
  });

  test('InfiniBand within a subnet goes by LID, without a global header', () => {
    const infiniband: PortAttributes = { ...port, linkLayer: 'InfiniBand', lid: 4 };
    const { attributes } = rtrAttributes('RC', { ...remote, lid: 9 }, infiniband, 16);
    expect(attributes.num('ah_attr.is_global')).toBe(0);
    expect(attributes.num('ah_attr.dlid')).toBe(9);
  });
});

describe('values out of range are refused before they reach the library', () => {
  const wrong: [string, () => unknown][] = [
    ['port 0', () => initAttributes('RC', { port: 0 })],
    ['port 256', () => initAttributes('RC', { port: 256 })],
    ['text as port', () => initAttributes('RC', { port: '1' as unknown as number })],
    ['an unknown right', () => initAttributes('RC', { access: ['everything' as 'local-write'] })],
    ['a Q_Key of 33 bits', () => initAttributes('UD', { qkey: 2 ** 32 })],
    ['a QPN of 25 bits', () => rtrAttributes('RC', { ...remote, qpn: 1 << 24 }, port, 16)],
    ['a PSN of 25 bits', () => rtsAttributes('RC', 16, { psn: 1 << 24 })],
    ['an MTU the port lacks', () => rtrAttributes('RC', remote, port, 16, { mtuBytes: 4096 })],
    ['an MTU that does not exist', () => pathMtu(4096, 4096, 1500 as 1024)],
    ['a GID index of 9 bits', () => rtrAttributes('RC', remote, port, 16, { gidIndex: 256 })],
    ['a GID that is none', () => rtrAttributes('RC', { ...remote, gid: 'x' }, port, 16)],
    ['more reads than the device takes', () => rtsAttributes('RC', 16, { psn: 0, maxReadAtomic: 17 })],
    ['a retry count of 8', () => rtsAttributes('RC', 16, { psn: 0, retryCount: 8 })],
    ['an RNR timer of 32', () => rtrAttributes('RC', remote, port, 16, { minRnrTimerCode: 32 })],
  ];
  for (const [name, action] of wrong) {
    test(name, () => expect(action).toThrow(VerbsError));
  }
});

describe('endpoints on the wire', () => {
  test('survive the trip', () => {
    expect(decodeEndpoint(JSON.parse(JSON.stringify(encodeEndpoint(remote))))).toEqual(remote);
    const { memory: _, ...plain } = remote;
    expect(decodeEndpoint(JSON.parse(JSON.stringify(encodeEndpoint(plain))))).toEqual(plain);
  });

  const wire = encodeEndpoint(remote);
  const hostile: [string, unknown][] = [
    ['nothing', undefined],
    ['null', null],
    ['a list', []],
    ['an unknown field', { ...wire, more: 1 }],
    ['a QPN of text', { ...wire, qpn: '5' }],
    ['a QPN of 25 bits', { ...wire, qpn: 1 << 24 }],
    ['a negative PSN', { ...wire, psn: -1 }],
    ['a fractional PSN', { ...wire, psn: 0.5 }],
    ['an MTU of 1500', { ...wire, mtuBytes: 1500 }],
    ['a GID of nonsense', { ...wire, gid: '../../etc' }],
    ['a long GID', { ...wire, gid: '1'.repeat(100_000) }],
    ['an unknown type', { ...wire, qpType: 'XRC' }],
    ['an address as number', { ...wire, memory: { address: 5, length: 1, rkey: 1 } }],
    ['an address of 65 bits', { ...wire, memory: { address: `0x1${'0'.repeat(16)}`, length: 1, rkey: 1 } }],
    ['an rkey of 33 bits', { ...wire, memory: { address: '0x5', length: 1, rkey: 2 ** 32 } }],
    ['a length beyond 2^53', { ...wire, memory: { address: '0x5', length: 2 ** 60, rkey: 1 } }],
  ];
  for (const [name, value] of hostile) {
    test(`refuse ${name}`, () => expect(typeof decodeEndpoint(value)).toBe('string'));
  }
});
