/**
 * One end of a pair of processes on the embedded device, for integration tests:
 *
 *   peer.ts listen DEVICE            prints {"port": N}, then serves one client
 *   peer.ts connect DEVICE HOST PORT runs every plan against it, prints one line of JSON each
 *
 * All set-up goes through src/verbs and its side channel; the loops are those of c/datapath.
 */

import { loadDatapath } from '../../ffi/datapath.ts';
import { ENUMS } from '../../ffi/structs.generated.ts';
import {
  type Context,
  connect,
  connectQueuePair,
  listen,
  openDevice,
  type QpType,
  ResourceStack,
  type Session,
} from '../../src/verbs/index.ts';
import { makeEnd, type PingpongPlan, runClient, startLoop } from './soft.ts';

/** What is run between the two processes, in this order at both ends. */
const PLANS: readonly (PingpongPlan & { readonly type: QpType })[] = [
  { type: 'RC', op: 'RK_DP_SEND', size: 64, iterations: 100n },
  { type: 'RC', op: 'RK_DP_SEND', size: 300_000, iterations: 20n },
  { type: 'RC', op: 'RK_DP_WRITE', size: 10_000, iterations: 100n },
  { type: 'RC', op: 'RK_DP_WRITE_IMM', size: 64, iterations: 100n },
  { type: 'RC', op: 'RK_DP_READ', size: 10_000, iterations: 100n },
  { type: 'RC', op: 'RK_DP_FETCH_ADD', size: 8, iterations: 100n },
  { type: 'RC', op: 'RK_DP_CMP_SWAP', size: 8, iterations: 100n },
  { type: 'UC', op: 'RK_DP_SEND', size: 64, iterations: 100n },
  { type: 'UC', op: 'RK_DP_WRITE', size: 64, iterations: 100n },
  { type: 'UD', op: 'RK_DP_SEND', size: 64, iterations: 100n },
];

async function serve(context: Context, session: Session): Promise<void> {
  for (const plan of PLANS) {
    const stack = new ResourceStack();
    try {
      const end = makeEnd(stack, context, plan.type, plan.size);
      const target = end.memory.address + loadDatapath().rk_dp_rx_offset(plan.size);
      loadDatapath().rk_dp_pattern_fill(target, plan.size, 42n, 0n, ENUMS.rk_dp_role.RK_DP_SERVER);
      const connection = await connectQueuePair(end.qp, session, { memory: end.region });
      if (connection.ah !== undefined) stack.use(connection.ah);
      const twoSided = /SEND|WRITE/.test(plan.op);
      const loop = twoSided ? startLoop('RK_DP_SERVER', end, connection, plan) : undefined;
      await session.barrier('ready');
      await session.barrier('done');
      loop?.stop();
      loop?.finish();
    } finally {
      stack.close();
    }
  }
}

async function ask(context: Context, session: Session): Promise<void> {
  for (const plan of PLANS) {
    const stack = new ResourceStack();
    try {
      const end = makeEnd(stack, context, plan.type, plan.size);
      const connection = await connectQueuePair(end.qp, session, { memory: end.region });
      if (connection.ah !== undefined) stack.use(connection.ah);
      await session.barrier('ready');
      const { state, completed, lost, mismatches, verified, message } = await runClient(
        end,
        connection,
        plan,
      );
      await session.barrier('done');
      const { type, op, size } = plan;
      const done = state === ENUMS.rk_dp_state.RK_DP_DONE;
      const numbers = { completed, lost, mismatches, verified };
      const asText = Object.entries(numbers).map(([name, value]) => [name, Number(value)]);
      console.log(JSON.stringify({ type, op, size, done, message, ...Object.fromEntries(asText) }));
    } finally {
      stack.close();
    }
  }
}

const [mode = '', device = '', host = '', port = ''] = process.argv.slice(2);
const context = openDevice({ provider: 'soft', device });
try {
  if (mode === 'listen') {
    const server = await listen();
    console.log(JSON.stringify({ port: server.port }));
    const session = await server.accept({ timeoutMs: 20_000 });
    server.close();
    await serve(context, session);
    session.close();
  } else {
    const session = await connect({ host, port: Number(port) });
    await ask(context, session);
    session.close();
  }
} finally {
  context.close();
}
