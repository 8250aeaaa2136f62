/** The typed objects on the embedded device: everything here goes through the real library. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { ENUMS } from '../../ffi/structs.generated.ts';
import {
  allocateMemory,
  type Context,
  connectInProcess,
  connectQueuePair,
  counterChanges,
  listDevices,
  loopbackPair,
  openDevice,
  type QpType,
  ResourceStack,
  VerbsError,
} from '../../src/verbs/index.ts';
import { makeEnd, openLoopback, type PingpongPlan, runPingpong } from './soft.ts';

let context: Context;
beforeAll(() => {
  context = openLoopback();
});
afterAll(() => context.close());

function errorOf(action: () => unknown): VerbsError {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(VerbsError);
    return error as VerbsError;
  }
  throw new Error('it did not fail');
}

describe('the embedded device', () => {
  test('is listed and tells its attributes', () => {
    expect(listDevices().map(({ name }) => name)).toContain(context.name);
    const device = context.queryDevice();
    expect(device.portCount).toBe(1);
    expect(device.maxQp).toBeGreaterThan(1000);
    expect(device.nodeGuid).toBe(context.summary.guid);
    const port = context.queryPort(1);
    expect(port).toMatchObject({ state: 'ACTIVE', linkLayer: 'Ethernet', activeMtuBytes: 4096 });
    expect(context.chooseGid().entry.address).toBe('127.0.0.1');
  });

  test('without a name, one with an active port is opened', () => {
    using chosen = openDevice();
    expect(chosen.queryPort().state).toBe('ACTIVE');
  });

  test('a name that does not exist is refused with the names that do', () => {
    const error = errorOf(() => openDevice({ device: 'no_such_device' }));
    expect(error.exitCode).toBe(2);
    expect(error.likelyCause).toContain(context.name);
  });

  test('has nothing to say while nothing happens', async () => {
    expect(await context.asyncEvent({ timeoutMs: 1 })).toBeUndefined();
  });
});

describe('waiting for an event of the device', () => {
  test('ends when the device is closed meanwhile', async () => {
    const other = openDevice({ device: context.name });
    const waiting = other.asyncEvent({ timeoutMs: 60_000 });
    other.close();
    expect(await waiting).toBeUndefined();
  });

  test('ends when the signal is raised', async () => {
    const controller = new AbortController();
    const waiting = context.asyncEvent({ timeoutMs: 60_000, signal: controller.signal });
    controller.abort();
    expect(await waiting).toBeUndefined();
  });
});

describe('what the device refuses comes with a diagnosis', () => {
  test('queue sizes beyond its limits', () => {
    using pd = context.allocPd();
    using cq = context.createCq({ depth: 4 });
    const error = errorOf(() => pd.createQp({ type: 'RC', sendCq: cq, maxSendWr: 1 << 30 }));
    expect(error.code).toBe('EINVAL');
    expect(error.likelyCause).toContain('asked for: 1073741824 sends');
    expect(error.likelyCause).toContain('the device allows');
    expect(errorOf(() => context.createCq({ depth: 2 ** 31 - 1 })).code).toBe('EINVAL');
  });

  test('ports and GIDs that it does not have', () => {
    expect(errorOf(() => context.queryPort(9)).likelyCause).toContain('no such port');
    expect(errorOf(() => context.chooseGid(1, { index: 200 })).code).toBe('no-such-gid');
    using pd = context.allocPd();
    expect(errorOf(() => pd.createAh({ gid: '127.0.0.1', gidIndex: 200 })).likelyCause).toContain(
      'GID index',
    );
  });

  test('values that must not reach it', () => {
    expect(errorOf(() => context.createCq({ depth: 0 })).code).toBe('bad-value');
    expect(errorOf(() => context.createCq({ depth: '5' as unknown as number })).code).toBe('bad-value');
    expect(errorOf(() => context.queryPort(256)).code).toBe('bad-value');
  });

  test('remote rights without local-write', () => {
    using pd = context.allocPd();
    using memory = allocateMemory(64);
    expect(errorOf(() => pd.registerMemory(memory, ['remote-write'])).likelyCause).toContain('outside');
    expect(errorOf(() => pd.registerMemory(memory, [], { offset: 60, length: 5 })).code).toBe('bad-value');
  });
});

describe('ownership on the device', () => {
  test('nothing is closed while something made from it lives', () => {
    const stack = new ResourceStack();
    const { qp, cq, memory } = makeEnd(stack, context, 'RC', 64);
    expect(errorOf(() => cq.close()).likelyCause).toContain(qp.label);
    expect(errorOf(() => memory.close()).likelyCause).toContain('memory region');
    expect(errorOf(() => context.close()).code).toBe('in-use');
    stack.close();
    expect([qp.closed, cq.closed, memory.closed]).toEqual([true, true, true]);
  });

  test('a shared receive queue and a channel hold until their users are gone', () => {
    using pd = context.allocPd();
    using channel = context.createCompletionChannel();
    using cq = context.createCq({ depth: 16, channel });
    using srq = pd.createSrq({ maxWr: 32 });
    const qp = pd.createQp({ type: 'RC', sendCq: cq, srq });
    expect(channel.fd).toBeGreaterThan(2);
    expect(errorOf(() => srq.close()).code).toBe('in-use');
    expect(errorOf(() => channel.close()).code).toBe('in-use');
    qp.close();
    srq.setLimit(4);
    expect(srq.query().limit).toBe(4);
  });

  test('a completion queue can grow', () => {
    using cq = context.createCq({ depth: 16 });
    cq.resize(1000);
    expect(cq.depth).toBeGreaterThanOrEqual(1000);
  });
});

describe('queue pair states', () => {
  test('follow the specification, and a wrong step is refused by name', () => {
    using stack = new ResourceStack();
    const { qp } = makeEnd(stack, context, 'RC', 64);
    expect(qp.state).toBe('RESET');
    const early = errorOf(() => qp.toRts({ psn: 0 }));
    expect(early.code).toBe('transition');
    expect(early.likelyCause).toContain('it is in state RESET, and must be in RTR');
    qp.toInit();
    expect(qp.query()).toMatchObject({ state: 'INIT', port: 1 });
    qp.toError();
    expect(qp.query().state).toBe('ERR');
    qp.toReset();
    expect(qp.state).toBe('RESET');
  });

  test('a port that the device lacks fails at INIT', () => {
    using stack = new ResourceStack();
    const { qp } = makeEnd(stack, context, 'UC', 64);
    const error = errorOf(() => qp.toInit({ port: 7 }));
    expect(error.code).toBe('EINVAL');
    expect(error.likelyCause).toContain('port number');
  });

  test('a GID index that is not in use is refused at RTR, with what was tried', () => {
    using stack = new ResourceStack();
    const { qp } = makeEnd(stack, context, 'RC', 64);
    qp.toInit();
    const remote = { qpType: 'RC', qpn: 5, psn: 0, gid: '127.0.0.1', lid: 0, mtuBytes: 1024 } as const;
    const error = errorOf(() => qp.toRtr(remote, { gidIndex: 200 }));
    expect(error.likelyCause).toContain('source GID index 200 is not in use');
    expect(error.likelyCause).toContain('port 1 is ACTIVE');
    expect(qp.state).toBe('INIT');
  });

  test('UD joins and leaves multicast groups', () => {
    using stack = new ResourceStack();
    const { qp } = makeEnd(stack, context, 'UD', 64);
    qp.toInit();
    qp.attachMulticast('ff0e::1234');
    qp.detachMulticast('ff0e::1234');
    expect(errorOf(() => qp.attachMulticast('127.0.0.1')).code).toBe('EINVAL');
  });
});

describe('connections', () => {
  const plans: [QpType, PingpongPlan['op'], number][] = [
    ['RC', 'RK_DP_SEND', 64],
    ['RC', 'RK_DP_SEND', 100_000],
    ['RC', 'RK_DP_WRITE', 4096],
    ['RC', 'RK_DP_WRITE_IMM', 4096],
    ['RC', 'RK_DP_READ', 4096],
    ['RC', 'RK_DP_FETCH_ADD', 8],
    ['RC', 'RK_DP_CMP_SWAP', 8],
    ['UC', 'RK_DP_SEND', 64],
    ['UC', 'RK_DP_WRITE', 4096],
    ['UC', 'RK_DP_WRITE_IMM', 4096],
    ['UD', 'RK_DP_SEND', 64],
  ];
  for (const [type, op, size] of plans) {
    test(`${type} ${op} of ${size} bytes carries the right data`, async () => {
      using stack = new ResourceStack();
      const client = makeEnd(stack, context, type, size);
      const server = makeEnd(stack, context, type, size);
      const { a, b } = connectInProcess(
        client.qp,
        server.qp,
        { memory: client.region },
        { memory: server.region },
      );
      for (const { ah } of [a, b]) if (ah !== undefined) stack.use(ah);
      expect([client.qp.state, server.qp.state]).toEqual(['RTS', 'RTS']);
      const before = context.counters();
      const result = await runPingpong([client, a], [server, b], { op, size, iterations: 50n });
      const errors = [...counterChanges(before, context.counters()).keys()].filter((name) =>
        /malformed|bad|no_qp|mismatch/.test(name),
      );
      expect(errors).toEqual([]);
      expect(result).toMatchObject({
        message: '',
        state: ENUMS.rk_dp_state.RK_DP_DONE,
        mismatches: 0n,
        lost: 0n,
      });
      expect(result.completed).toBe(50n);
      expect(result.samples).toBe(50n);
      expect(result.verified).toBeGreaterThan(0n);
      expect(result.minNs).toBeGreaterThan(0n);
    });
  }

  test('come up over the side channel, and their endpoints agree', async () => {
    using stack = new ResourceStack();
    const near = makeEnd(stack, context, 'RC', 64);
    const far = makeEnd(stack, context, 'RC', 64);
    const [nearSession, farSession] = await loopbackPair();
    stack.use(nearSession);
    stack.use(farSession);
    const [here, there] = await Promise.all([
      connectQueuePair(near.qp, nearSession, { memory: near.region, mtuBytes: 1024 }),
      connectQueuePair(far.qp, farSession, { memory: far.region }),
    ]);
    expect(here.remote).toEqual(there.local);
    expect(there.remote).toEqual(here.local);
    expect(near.qp.query()).toMatchObject({ mtuBytes: 1024, destQpn: far.qp.num, sqPsn: here.local.psn });
    expect(far.qp.query()).toMatchObject({ mtuBytes: 1024, rqPsn: here.local.psn });
    const result = await runPingpong([near, here], [far, there], {
      op: 'RK_DP_SEND',
      size: 64,
      iterations: 50n,
    });
    expect(result).toMatchObject({ message: '', completed: 50n, mismatches: 0n });
  });

  test('that cannot come up tell both ends', async () => {
    using stack = new ResourceStack();
    const near = makeEnd(stack, context, 'RC', 64);
    const far = makeEnd(stack, context, 'UC', 64);
    const [nearSession, farSession] = await loopbackPair();
    const results = await Promise.allSettled([
      connectQueuePair(near.qp, nearSession),
      connectQueuePair(far.qp, farSession),
    ]);
    for (const result of results) {
      expect(result.status).toBe('rejected');
      expect((result as PromiseRejectedResult).reason).toBeInstanceOf(VerbsError);
    }
    expect([nearSession.closed, farSession.closed]).toEqual([true, true]);
  });

  test('a wrong rkey ends in a remote access error and an error state', async () => {
    using stack = new ResourceStack();
    const client = makeEnd(stack, context, 'RC', 64);
    const server = makeEnd(stack, context, 'RC', 64);
    const { a, b } = connectInProcess(
      client.qp,
      server.qp,
      { memory: client.region },
      { memory: server.region },
    );
    const before = context.counters();
    const wrongKey = { ...a, remote: { ...a.remote, memory: { address: 4096n, length: 8, rkey: 1 } } };
    const result = await runPingpong([client, wrongKey], [server, b], {
      op: 'RK_DP_READ',
      size: 64,
      iterations: 1n,
    });
    expect(result.state).toBe(ENUMS.rk_dp_state.RK_DP_FAILED);
    expect(result.wcStatus).toBe(ENUMS.ibv_wc_status.IBV_WC_REM_ACCESS_ERR);
    expect(client.qp.query().state).toBe('ERR');
    expect(counterChanges(before, context.counters()).get('req_remote_access_errors')).toBe(1n);
  });
});
