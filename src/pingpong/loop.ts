/**
 * C loops as objects: start one on its thread, look at its counters while it runs, stop it, wait for its end, free it.
 * The loop writes its statistics into memory that is mapped here, so looking costs no call.
 */

import { loadDatapath } from '../../ffi/datapath.ts';
import { Struct } from '../../ffi/struct.ts';
import { ENUMS, MACROS } from '../../ffi/structs.generated.ts';
import { RdmakitError } from '../errors.ts';
import { errnoName } from '../verbs/index.ts';
import type { Histogram } from './histogram.ts';
import {
  type LoopSnapshot,
  readHistogram,
  readSamples,
  readSnapshot,
  type Sample,
  type StatsView,
} from './stats.ts';

export type Role = 'client' | 'server';

/** `rk_dp_pingpong`, `rk_dp_sockpp` or `rk_dp_stream`: the configuration decides which loop runs. */
type ConfigName = 'rk_dp_pingpong' | 'rk_dp_sockpp' | 'rk_dp_stream';

const TICK_MS = 20;
/** A loop that was asked to stop ends within microseconds (polling) or one slice of 50 ms (sleeping). */
const STOP_PATIENCE_MS = 5000;

export class Loop {
  readonly #handle: bigint;
  readonly #stats: bigint;
  /** Laid over the statistics; let go of before they are freed. */
  #view: StatsView | undefined;
  #joined = false;
  #closed = false;
  #samplesRead = 0;

  private constructor(handle: bigint, stats: bigint, view: StatsView) {
    this.#handle = handle;
    this.#stats = stats;
    this.#view = view;
  }

  /** Starts a loop. What the configuration points at must outlive it. */
  static start<N extends ConfigName>(config: Struct<N>): Loop {
    const datapath = loadDatapath();
    const start = {
      rk_dp_pingpong: datapath.rk_dp_pingpong_start,
      rk_dp_sockpp: datapath.rk_dp_sockpp_start,
      rk_dp_stream: datapath.rk_dp_stream_start,
    }[config.name];
    (config as Struct<'rk_dp_pingpong'>).set('abi', MACROS.RK_DP_ABI);
    return Loop.#launch((stats, out) => start(config.bytes, stats, out));
  }

  /** Starts rping's exchange with, or at, an address ('' to listen on all); `info` is an rk_dp_rping_info that outlives the loop. */
  static startRping(config: Struct<'rk_dp_rping'>, address: string, info: bigint): Loop {
    config.set('abi', MACROS.RK_DP_ABI);
    return Loop.#launch((stats, out) =>
      loadDatapath().rk_dp_rping_start(config.bytes, address, info, stats, out),
    );
  }

  static #launch(start: (stats: bigint, out: BigUint64Array) => number): Loop {
    const datapath = loadDatapath();
    const stats = datapath.rk_dp_stats_new();
    if (stats === 0n) throw outOfMemory('the statistics of a loop');
    const view = Struct.at('rk_dp_stats', stats);
    const out = new BigUint64Array(new ArrayBuffer(8));
    const result = start(stats, out);
    if (result === 0) return new Loop(out[0] ?? 0n, stats, view);
    const message = view.text('message') || errnoName(result);
    datapath.rk_dp_stats_free(stats);
    throw new RdmakitError({
      kind: result === -22 ? 'internal' : 'environment',
      what: 'the measuring loop could not be started',
      cause: message,
    });
  }

  /** The counters as they stand. */
  snapshot(): LoopSnapshot {
    return readSnapshot(this.#open());
  }

  /** A copy of the latencies recorded so far. */
  histogram(): Histogram {
    return readHistogram(this.#open());
  }

  /** Samples recorded since the last call (loops that record them). */
  newSamples(): Sample[] {
    const { samples, next } = readSamples(this.#open(), this.#samplesRead);
    this.#samplesRead = next;
    return samples;
  }

  #open(): StatsView {
    if (this.#view === undefined) throw new TypeError('the loop was closed; take snapshots before');
    return this.#view;
  }

  get ended(): boolean {
    return this.#joined || loadDatapath().rk_dp_loop_poll(this.#handle) === 1;
  }

  /** Asks the loop to end; returns at once. */
  stop(): void {
    if (!this.#joined) loadDatapath().rk_dp_loop_stop(this.#handle);
  }

  /** Resolves when the loop has ended by itself or `until` says so (then it is stopped). `tick` runs at every look. */
  async finish(options: { until?: () => boolean; tick?: () => void; tick_ms?: number } = {}): Promise<void> {
    while (!this.ended) {
      if (options.until?.()) {
        await this.end();
        break;
      }
      await sleep(options.tick_ms ?? TICK_MS);
      options.tick?.();
    }
    this.#join();
    options.tick?.();
  }

  /** Stops the loop and waits for it. */
  async end(): Promise<void> {
    this.stop();
    const deadline = Date.now() + STOP_PATIENCE_MS;
    while (!this.ended && Date.now() < deadline) await sleep(1);
    this.#join();
  }

  #join(): void {
    if (this.#joined) return;
    // Only an ended loop is joined without waiting; one that does not end is inside a verbs call, and waiting for it here
    // would stop everything else as well. There is no way on from that, so the wait is taken.
    this.#joined = true;
    loadDatapath().rk_dp_loop_join(this.#handle);
  }

  /** Ends the loop if need be and frees its statistics; snapshots taken before stay good. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.stop();
    this.#join();
    this.#view = undefined;
    loadDatapath().rk_dp_stats_free(this.#stats);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

export function outOfMemory(what: string): RdmakitError {
  return new RdmakitError({
    kind: 'environment',
    what: `there is no memory for ${what}`,
    remedy: 'free some memory, or raise the limit that `ulimit -v` shows',
  });
}

/** What every ping-pong loop is told, verbs or socket. */
export interface Pace {
  readonly role: Role;
  readonly size_bytes: number;
  readonly verify: boolean;
  readonly record: boolean;
  /** Equal at both ends. */
  readonly seed: bigint;
  /** Measured exchanges; 0 for no limit. */
  readonly iterations: number;
  readonly warmup: number;
  /** Of the measured part; 0 for no limit. */
  readonly duration_ns: number;
  /** From start to start; 0 for back to back. */
  readonly interval_ns: number;
  readonly timeout_ns: number;
  /** -1 floats. */
  readonly core: number;
}

const ROLES = { client: ENUMS.rk_dp_role.RK_DP_CLIENT, server: ENUMS.rk_dp_role.RK_DP_SERVER };
const FLAGS = ENUMS.rk_dp_flag;

/** All but the seed, which rping's exchange has not. */
export function fillPace<N extends 'rk_dp_pingpong' | 'rk_dp_sockpp' | 'rk_dp_rping'>(
  config: Struct<N>,
  pace: Omit<Pace, 'seed'>,
): void {
  // The structs share these field names; the cast tells the compiler so.
  const shared = config as Struct<'rk_dp_rping'>;
  shared
    .set('role', ROLES[pace.role])
    .set('size', pace.size_bytes)
    .set('core', pace.core)
    .set('iterations', pace.iterations)
    .set('warmup', pace.warmup)
    .set('duration_ns', Math.round(pace.duration_ns))
    .set('interval_ns', Math.round(pace.interval_ns))
    .set('timeout_ns', Math.round(pace.timeout_ns));
}

export function paceFlags(pace: Pick<Pace, 'verify' | 'record'>): number {
  return (pace.verify ? FLAGS.RK_DP_VERIFY : 0) | (pace.record ? FLAGS.RK_DP_RECORD : 0);
}

/** Starts a ping-pong loop over a kernel socket. The descriptor stays the caller's. */
export function startSocketLoop(pace: Pace, socket: { protocol: 6 | 17; fd: number; busy: boolean }): Loop {
  const config = new Struct('rk_dp_sockpp');
  fillPace(config, pace);
  config
    .set('seed', pace.seed)
    .set('protocol', socket.protocol)
    .set('fd', socket.fd)
    .set('flags', paceFlags(pace) | (socket.busy ? FLAGS.RK_DP_BUSY : 0));
  return Loop.start(config);
}

/** Native objects and numbers of one end of a verbs ping-pong; addresses are of live objects. */
export interface VerbsParts {
  readonly transport: 'rc' | 'uc' | 'ud';
  readonly operation: keyof typeof OPERATION_CODES;
  readonly events: boolean;
  readonly qp: bigint;
  readonly send_cq: bigint;
  readonly recv_cq: bigint;
  readonly channel: bigint;
  readonly ah: bigint;
  readonly buffer: bigint;
  readonly buffer_length: number;
  readonly lkey: number;
  readonly remote_address: bigint;
  readonly rkey: number;
  readonly remote_qpn: number;
  readonly remote_qkey: number;
  readonly rx_slots: number;
  readonly sq_depth: number;
  readonly max_inline: number;
}

const TRANSPORT_CODES = { rc: 2, uc: 3, ud: 4 } as const; // enum ibv_qp_type

export const OPERATION_CODES = {
  send: ENUMS.rk_dp_op.RK_DP_SEND,
  write: ENUMS.rk_dp_op.RK_DP_WRITE,
  'write-imm': ENUMS.rk_dp_op.RK_DP_WRITE_IMM,
  read: ENUMS.rk_dp_op.RK_DP_READ,
  'fetch-add': ENUMS.rk_dp_op.RK_DP_FETCH_ADD,
  'cmp-swap': ENUMS.rk_dp_op.RK_DP_CMP_SWAP,
} as const;

/** Starts a ping-pong loop over a connected queue pair. */
export function startVerbsLoop(pace: Pace, parts: VerbsParts): Loop {
  const config = new Struct('rk_dp_pingpong');
  fillPace(config, pace);
  config
    .set('seed', pace.seed)
    .set('transport', TRANSPORT_CODES[parts.transport])
    .set('op', OPERATION_CODES[parts.operation])
    .set('qp', parts.qp)
    .set('send_cq', parts.send_cq)
    .set('recv_cq', parts.recv_cq)
    .set('channel', parts.channel)
    .set('ah', parts.ah)
    .set('buffer', parts.buffer)
    .set('buffer_length', parts.buffer_length)
    .set('remote_addr', parts.remote_address)
    .set('lkey', parts.lkey)
    .set('rkey', parts.rkey)
    .set('remote_qpn', parts.remote_qpn)
    .set('remote_qkey', parts.remote_qkey)
    .set('rx_slots', parts.rx_slots)
    .set('sq_depth', parts.sq_depth)
    .set('max_inline', parts.max_inline)
    .set('flags', paceFlags(pace) | (parts.events ? FLAGS.RK_DP_EVENTS : 0));
  return Loop.start(config);
}
