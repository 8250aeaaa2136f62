/** `rdmakit verbs-run`: any RDMA program on the embedded device. */

import { requireLibrary, softLibraryFolder, sysfsLibrary } from '../../ffi/paths.ts';
import { defineCommand } from '../cli/command.ts';
import { choice, custom, flag } from '../cli/options.ts';
import { UnitError } from '../cli/units.ts';
import { type ExitCode, RdmakitError } from '../errors.ts';
import { parseFault, ROADS, verbsEnvironment } from '../verbs-run/environment.ts';
import { becomeProgram } from '../verbs-run/exec.ts';
import { findObstacle, findProgram } from '../verbs-run/program.ts';

/** Exit statuses of a shell, for a program that did not run. */
const NOT_EXECUTABLE = 126 as ExitCode;
const NOT_FOUND = 127 as ExitCode;

function faultOf(text: string): string {
  const parsed = parseFault(text);
  if ('reason' in parsed) throw new UnitError(parsed.reason);
  return parsed.fault;
}

export const spec = defineCommand({
  name: 'verbs-run',
  summary: 'run any RDMA program on the embedded device',
  description: [
    "Runs a program with rdmakit's own libibverbs and librdmacm put before the system's, so that it finds an RDMA device on a machine that has none: no kernel module, no root. Processes of one user on one machine meet in shared memory, others over RoCE v2 on UDP port 4791.",
    'PROGRAM is searched along PATH when it has no slash. It takes the place of rdmakit: it has the same process id, terminal, input and output, receives every signal itself, and its exit status is the exit status.',
    'Programs that are statically linked, or that run with raised privileges (set-uid), cannot be given another library; they are refused with the reason.',
  ],
  child: true,
  options: {
    road: choice(ROADS, {
      doc: 'auto: shared memory where possible; wire: always RoCE v2 packets over UDP',
      default: 'auto',
    }),
    fault: custom(faultOf, {
      doc: 'drop, double, reorder or damage a share of the packets that arrive over UDP: loss=1%,dup=0.1%,reorder=1%,corrupt=0.1%,seed=7',
      value: 'FAULTS',
    }),
    report: flag({
      doc: "print the device's counters on standard error when the program, or one it started, ends",
    }),
    dryRun: flag({ doc: 'print the variables and the command line instead of running it' }),
  },
  examples: [
    { command: 'rdmakit verbs-run ibv_devinfo', does: 'shows the embedded devices' },
    { command: 'rdmakit verbs-run -- ib_write_bw -d rk_lo -F', does: 'serves a bandwidth test of perftest' },
    {
      command: 'rdmakit verbs-run --road wire --fault loss=1% ib_send_bw 127.0.0.1',
      does: 'runs it over UDP with lost packets',
    },
  ],
  exits: [
    { code: NOT_EXECUTABLE, when: 'the program was found but may not be executed' },
    { code: NOT_FOUND, when: 'the program was not found' },
  ],
  async run({ options, child }, io) {
    const [name = ''] = child;
    const softFolder = softLibraryFolder();
    requireLibrary(`${softFolder}/libibverbs.so.1`);
    const added = verbsEnvironment(
      {
        softFolder,
        sysfsLibrary: requireLibrary(sysfsLibrary()),
        road: options.road,
        fault: options.fault,
        report: options.report,
      },
      process.env,
    );
    const found = findProgram(name, process.env.PATH ?? '/usr/bin:/bin');
    if (found.kind === 'not-found') {
      io.note(`rdmakit verbs-run: ${name}: not found; searched ${found.searched}`);
      return NOT_FOUND;
    }
    if (found.kind === 'not-executable') {
      io.note(`rdmakit verbs-run: ${found.path}: ${found.why}`);
      return NOT_EXECUTABLE;
    }
    const obstacle = findObstacle(found.path, {
      uid: process.geteuid?.() ?? 0,
      gid: process.getegid?.() ?? 0,
    });
    if (obstacle !== undefined) throw new RdmakitError({ kind: 'environment', ...obstacle });
    if (options.dryRun) {
      for (const [variable, value] of Object.entries(added)) io.line(`${variable}=${quote(value)}`);
      io.line([found.path, ...child.slice(1)].map(quote).join(' '));
      return undefined;
    }
    return becomeProgram(found.path, child, { ...process.env, ...added });
  },
});

/** A word as a shell reads it back. */
function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
