/** What tests on the embedded device share: the loopback device, and loops of c/datapath between two queue pairs. */

import { loadDatapath } from '../../ffi/datapath.ts';
import { Struct } from '../../ffi/struct.ts';
import { ENUMS, MACROS } from '../../ffi/structs.generated.ts';
import {
  type Access,
  allocateMemory,
  type CompletionQueue,
  type Connection,
  type Context,
  type HostMemory,
  listDevices,
  type MemoryRegion,
  openDevice,
  type QpType,
  type QueuePair,
  type ResourceStack,
} from '../../src/verbs/index.ts';

/** Opens the embedded device of the loopback interface. */
export function openLoopback(): Context {
  for (const { name } of listDevices({ provider: 'soft' })) {
    const context = openDevice({ device: name });
    if (context.gids().some(({ address }) => address === '127.0.0.1')) return context;
    context.close();
  }
  throw new Error('there is no embedded device with 127.0.0.1: is the loopback interface up?');
}

/** One end of a ping-pong: a queue pair with its queue and registered memory. */
export interface End {
  readonly qp: QueuePair;
  readonly cq: CompletionQueue;
  readonly memory: HostMemory;
  readonly region: MemoryRegion;
}

const RX_SLOTS = 8;
const ALL_RIGHTS: readonly Access[] = ['local-write', 'remote-write', 'remote-read', 'remote-atomic'];

/** Makes an end with room for messages of `size` bytes; the stack closes it. */
export function makeEnd(
  stack: ResourceStack,
  context: Context,
  type: QpType,
  size: number,
  access: readonly Access[] = ALL_RIGHTS,
): End {
  const datapath = loadDatapath();
  const pd = stack.use(context.allocPd());
  const cq = stack.use(context.createCq({ depth: 256 }));
  const qp = stack.use(pd.createQp({ type, sendCq: cq, maxSendWr: 64, maxRecvWr: 64, maxInlineBytes: 64 }));
  const memory = stack.use(allocateMemory(Number(datapath.rk_dp_buffer_length(size, RX_SLOTS))));
  const region = stack.use(pd.registerMemory(memory, access));
  return { qp, cq, memory, region };
}

/** What a finished loop published. */
export interface LoopResult {
  readonly state: number;
  readonly completed: bigint;
  readonly lost: bigint;
  readonly verified: bigint;
  readonly mismatches: bigint;
  readonly samples: bigint;
  readonly minNs: bigint;
  readonly message: string;
  readonly wcStatus: number;
}

type Operation = keyof typeof ENUMS.rk_dp_op;

export interface PingpongPlan {
  readonly op: Operation;
  readonly size: number;
  readonly iterations: bigint;
}

const PROTOCOL_TIMEOUT_NS = 2_000_000_000n;

/** Starts one loop; returns how to wait for and end it. */
export function startLoop(
  role: keyof typeof ENUMS.rk_dp_role,
  end: End,
  connection: Connection,
  plan: PingpongPlan,
) {
  const datapath = loadDatapath();
  const statsAddress = datapath.rk_dp_stats_new();
  const stats = Struct.at('rk_dp_stats', statsAddress);
  const { remote } = connection;
  const config = new Struct('rk_dp_pingpong')
    .set('abi', MACROS.RK_DP_ABI)
    .set('role', ENUMS.rk_dp_role[role])
    .set('transport', ENUMS.ibv_qp_type[`IBV_QPT_${end.qp.type}`])
    .set('op', ENUMS.rk_dp_op[plan.op])
    .set('qp', end.qp.handle)
    .set('send_cq', end.cq.handle)
    .set('recv_cq', end.cq.handle)
    .set('ah', connection.ah?.handle ?? 0n)
    .set('buffer', end.memory.address)
    .set('buffer_length', BigInt(end.memory.length))
    .set('remote_addr', (remote.memory?.address ?? 0n) + datapath.rk_dp_rx_offset(plan.size))
    .set('lkey', end.region.lkey)
    .set('rkey', remote.memory?.rkey ?? 0)
    .set('remote_qpn', remote.qpn)
    .set('remote_qkey', remote.qkey ?? 0)
    .set('size', plan.size)
    .set('rx_slots', RX_SLOTS)
    .set('sq_depth', end.qp.maxSendWr)
    .set('max_inline', end.qp.maxInlineBytes)
    .set('flags', ENUMS.rk_dp_flag.RK_DP_VERIFY)
    .set('core', -1)
    .set('seed', 42n)
    .set('iterations', plan.iterations)
    .set('warmup', 10n)
    .set('timeout_ns', PROTOCOL_TIMEOUT_NS);
  const loop = new BigUint64Array(new ArrayBuffer(8));
  const started = datapath.rk_dp_pingpong_start(config.bytes, statsAddress, loop);
  const handle = loop[0] ?? 0n;
  return {
    started,
    running: () => started === 0 && datapath.rk_dp_loop_poll(handle) === 0,
    stop: () => datapath.rk_dp_loop_stop(handle),
    /** Joins the loop and frees its statistics. */
    finish(): LoopResult {
      if (started === 0) datapath.rk_dp_loop_join(handle);
      const result: LoopResult = {
        state: stats.num('state'),
        completed: stats.big('completed'),
        lost: stats.big('lost'),
        verified: stats.big('verified'),
        mismatches: stats.big('mismatches'),
        samples: stats.big('hist.total'),
        minNs: stats.big('hist.min_ns'),
        message: stats.text('message'),
        wcStatus: stats.num('wc_status'),
      };
      datapath.rk_dp_stats_free(statsAddress);
      return result;
    },
  };
}

/** Runs only the asking loop: one-sided operations, or a peer that does not answer. */
export async function runClient(end: End, connection: Connection, plan: PingpongPlan): Promise<LoopResult> {
  const asking = startLoop('RK_DP_CLIENT', end, connection, plan);
  while (asking.running()) await new Promise((resolve) => setTimeout(resolve, 1));
  return asking.finish();
}

/** Operations that need nobody at the other end. */
const ONE_SIDED: readonly Operation[] = ['RK_DP_READ', 'RK_DP_FETCH_ADD', 'RK_DP_CMP_SWAP'];

/** Runs a ping-pong between two connected ends of this process; gives the client's result. */
export async function runPingpong(
  client: [End, Connection],
  server: [End, Connection],
  plan: PingpongPlan,
): Promise<LoopResult> {
  if (plan.op === 'RK_DP_READ') {
    const datapath = loadDatapath();
    const target = server[0].memory.address + datapath.rk_dp_rx_offset(plan.size);
    datapath.rk_dp_pattern_fill(target, plan.size, 42n, 0n, ENUMS.rk_dp_role.RK_DP_SERVER);
  }
  if (ONE_SIDED.includes(plan.op)) return runClient(...client, plan);
  const answering = startLoop('RK_DP_SERVER', ...server, plan);
  try {
    return await runClient(...client, plan);
  } finally {
    answering.stop();
    answering.finish();
  }
}
