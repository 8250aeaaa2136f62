/**
 * What the two ends say to each other over the TCP side channel, one JSON object a message. The client leads: it names a
 * row, both make their halves, the client runs, then asks for the server's half of the result.
 *
 *   server -> client  welcome
 *   client -> server  row
 *   server -> client  accepted     or `refused`; verbs: both then bring a queue pair up over the same channel
 *   server -> client  ready        its loop waits for messages
 *   client -> server  row-end      when its loop has ended
 *   server -> client  row-result   or, at any time while a row runs, `trouble`
 *   client -> server  bye
 *
 * Everything that arrives is checked here; limits keep a stranger from asking for more than a test needs.
 */

import * as v from 'valibot';
import { MESSAGE_MAX_BYTES, OPERATIONS, TRANSPORTS, WAITS } from './rows.ts';

/** Raised when the meaning of a message changes. */
export const PROTOCOL_VERSION = 1;

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const text = v.pipe(v.string(), v.maxLength(2000));

export const Welcome = v.object({
  type: v.literal('welcome'),
  version: v.literal(PROTOCOL_VERSION),
  host: text,
  device: text,
  provider: v.picklist(['system', 'soft']),
  mtu_bytes: count,
  max_message_bytes: count,
  atomics: v.boolean(),
});
export type Welcome = v.InferOutput<typeof Welcome>;

export const RowRequest = v.object({
  type: v.literal('row'),
  transport: v.picklist(TRANSPORTS),
  operation: v.picklist(OPERATIONS),
  wait: v.picklist(WAITS),
  size_bytes: v.pipe(count, v.maxValue(MESSAGE_MAX_BYTES)),
  verify: v.boolean(),
  /** Decimal, because it has 64 bits. */
  seed: v.pipe(
    v.string(),
    v.regex(/^\d{1,20}$/),
    v.check((digits) => BigInt(digits) < 1n << 64n, 'at most 64 bits'),
  ),
  warmup: count,
  interval_ns: v.pipe(v.number(), v.minValue(0), v.maxValue(3.6e12)),
  timeout_ns: v.pipe(v.number(), v.minValue(1e6), v.maxValue(3.6e12)),
  mtu_bytes: v.optional(v.picklist([256, 512, 1024, 2048, 4096])),
});
export type RowRequest = v.InferOutput<typeof RowRequest>;

export const Accepted = v.object({
  type: v.literal('accepted'),
  /** Sockets: where the server listens. */
  port: v.optional(v.pipe(count, v.minValue(1), v.maxValue(65535))),
});

export const Ready = v.object({ type: v.literal('ready') });

export const Refused = v.object({ type: v.literal('refused'), what: text, cause: v.optional(text) });

export const RowResult = v.object({
  type: v.literal('row-result'),
  completed: count,
  verified: count,
  mismatches: count,
  first_mismatch: v.optional(
    v.object({ sequence: count, offset_bytes: count, expected: count, found: count }),
  ),
  core: v.pipe(v.number(), v.safeInteger()),
  error: v.optional(text),
});
export type RowResult = v.InferOutput<typeof RowResult>;

export const Trouble = v.object({ type: v.literal('trouble'), what: text });

/** What a server may get. */
export const FromClient = v.variant('type', [
  RowRequest,
  v.object({ type: v.literal('row-end') }),
  v.object({ type: v.literal('bye') }),
]);

/** What a client may get once a row was asked for. */
export const FromServer = v.variant('type', [Accepted, Ready, Refused, RowResult, Trouble]);
export type FromServer = v.InferOutput<typeof FromServer>;
