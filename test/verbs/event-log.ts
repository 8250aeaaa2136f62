/** Prints the events of a device, a line each, until SIGTERM: `event-log.ts DEVICE`. */

import { openDevice } from '../../src/verbs/index.ts';

const stop = new AbortController();
process.on('SIGTERM', () => stop.abort());
const context = openDevice({ provider: 'soft', device: process.argv[2] ?? '' });
console.log(`watching ${context.queryPort().state}`);
while (!stop.signal.aborted) {
  const event = await context.asyncEvent({ timeoutMs: 60_000, signal: stop.signal });
  if (event !== undefined)
    console.log(`${event.type} port ${event.port ?? '-'}, now ${context.queryPort().state}`);
}
context.close();
