/**
 * What goes wrong between two queue pairs ends in the completion status that the
 * InfiniBand specification names for it, and the doctor has an explanation.
 */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { ENUMS } from '../../ffi/structs.generated.ts';
import {
  type Access,
  type Connection,
  type ConnectOptions,
  type Context,
  completionStatusName,
  connectInProcess,
  explainCompletion,
  type QpType,
  type RemoteMemory,
  ResourceStack,
} from '../../src/verbs/index.ts';
import { type End, makeEnd, openLoopback, type PingpongPlan, runClient } from './soft.ts';

let context: Context;
beforeAll(() => {
  context = openLoopback();
});
afterAll(() => context.close());

interface Situation {
  readonly op: PingpongPlan['op'];
  readonly size?: number;
  readonly type?: QpType;
  /** Rights of the peer's memory region. */
  readonly access?: readonly Access[];
  /** Both ends; timers short, so that retries end soon. */
  readonly options?: ConnectOptions;
  /** What to do to the peer once connected. */
  readonly peer?: (server: End) => void;
  /** What the client believes the peer's memory to be. */
  readonly memory?: (memory: RemoteMemory) => RemoteMemory;
}

const SHORT = { timeoutCode: 8, retryCount: 2, rnrRetryCount: 1 };

/** Lets a client run against a peer in the situation; gives the status it ended with, by name. */
async function statusOf(situation: Situation): Promise<string> {
  using stack = new ResourceStack();
  const { op, size = 64, type = 'RC', access } = situation;
  const client = makeEnd(stack, context, type, size);
  const server = makeEnd(stack, context, type, size, access);
  const options: ConnectOptions = { rts: SHORT, ...situation.options };
  const { a } = connectInProcess(
    client.qp,
    server.qp,
    { ...options, memory: client.region },
    { ...options, memory: server.region },
  );
  const { memory } = a.remote;
  if (memory === undefined) throw new Error('the peer announced no memory');
  const believed: Connection = {
    ...a,
    remote: { ...a.remote, memory: situation.memory?.(memory) ?? memory },
  };
  situation.peer?.(server);
  const result = await runClient(client, believed, { op, size, iterations: 1n });
  expect(result.state).toBe(ENUMS.rk_dp_state.RK_DP_FAILED);
  expect(client.qp.query().state).toBe('ERR');
  client.qp.toReset();
  expect(client.qp.query().state).toBe('RESET');
  return completionStatusName(result.wcStatus);
}

const READ_ONLY: readonly Access[] = ['local-write', 'remote-read'];
const WRITE_ONLY: readonly Access[] = ['local-write', 'remote-write'];

describe('a peer that cannot answer', () => {
  const cases: [string, string, Situation][] = [
    ['has no receive posted', 'IBV_WC_RNR_RETRY_EXC_ERR', { op: 'RK_DP_SEND' }],
    ['has no receive for the immediate', 'IBV_WC_RNR_RETRY_EXC_ERR', { op: 'RK_DP_WRITE_IMM' }],
    ['closed its queue pair', 'IBV_WC_RETRY_EXC_ERR', { op: 'RK_DP_READ', peer: ({ qp }) => qp.close() }],
    ['is in the error state', 'IBV_WC_RETRY_EXC_ERR', { op: 'RK_DP_READ', peer: ({ qp }) => qp.toError() }],
    ['was reset', 'IBV_WC_RETRY_EXC_ERR', { op: 'RK_DP_FETCH_ADD', size: 8, peer: ({ qp }) => qp.toReset() }],
  ];
  for (const [name, status, situation] of cases) {
    test(`${name}: ${status}`, async () => {
      expect(await statusOf(situation)).toBe(status);
      expect(explainCompletion(status).kind).toBe('peer');
    });
  }
});

describe('memory that the peer does not open', () => {
  const cases: [string, string, Situation][] = [
    [
      'wrong key',
      'IBV_WC_REM_ACCESS_ERR',
      { op: 'RK_DP_READ', memory: (m) => ({ ...m, rkey: (m.rkey ^ 0x100) >>> 0 }) },
    ],
    [
      'write beyond its end',
      'IBV_WC_REM_ACCESS_ERR',
      { op: 'RK_DP_WRITE', memory: (m) => ({ ...m, address: m.address + BigInt(m.length) }) },
    ],
    [
      'read before its begin',
      'IBV_WC_REM_ACCESS_ERR',
      { op: 'RK_DP_READ', memory: (m) => ({ ...m, address: m.address - 4096n }) },
    ],
    ['write without the right', 'IBV_WC_REM_ACCESS_ERR', { op: 'RK_DP_WRITE', access: READ_ONLY }],
    ['read without the right', 'IBV_WC_REM_ACCESS_ERR', { op: 'RK_DP_READ', access: WRITE_ONLY }],
    [
      'fetch-add without the right',
      'IBV_WC_REM_ACCESS_ERR',
      { op: 'RK_DP_FETCH_ADD', size: 8, access: READ_ONLY },
    ],
    [
      'compare-swap without the right',
      'IBV_WC_REM_ACCESS_ERR',
      { op: 'RK_DP_CMP_SWAP', size: 8, access: WRITE_ONLY },
    ],
    [
      'an operation that the queue pair does not allow',
      'IBV_WC_REM_INV_REQ_ERR',
      { op: 'RK_DP_READ', options: { init: { access: ['local-write', 'remote-write'] } } },
    ],
    [
      'an atomic at an odd address',
      'IBV_WC_REM_INV_REQ_ERR',
      { op: 'RK_DP_FETCH_ADD', size: 8, memory: (m) => ({ ...m, address: m.address + 1n }) },
    ],
  ];
  for (const [name, status, situation] of cases) {
    test(`${name}: ${status}`, async () => {
      expect(await statusOf(situation)).toBe(status);
    });
  }
});
