/** `rdmakit socket-run`: unmodified programs, the TCP connections between them in shared memory. */

import { attendProgram, requireLibrary, socketLibrary } from '../../ffi/paths.ts';
import { defineCommand, usageError } from '../cli/command.ts';
import { defineDocument } from '../cli/documents.ts';
import type { Io } from '../cli/io.ts';
import { flag, text } from '../cli/options.ts';
import { ExitCode } from '../errors.ts';
import { attendArguments, ENDED_VARIABLE, ownCommand } from '../sockets/attend.ts';
import { Check, checkProgram, verdictOf } from '../sockets/check.ts';
import { socketEnvironment } from '../sockets/environment.ts';
import { becomeProgram } from '../verbs-run/exec.ts';
import { findObstacle, findProgram } from '../verbs-run/program.ts';
import { psSpec } from './socket-run/ps.ts';
import { concludeRun, writeReport } from './socket-run/report.ts';

/** Exit statuses of a shell, for a program that did not run. */
const NOT_EXECUTABLE = 126 as ExitCode;
const NOT_FOUND = 127 as ExitCode;

export const spec = defineCommand({
  name: 'socket-run',
  summary: 'run programs with the sockets between them in shared memory, or on RDMA',
  description: [
    'Runs a program so that its connections to other programs which are also run so leave the kernel: TCP and UDP through shared memory to programs of the same user on the same host, through RDMA queue pairs (RC for TCP, UD for UDP) to other hosts where that is measured to be faster. Every other connection stays as it is, and its peer sees no extra byte.',
    'The descriptors stay real sockets: what waits on them, passes them on or looks at them works as before. Connections change between shared memory and the kernel without loss, whenever something is done to them that shared memory cannot do.',
    'PROGRAM is searched along PATH when it has no slash, and takes the place of rdmakit. Programs that are statically linked, or that run with raised privileges, run unaccelerated, and a note says so.',
    'With --report, --report-json, --strict or --verify a small process stays as its parent until it and all it started have ended; it passes signals on, and ends as the program ended. The program ps is run with `socket-run -- ps`, because `socket-run ps` lists connections.',
  ],
  child: true,
  options: {
    report: flag({
      doc: 'at the end print on standard error, for every connection, whether it was accelerated and why not, bytes, epochs, doorbells and latencies',
    }),
    reportJson: text({ doc: 'write the same as a JSON document', value: 'FILE', completes: 'file' }),
    strict: flag({ doc: 'exit code 1 when no connection was accelerated' }),
    verify: flag({
      doc: 'compare hashes of what was sent and received through shared memory and queue pairs, where both ends ask for it; exit code 1 when they differ',
    }),
    check: flag({
      doc: 'do not run it: tell from its files what can be accelerated and what cannot, and why (static, Go, set-uid, io_uring, raw system calls); exit code 1 when nothing can',
    }),
    dryRun: flag({ doc: 'print the variables and the command line instead of running it' }),
  },
  examples: [
    { command: 'rdmakit socket-run -- iperf3 -s', does: 'serves a bandwidth test' },
    { command: 'rdmakit socket-run -- iperf3 -c 127.0.0.1', does: 'runs it through shared memory' },
    {
      command: 'rdmakit socket-run --check nginx',
      does: 'tells what it can do for a program, without running it',
    },
    {
      command: 'rdmakit socket-run --report --strict -- redis-benchmark -c 1',
      does: 'tells which connections were accelerated, and fails when none was',
    },
  ],
  documents: true,
  exits: [
    {
      code: 1,
      when: 'with --strict nothing was accelerated, with --verify data differed, or --check says that nothing can be accelerated',
    },
    { code: NOT_EXECUTABLE, when: 'the program was found but may not be executed' },
    { code: NOT_FOUND, when: 'the program was not found' },
  ],
  subcommands: [psSpec],
  async run({ options, child }, io) {
    const [name = ''] = child;
    if (io.format !== 'table' && !options.check) {
      throw usageError(
        '--json and --ndjson go with --check',
        'socket-run',
        'use --report-json FILE for what a run was',
      );
    }
    const library = requireLibrary(socketLibrary());
    const added = socketEnvironment(library, process.env);
    const found = findProgram(name, process.env.PATH ?? '/usr/bin:/bin');
    if (found.kind === 'not-found') {
      io.note(`rdmakit socket-run: ${name}: not found; searched ${found.searched}`);
      return NOT_FOUND;
    }
    if (found.kind === 'not-executable') {
      io.note(`rdmakit socket-run: ${found.path}: ${found.why}`);
      return NOT_EXECUTABLE;
    }
    const who = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
    if (options.check) return tell(checkProgram(name, found.path, who, process.env.PATH ?? ''), io);
    const obstacle = findObstacle(found.path, who);
    const ended = process.env[ENDED_VARIABLE];
    if (ended !== undefined) {
      return concludeRun(ended, options, child, obstacle && { path: found.path }, io);
    }
    if (obstacle !== undefined) io.note(`rdmakit socket-run: not accelerated: ${obstacle.what}`);
    if (options.dryRun) {
      for (const [variable, value] of Object.entries(added)) io.line(`${variable}=${value}`);
      io.line([found.path, ...child.slice(1)].join(' '));
      return undefined;
    }
    const { report, reportJson, strict, verify } = options;
    if (!report && reportJson === undefined && !strict && !verify) {
      return becomeProgram(found.path, child, { ...process.env, ...added });
    }
    if (reportJson === '') throw usageError('--report-json needs the name of a file', 'socket-run');
    if (reportJson !== undefined) writeReport(reportJson, '');
    const attend = requireLibrary(attendProgram());
    const run = { latency: report || reportJson !== undefined, verify, environment: added };
    const words = attendArguments({ ...run, after: ownCommand(), path: found.path, argv: child });
    return becomeProgram(attend, words, process.env);
  },
});

const CHECK = defineDocument('socket-check', 1, Check);

function tell(check: Check, io: Io): ExitCode {
  io.result(CHECK, check);
  io.line(verdictOf(check));
  for (const { what, cause, remedy } of check.findings) {
    io.line(what);
    io.line(`  cause: ${cause}`);
    io.line(`  try:   ${remedy}`);
  }
  return check.accelerated === 'not' ? ExitCode.badAnswer : ExitCode.done;
}
