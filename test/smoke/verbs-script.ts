/** What verbs.test.ts runs on each runtime: two queue pairs, connected over TCP, and loops between them. One line of JSON. */

import { connectQueuePair, loopbackPair, ResourceStack } from '../../src/verbs/index.ts';
import { makeEnd, openLoopback, runPingpong } from '../verbs/soft.ts';

const stack = new ResourceStack();
try {
  const context = stack.use(openLoopback());
  const near = makeEnd(stack, context, 'RC', 64);
  const far = makeEnd(stack, context, 'RC', 64);
  const [nearSession, farSession] = await loopbackPair();
  stack.use(nearSession);
  stack.use(farSession);
  const [here, there] = await Promise.all([
    connectQueuePair(near.qp, nearSession, { memory: near.region }),
    connectQueuePair(far.qp, farSession, { memory: far.region }),
  ]);
  const plan = { op: 'RK_DP_SEND', size: 64, iterations: 20n } as const;
  const { message, completed, mismatches, verified } = await runPingpong([near, here], [far, there], plan);
  const event = await context.asyncEvent({ timeoutMs: 1 });
  const view = near.memory.bytes.fill(1);
  stack.close();
  console.log(
    JSON.stringify({
      message,
      completed: Number(completed),
      mismatches: Number(mismatches),
      verified: verified > 0n,
      event: event ?? null,
      lateByte: view[0] ?? 0,
    }),
  );
} finally {
  stack.close();
}
