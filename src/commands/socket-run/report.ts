/** The second half of `rdmakit socket-run --report`: the program has ended, and rdmakit-attend has become rdmakit again. */

import { writeFileSync } from 'node:fs';
import { defineDocument, encodeDocument } from '../../cli/documents.ts';
import type { Io } from '../../cli/io.ts';
import { ExitCode, RdmakitError } from '../../errors.ts';
import { parseEnded, readerOf, readHistogram } from '../../sockets/attend.ts';
import { readBook } from '../../sockets/book.ts';
import { connectionTable, reasonLines, totalLines } from '../../sockets/present.ts';
import {
  exitOf,
  Report,
  type RunReport,
  reportRun,
  strictFault,
  verifyFaults,
  verifySummary,
} from '../../sockets/report.ts';
import { dieBySignal } from '../../verbs-run/exec.ts';

export const REPORT = defineDocument('socket-report', 1, Report);

export interface ReportWishes {
  readonly report: boolean;
  readonly reportJson?: string | undefined;
  readonly strict: boolean;
  readonly verify: boolean;
}

/** Prints what was asked for, and ends as the program did. `ended` is what rdmakit-attend left in the environment. */
export function concludeRun(
  ended: string,
  wishes: ReportWishes,
  program: readonly string[],
  obstacle: { path: string } | undefined,
  io: Io,
): ExitCode {
  const parsed = parseEnded(ended);
  if (parsed === undefined) {
    throw new RdmakitError({
      kind: 'usage',
      what: 'RDMAKIT_SOCKET_ENDED is set, which is between parts of rdmakit only',
      remedy: 'unset RDMAKIT_SOCKET_ENDED',
    });
  }
  const read = readerOf(parsed.fd);
  const exit = exitOf(parsed.status);
  const report = reportRun({
    program,
    exit,
    book: readBook(read),
    obstacle,
    histogram: (row) => readHistogram(read, row),
  });
  if (wishes.report) print(report, io);
  if (wishes.reportJson !== undefined) {
    writeReport(wishes.reportJson, `${encodeDocument(REPORT, report)}\n`);
  }
  const faults = [
    ...(wishes.verify ? verifyFaults(report) : []),
    ...(wishes.strict ? [strictFault(report)].filter((fault) => fault !== undefined) : []),
  ];
  if (wishes.verify) io.note(`rdmakit socket-run: ${verifySummary(report)}`);
  for (const fault of faults) io.note(`rdmakit socket-run: ${fault}`);
  if (exit.signal !== null) dieBySignal(exit.signal);
  const code = (exit.code ?? 128 + (exit.signal ?? 0)) as ExitCode;
  return code === ExitCode.done && faults.length > 0 ? ExitCode.badAnswer : code;
}

function print(report: RunReport, io: Io): void {
  if (report.connections.length > 0) io.noteTable(connectionTable(report.connections));
  for (const line of reasonLines(report.connections)) io.note(line);
  for (const line of totalLines(report)) io.note(`rdmakit socket-run: ${line}`);
}

/** Before the program runs, with nothing in it: a name that cannot be written must not be found out at the end. */
export function writeReport(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (error) {
    throw new RdmakitError({
      kind: 'environment',
      what: `the report cannot be written to ${path}`,
      cause: (error as Error).message,
      remedy: 'give a file that can be written: --report-json FILE',
      from: error,
    });
  }
}
