/** How socket-run and rdmakit-attend (c/attend) talk: command lines, and the book that is handed over. */

import { execFileSync } from 'node:child_process';
import { libc } from '../../ffi/libc.ts';
import { Struct, sizeOf } from '../../ffi/struct.ts';
import { ENUMS, MACROS } from '../../ffi/structs.generated.ts';
import { RdmakitError } from '../errors.ts';
import { bucketIndex, COUNTS_LENGTH, Histogram } from '../pingpong/histogram.ts';
import { type Book, type BookRow, type ReadAt, readBook } from './book.ts';

/** Set by rdmakit-attend when it becomes rdmakit again: the book's descriptor and how the program ended. */
export const ENDED_VARIABLE = 'RDMAKIT_SOCKET_ENDED';

export interface AttendRun {
  readonly latency: boolean;
  readonly verify: boolean;
  /** Variables for the program. */
  readonly environment: Readonly<Record<string, string>>;
  /** Path and argument list of what follows when all has ended. */
  readonly after: readonly string[];
  readonly path: string;
  readonly argv: readonly string[];
}

/** Argument list of rdmakit-attend. Pure. */
export function attendArguments(run: AttendRun): string[] {
  const { VS_WATCH_LATENCY, VS_WATCH_HASH } = ENUMS.vs_watched;
  const wanted = (run.latency ? VS_WATCH_LATENCY : 0) | (run.verify ? VS_WATCH_HASH : 0);
  const set = Object.entries(run.environment).map(([name, value]) => `${name}=${value}`);
  const counted = (list: readonly string[]): string[] => [`${list.length}`, ...list];
  return [
    'rdmakit-attend',
    'run',
    `${wanted}`,
    ...counted(set),
    ...counted(run.after),
    run.path,
    ...run.argv,
  ];
}

/** This process as it was started: its program and its argument list, the same for every runtime. */
export function ownCommand(): string[] {
  const fd = libc.open('/proc/self/cmdline', O_RDONLY);
  const words = new TextDecoder()
    .decode(readToEnd(readerOf(fd)))
    .split('\0')
    .slice(0, -1);
  libc.close(fd);
  return [process.execPath, ...words];
}

/** "3:0" -> descriptor and wait status; undefined when the text is something else. Pure. */
export function parseEnded(text: string): { fd: number; status: number } | undefined {
  const match = /^(\d{1,7}):(\d{1,5})$/.exec(text);
  return match ? { fd: Number(match[1]), status: Number(match[2]) } : undefined;
}

const O_RDONLY = 0;

function readToEnd(read: ReadAt): Uint8Array {
  const parts: Uint8Array[] = [];
  for (let at = 0, part = read(0, 1 << 16); part.byteLength > 0; part = read(at, 1 << 16)) {
    parts.push(part);
    at += part.byteLength;
  }
  return Buffer.concat(parts);
}

/** Reads a descriptor at any place. */
export function readerOf(fd: number): ReadAt {
  return (offset, length) => {
    const bytes = new Uint8Array(new ArrayBuffer(length));
    const n = Number(libc.pread(fd, bytes, BigInt(length), BigInt(offset)));
    return bytes.subarray(0, Math.max(0, n));
  };
}

/** The histogram beside a row of a run's book; undefined when it makes no sense. */
export function readHistogram(read: ReadAt, row: BookRow): Histogram | undefined {
  const bytes = read(
    MACROS.VS_BOOK_HISTOGRAMS_AT + row.index * MACROS.VS_BOOK_HISTOGRAM_ROOM,
    sizeOf('rk_hist'),
  );
  if (bytes.byteLength !== sizeOf('rk_hist')) return undefined;
  const from = new Struct('rk_hist', bytes);
  if (from.big('magic') !== MACROS.RK_HIST_MAGIC || from.num('counts_length') !== COUNTS_LENGTH)
    return undefined;
  const histogram = new Histogram();
  const counts = new BigUint64Array(from.part('counts').slice().buffer);
  for (let i = 0; i < COUNTS_LENGTH; i++) histogram.counts[i] = Number(counts[i]);
  try {
    histogram.total = histogram.counts.reduce((sum, count) => sum + count, 0);
    histogram.min_ns = from.num('min_ns');
    histogram.max_ns = from.num('max_ns');
    histogram.sum_ns = from.num('sum_ns');
    histogram.clamped = from.num('clamped');
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
  const sane =
    Number.isSafeInteger(histogram.total) && bucketIndex(histogram.min_ns) <= bucketIndex(histogram.max_ns);
  return sane ? histogram : undefined;
}

/** The living connections of this user's arena. */
export function listConnections(program: string): Book {
  let output: Buffer;
  try {
    output = execFileSync(program, ['ps'], { maxBuffer: 64 << 20, stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (error) {
    const said = (error as { stderr?: Buffer }).stderr?.toString().trim();
    throw new RdmakitError({
      kind: 'environment',
      what: 'the connections cannot be listed',
      cause: said || (error as Error).message,
      from: error,
    });
  }
  return readBook((offset, length) => new Uint8Array(output.subarray(offset, offset + length)));
}
