/** `rdmakit socket-run ps`: the living connections of this user's programs under socket-run. */

import { setTimeout as sleep } from 'node:timers/promises';
import { attendProgram, requireLibrary } from '../../../ffi/paths.ts';
import { defineCommand, usageError } from '../../cli/command.ts';
import { defineDocument } from '../../cli/documents.ts';
import type { Io } from '../../cli/io.ts';
import { flag, seconds } from '../../cli/options.ts';
import { listConnections } from '../../sockets/attend.ts';
import { Connections, type ConnectionsReport, describeAll } from '../../sockets/connections.ts';
import { connectionTable, reasonLines } from '../../sockets/present.ts';

export const CONNECTIONS = defineDocument('socket-connections', 1, Connections);

export const psSpec = defineCommand({
  name: 'ps',
  summary: 'list the living connections of programs under socket-run',
  description: [
    'Lists every connection that programs of this user under socket-run have used more than once (to other hosts: eight times): whether it is accelerated or why not, bytes by ring and by the kernel, epochs, doorbells and sleeps. Each end that has the library is a row.',
    'Latencies are shown of connections whose program runs with --report or --report-json.',
    'Bytes are ring+kernel; epochs are how often a direction entered and left the ring, sent and received.',
  ],
  documents: true,
  options: {
    watch: flag({ doc: 'list again and again, until Ctrl-C', short: 'w' }),
    interval: seconds({ doc: 'time between lists with --watch', default: '1', short: 'i' }),
  },
  examples: [
    { command: 'rdmakit socket-run ps', does: 'lists the connections' },
    { command: 'rdmakit socket-run ps --watch --ndjson', does: 'prints a document a second' },
  ],
  async run({ options }, io) {
    if (options.watch && io.format === 'json') {
      throw usageError('--watch prints many documents', 'socket-run ps', 'use --ndjson instead of --json');
    }
    const attend = requireLibrary(attendProgram());
    if (!options.watch) {
      print(attend, io);
      return;
    }
    const stop = io.stop;
    while (!stop.aborted) {
      print(attend, io);
      await sleep(options.interval / 1e6, undefined, { signal: stop }).catch(() => undefined);
    }
  },
});

function print(attend: string, io: Io): void {
  const book = listConnections(attend);
  const connections = describeAll(book);
  const report: ConnectionsReport = {
    time: new Date().toISOString(),
    connections,
    unreadable: book.unreadable,
  };
  io.result(CONNECTIONS, report);
  if (connections.length === 0) io.line('no connection of a program under socket-run');
  else io.table(connectionTable(connections));
  for (const line of reasonLines(connections)) io.line(line);
}
