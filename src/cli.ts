#!/usr/bin/env node
/** The command table: one row a command. Its module is loaded only when the command is named. */

import type { CommandRow } from './cli/command.ts';
import { main } from './cli/main.ts';

export const commands: CommandRow[] = [
  {
    name: 'topo',
    summary: 'show RDMA devices; generate, draw, predict and emulate networks',
    load: () => import('./commands/topo.ts'),
  },
  {
    name: 'pingpong',
    summary: 'measure round-trip latency over every transport and operation',
    load: () => import('./commands/pingpong.ts'),
  },
  {
    name: 'socket-run',
    summary: 'run programs with the sockets between them in shared memory, or on RDMA',
    load: () => import('./commands/socket-run.ts'),
  },
  {
    name: 'verbs-run',
    summary: 'run any RDMA program on the embedded device',
    load: () => import('./commands/verbs-run.ts'),
  },
];

// False only when a test or the generator imports the table; Node before 24 has no import.meta.main.
if (import.meta.main !== false) await main(commands);
