/** The measuring end: drives a server through the rows of a plan over one session. */

import { randomBytes } from 'node:crypto';
import * as v from 'valibot';
import { RdmakitError } from '../errors.ts';
import { completionStatusName, type MtuBytes, type Session } from '../verbs/index.ts';
import { commonLimits, type OpenedDevice } from './device.ts';
import { VerbsHalf } from './half.ts';
import { type Loop, type Pace, startSocketLoop } from './loop.ts';
import { FromServer, PROTOCOL_VERSION, Refused, type RowResult, Welcome } from './protocol.ts';
import { type RowReport, reportFailedRow, reportRow } from './report.ts';
import { isVerbs, type PlanLimits, type Row } from './rows.ts';
import { connectSocket, type KernelSocket } from './sockets.ts';
import type { LoopSnapshot, Sample } from './stats.ts';

const ANSWER_TIMEOUT_MS = 15_000;
/** After Ctrl-C, or when the row has failed anyway, nobody wants to wait long for the other end's numbers. */
const STOP_TIMEOUT_MS = 2000;
const ROW_TIMEOUT_MS = 2 ** 31 - 1;
/** A reliable connection retries by itself; only after this long without an answer is it given up. */
const RELIABLE_PATIENCE_NS = 5e9;

/** How every row of a run is measured. */
export interface Settings {
  /** Exchanges; 0 for no limit. */
  readonly iterations: number;
  /** 0 for no limit. */
  readonly duration_ns: number;
  /** 0 for back to back. */
  readonly interval_ns: number;
  /** After which an unanswered message of an unreliable transport is lost. */
  readonly timeout_ns: number;
  readonly verify: boolean;
  /** Keep each sample, for live lines. */
  readonly record: boolean;
  /** Default: by size. */
  readonly warmup?: number | undefined;
  readonly mtuBytes?: MtuBytes | undefined;
  /** -1 floats. */
  readonly core: number;
}

export interface Watcher {
  readonly signal?: AbortSignal | undefined;
  /** Called now and then while a row runs, and once at its end. */
  readonly onProgress?:
    | ((snapshot: LoopSnapshot, samples: readonly Sample[], loop: Loop) => void)
    | undefined;
}

/** Exchanges before measuring begins: enough for caches, branch predictors and the CPU's clock. */
export function warmupFor(size_bytes: number): number {
  return size_bytes <= 4096 ? 1000 : size_bytes <= 65536 ? 100 : 10;
}

export class Client {
  readonly session: Session;
  readonly device: OpenedDevice;
  readonly server: Welcome;
  /** What both ends can do. */
  readonly limits: PlanLimits;

  private constructor(session: Session, device: OpenedDevice, server: Welcome) {
    this.session = session;
    this.device = device;
    this.server = server;
    this.limits = commonLimits(device.limits, server);
  }

  /** Takes the server's welcome. Session and device stay the caller's. */
  static async greet(session: Session, device: OpenedDevice, signal?: AbortSignal): Promise<Client> {
    const message = await session.receive({ timeoutMs: ANSWER_TIMEOUT_MS, signal });
    const refused = v.safeParse(Refused, message);
    if (refused.success) throw serverCannot(refused.output);
    const welcome = v.safeParse(Welcome, message);
    if (welcome.success) return new Client(session, device, welcome.output);
    if (typeof message.version === 'number' && message.version !== PROTOCOL_VERSION) {
      throw new RdmakitError({
        kind: 'peer',
        what: `the other end speaks version ${message.version} of the ping-pong protocol, this one version ${PROTOCOL_VERSION}`,
        remedy: 'install the same rdmakit on both machines',
      });
    }
    throw session.fail(`no welcome: ${welcome.issues[0].message}`);
  }

  /** Says goodbye, so that the server does not take the end for a failure. */
  bye(): void {
    if (!this.session.closed) this.session.send({ type: 'bye' });
  }

  /**
   * Measures one row. A row that the server refuses or whose loop fails is reported with its failure; an error of the
   * session itself is thrown, because nothing can follow it.
   */
  async measure(row: Row, settings: Settings, watcher: Watcher = {}): Promise<RowReport> {
    const made = this.#make(row);
    if ('failure' in made) return made.failure;
    let socket: KernelSocket | undefined;
    let loop: Loop | undefined;
    try {
      const pace = paceOf(row, settings);
      this.session.send({
        type: 'row',
        ...row,
        verify: settings.verify,
        seed: String(pace.seed),
        warmup: pace.warmup,
        interval_ns: pace.interval_ns,
        timeout_ns: pace.timeout_ns,
        ...(settings.mtuBytes === undefined ? {} : { mtu_bytes: settings.mtuBytes }),
      });
      const answer = await this.#receive(ANSWER_TIMEOUT_MS, watcher.signal);
      if (answer.type === 'refused') return reportFailedRow(row, serverFailure(answer));
      if (answer.type !== 'accepted') throw this.session.fail(`${answer.type} instead of accepted`);
      await made.half?.connect(this.session, {
        gidIndex: this.device.gid.index,
        mtuBytes: settings.mtuBytes,
      });
      const ready = await this.#receive(ANSWER_TIMEOUT_MS, watcher.signal);
      if (ready.type !== 'ready') throw this.session.fail(`${ready.type} instead of ready`);
      if (row.transport === 'tcp' || row.transport === 'udp') {
        socket = connectSocket(
          row.transport,
          this.session.remoteAddress,
          answer.port ?? 0,
          this.session.localAddress,
        );
        loop = startSocketLoop(pace, { ...socket, busy: row.wait === 'busy-polling' });
      } else {
        loop = made.half?.start(pace);
      }
      if (loop === undefined) throw new TypeError(`${row.transport} ${row.operation} has no loop`);
      return await this.#run(row, loop, watcher);
    } finally {
      loop?.close();
      socket?.close();
      made.half?.close();
    }
  }

  /** Our objects first: when they cannot be made, the server need not be bothered. */
  #make(row: Row): { half: VerbsHalf | undefined } | { failure: RowReport } {
    if (!isVerbs(row.transport)) return { half: undefined };
    try {
      return { half: VerbsHalf.create(this.device.context, row) };
    } catch (error) {
      if (!(error instanceof RdmakitError)) throw error;
      return {
        failure: reportFailedRow(row, {
          what: error.message,
          ...(error.likelyCause === undefined ? {} : { cause: error.likelyCause }),
          ...(error.remedy === undefined ? {} : { remedy: error.remedy }),
        }),
      };
    }
  }

  async #run(row: Row, loop: Loop, watcher: Watcher): Promise<RowReport> {
    // The server speaks up before row-end only when its loop failed; either way this is its next message.
    let early: FromServer | undefined;
    let broken: unknown;
    const patience = new AbortController();
    const next = this.#receive(ROW_TIMEOUT_MS, patience.signal).then(
      (message) => {
        early = message;
      },
      (error: unknown) => {
        broken = error;
      },
    );
    const given = (): boolean => watcher.signal?.aborted === true;
    const look = (): void => watcher.onProgress?.(loop.snapshot(), loop.newSamples(), loop);
    await loop.finish({ until: () => given() || early !== undefined || broken !== undefined, tick: look });
    const interrupted = given();
    let server: RowResult | undefined;
    if (broken === undefined) {
      this.session.send({ type: 'row-end' });
      // A far end that is stopped or cut off would never answer.
      const timer = setTimeout(
        () => patience.abort(silence()),
        interrupted ? STOP_TIMEOUT_MS : ANSWER_TIMEOUT_MS,
      );
      if (early === undefined) await next;
      clearTimeout(timer);
      const trouble = early?.type === 'trouble' ? early : undefined;
      if (trouble !== undefined) early = await this.#receive(ANSWER_TIMEOUT_MS).catch(() => undefined);
      if (early?.type === 'row-result') server = early;
      else if (broken === undefined && trouble === undefined) throw this.session.fail('no result of the row');
    }
    // Without its result the session is out of step: nothing may follow on it.
    if (server === undefined) this.session.close();
    const client = loop.snapshot();
    return reportRow({
      row,
      client,
      histogram: loop.histogram(),
      server,
      interrupted,
      failure: failureOf(client, server, broken),
    });
  }

  async #receive(timeoutMs: number, signal?: AbortSignal): Promise<FromServer> {
    const message = await this.session.receive({ timeoutMs, signal });
    const parsed = v.safeParse(FromServer, message);
    if (parsed.success) return parsed.output;
    const [issue] = parsed.issues;
    throw this.session.fail(`${v.getDotPath(issue) ?? 'message'}: ${issue.message}`);
  }
}

/** The server's side of a failure. Our own loop's error says more, and is explained by the report; unless it is only the flush. */
function failureOf(client: LoopSnapshot, server: RowResult | undefined, broken: unknown) {
  const { error } = client;
  const flushed =
    error?.stage === 'completion' && completionStatusName(error.wc_status) === 'IBV_WC_WR_FLUSH_ERR';
  if (error !== undefined && !flushed) return undefined;
  if (broken !== undefined) {
    const what = broken instanceof Error ? broken.message : String(broken);
    return { what, cause: 'the other end ended, was stopped, or cannot be reached any more' };
  }
  if (server?.error !== undefined) return { what: `the other end's loop failed: ${server.error}` };
  return undefined;
}

function silence(): RdmakitError {
  return new RdmakitError({ kind: 'peer', what: 'the other end does not answer any more' });
}

function paceOf(row: Row, settings: Settings): Pace {
  const reliable = row.transport === 'rc' || row.transport === 'tcp';
  return {
    role: 'client',
    size_bytes: row.size_bytes,
    verify: settings.verify,
    record: settings.record,
    seed: randomBytes(8).readBigUInt64LE(),
    iterations: settings.iterations,
    warmup: settings.warmup ?? warmupFor(row.size_bytes),
    duration_ns: settings.duration_ns,
    interval_ns: settings.interval_ns,
    timeout_ns: reliable ? Math.max(settings.timeout_ns, RELIABLE_PATIENCE_NS) : settings.timeout_ns,
    core: settings.core,
  };
}

function serverFailure(refused: v.InferOutput<typeof Refused>) {
  const what = `the other end cannot: ${refused.what}`;
  return refused.cause === undefined ? { what } : { what, cause: refused.cause };
}

function serverCannot(refused: v.InferOutput<typeof Refused>): RdmakitError {
  return new RdmakitError({
    kind: 'peer',
    ...serverFailure(refused),
    remedy: 'look at the output of the other end',
  });
}
