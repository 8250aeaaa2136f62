/** `rdmakit socket-run`: unmodified programs, the TCP connections between them in shared memory. */

import { requireLibrary, socketLibrary } from '../../ffi/paths.ts';
import { defineCommand } from '../cli/command.ts';
import { flag } from '../cli/options.ts';
import type { ExitCode } from '../errors.ts';
import { socketEnvironment } from '../sockets/environment.ts';
import { becomeProgram } from '../verbs-run/exec.ts';
import { findObstacle, findProgram } from '../verbs-run/program.ts';

/** Exit statuses of a shell, for a program that did not run. */
const NOT_EXECUTABLE = 126 as ExitCode;
const NOT_FOUND = 127 as ExitCode;

export const spec = defineCommand({
  name: 'socket-run',
  summary: 'run programs with the TCP connections between them in shared memory',
  description: [
    'Runs a program so that its TCP connections to other programs of the same user on the same host, which are also run so, leave the kernel. Every other connection stays as it is, and its peer sees no extra byte.',
    'The descriptors stay real sockets: what waits on them, passes them on or looks at them works as before. Connections change between shared memory and the kernel without loss, whenever something is done to them that shared memory cannot do.',
    'PROGRAM is searched along PATH when it has no slash, and takes the place of rdmakit. Programs that are statically linked, or that run with raised privileges, run unaccelerated, and a note says so.',
  ],
  child: true,
  options: {
    dryRun: flag({ doc: 'print the variables and the command line instead of running it' }),
  },
  examples: [
    { command: 'rdmakit socket-run -- iperf3 -s', does: 'serves a bandwidth test' },
    { command: 'rdmakit socket-run -- iperf3 -c 127.0.0.1', does: 'runs it through shared memory' },
  ],
  exits: [
    { code: NOT_EXECUTABLE, when: 'the program was found but may not be executed' },
    { code: NOT_FOUND, when: 'the program was not found' },
  ],
  async run({ options, child }, io) {
    const [name = ''] = child;
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
    const obstacle = findObstacle(found.path, {
      uid: process.geteuid?.() ?? 0,
      gid: process.getegid?.() ?? 0,
    });
    if (obstacle !== undefined) io.note(`rdmakit socket-run: not accelerated: ${obstacle.what}`);
    if (options.dryRun) {
      for (const [variable, value] of Object.entries(added)) io.line(`${variable}=${value}`);
      io.line([found.path, ...child.slice(1)].join(' '));
      return undefined;
    }
    return becomeProgram(found.path, child, { ...process.env, ...added });
  },
});
