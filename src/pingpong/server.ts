/** The answering end: serves the rows that a client asks for over one session, until it says bye or goes away. */

import { hostname } from 'node:os';
import * as v from 'valibot';
import { RdmakitError } from '../errors.ts';
import type { Context, Session } from '../verbs/index.ts';
import { type DeviceWish, type OpenedDevice, openFor } from './device.ts';
import { VerbsHalf } from './half.ts';
import { type Loop, type Pace, startSocketLoop } from './loop.ts';
import { FromClient, PROTOCOL_VERSION, type RowRequest, type RowResult } from './protocol.ts';
import { isVerbs, type Row, rowName } from './rows.ts';
import { type KernelSocket, listenSocket } from './sockets.ts';
import type { LoopSnapshot } from './stats.ts';

/** A client that says nothing for so long is taken to be gone. */
const IDLE_TIMEOUT_MS = 600_000;
/** A row may run until its client is interrupted. */
const ROW_TIMEOUT_MS = 2 ** 31 - 1;
/** A row without any message for so long (or three intervals) is ended: its client hangs, and our loop spins for nothing. */
const SILENT_ROW_MS = 120_000;

export interface ServeOptions extends DeviceWish {
  /** -1 floats. */
  readonly core: number;
  readonly signal?: AbortSignal | undefined;
  /** Told about each row that begins. */
  readonly onRow?: (name: string, size_bytes: number) => void;
}

/** What the server made for one row. */
interface ServerRow {
  readonly row: Row;
  readonly half: VerbsHalf | undefined;
  readonly socket: KernelSocket | undefined;
}

/** Serves one client. Resolves when it said bye; throws when it went away or broke the protocol. Never closes the session. */
export async function serveSession(session: Session, options: ServeOptions): Promise<void> {
  let opened: OpenedDevice;
  try {
    opened = openFor(session.localAddress, session.remoteAddress, options);
  } catch (error) {
    session.send(refusal(error));
    throw error;
  }
  try {
    session.send({
      type: 'welcome',
      version: PROTOCOL_VERSION,
      host: hostname(),
      device: opened.context.name,
      provider: opened.context.provider,
      ...opened.limits,
    });
    for (;;) {
      const message = await receive(session, IDLE_TIMEOUT_MS, options.signal);
      if (message.type === 'bye') return;
      if (message.type !== 'row') throw session.fail(`${message.type} without a row`);
      options.onRow?.(rowName(message), message.size_bytes);
      await serveRow(session, opened, message, options);
    }
  } finally {
    opened.context.close();
  }
}

async function receive(session: Session, timeoutMs: number, signal: AbortSignal | undefined) {
  const message = await session.receive({ timeoutMs, signal });
  const parsed = v.safeParse(FromClient, message);
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  throw session.fail(`${v.getDotPath(issue) ?? 'message'}: ${issue.message}`);
}

function refusal(error: unknown): { type: 'refused'; what: string; cause?: string } {
  const what = error instanceof Error ? error.message : String(error);
  const cause = error instanceof RdmakitError ? error.likelyCause : undefined;
  return cause === undefined
    ? { type: 'refused', what }
    : { type: 'refused', what, cause: cause.slice(0, 2000) };
}

function prepare(session: Session, context: Context, request: RowRequest): ServerRow {
  const { transport, operation, wait, size_bytes } = request;
  const row = { transport, operation, wait, size_bytes };
  if (isVerbs(transport)) return { row, half: VerbsHalf.create(context, row), socket: undefined };
  return { row, half: undefined, socket: listenSocket(transport, session.localAddress) };
}

async function serveRow(
  session: Session,
  opened: OpenedDevice,
  request: RowRequest,
  options: ServeOptions,
): Promise<void> {
  let made: ServerRow;
  try {
    made = prepare(session, opened.context, request);
  } catch (error) {
    session.send(refusal(error));
    return;
  }
  let loop: Loop | undefined;
  try {
    session.send(
      made.socket === undefined ? { type: 'accepted' } : { type: 'accepted', port: made.socket.port },
    );
    await made.half?.connect(session, { gidIndex: opened.gid.index, mtuBytes: request.mtu_bytes });
    loop = startLoop(made, request, options.core);
    session.send({ type: 'ready' });
    await untilRowEnd(
      session,
      loop,
      Math.max(SILENT_ROW_MS, (3 * request.interval_ns) / 1e6),
      options.signal,
    );
    session.send(resultOf(loop?.snapshot()));
  } finally {
    loop?.close();
    made.half?.close();
    made.socket?.close();
  }
}

function startLoop(made: ServerRow, request: RowRequest, core: number): Loop | undefined {
  const pace: Pace = {
    role: 'server',
    size_bytes: request.size_bytes,
    verify: request.verify,
    record: false,
    seed: BigInt(request.seed),
    iterations: 0,
    warmup: request.warmup,
    duration_ns: 0,
    interval_ns: request.interval_ns,
    timeout_ns: request.timeout_ns,
    core,
  };
  if (made.half !== undefined) return made.half.start(pace);
  if (made.socket === undefined) return undefined;
  return startSocketLoop(pace, { ...made.socket, busy: request.wait === 'busy-polling' });
}

/** Waits for the client's word that the row is over; a loop that fails or hears nothing before is reported to it at once. */
async function untilRowEnd(
  session: Session,
  loop: Loop | undefined,
  silenceMs: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  let over = false;
  let completed = -1;
  let changed = performance.now();
  const silent = (): boolean => {
    const now = loop?.snapshot().completed ?? 0;
    if (now !== completed) changed = performance.now();
    completed = now;
    return performance.now() - changed > silenceMs;
  };
  // Not waited for: once the row is over the watch has nothing more to say, and its last nap would delay every row.
  void loop?.finish({ until: () => over || silent(), tick_ms: 50 }).then(() => {
    if (over || session.closed) return;
    session.send({
      type: 'trouble',
      what: loop.snapshot().error?.message ?? 'no message came for a long time',
    });
  });
  try {
    const message = await receive(session, ROW_TIMEOUT_MS, signal);
    if (message.type !== 'row-end') throw session.fail(`${message.type} in the middle of a row`);
  } finally {
    over = true;
    await loop?.end();
  }
}

function resultOf(snapshot: LoopSnapshot | undefined): RowResult {
  return {
    type: 'row-result',
    completed: snapshot?.completed ?? 0,
    verified: snapshot?.verified ?? 0,
    mismatches: snapshot?.mismatches ?? 0,
    ...(snapshot?.first_mismatch === undefined ? {} : { first_mismatch: snapshot.first_mismatch }),
    core: snapshot?.core ?? -1,
    ...(snapshot?.error === undefined ? {} : { error: snapshot.error.message }),
  };
}
