/** `topo paths`: the way of a flow through the network. */

import { defineCommand, usageError } from '../../cli/command.ts';
import { defineDocument } from '../../cli/documents.ts';
import { text } from '../../cli/options.ts';
import { PathsReport, pathsReport } from '../../topo/ecmp/report.ts';
import { Router } from '../../topo/ecmp/routes.ts';
import { readTopology } from '../../topo/formats/index.ts';
import { Graph } from '../../topo/model/graph.ts';
import { flowOptions, MODEL_TEXT, modelOf, protocolOf } from './flow-options.ts';
import { FILE, fromOption } from './shared.ts';

export const PathsDocument = defineDocument('topo-paths', 1, PathsReport);

/** Rows printed for people; --json has all. */
const SHOWN = 20;

export const pathsSpec = defineCommand({
  name: 'paths',
  summary: 'say which links the flows between two nodes take, by source port',
  description: [
    'Routes are shortest paths by metric with all equal next hops; hosts forward nothing. At every switch the hash model ' +
      'picks one of the next hops for the five-tuple.',
    MODEL_TEXT,
  ],
  positionals: [FILE],
  options: {
    from: fromOption,
    src: text({ doc: 'node that sends', value: 'NODE' }),
    dst: text({ doc: 'node that receives', value: 'NODE' }),
    ...flowOptions,
  },
  documents: true,
  examples: [
    {
      command: 'rdmakit topo paths t.json --src h0 --dst h9 --sport 49152..52151',
      does: 'follows 3000 flows',
    },
    {
      command: 'rdmakit topo paths t.json --src h0 --dst h9 --sport 49200 --model crc --json',
      does: 'follows one, for a script',
    },
  ],
  async run({ options, args }, io) {
    const { src, dst } = options;
    if (src === undefined || dst === undefined) throw usageError('--src and --dst are needed', 'topo paths');
    const router = new Router(new Graph(await readTopology(args[0] ?? '-', options.from)));
    const flow = {
      source: router.find(src),
      destination: router.find(dst),
      protocol: protocolOf(options.protocol),
      destinationPort: options.dport,
    };
    const { first, last } = options.sport;
    const ports = Array.from({ length: last - first + 1 }, (_, i) => first + i);
    const report = pathsReport(router, modelOf(options), flow, ports);
    io.result(PathsDocument, report);
    if (!io.human) return;
    const rows = report.paths
      .slice(0, SHOWN)
      .map(({ source_port, nodes, links }) => [`${source_port}`, nodes.join(' '), links.join(' ')]);
    io.table({ head: ['sport', 'nodes', 'links'], rows, align: ['right'] });
    if (report.paths.length > SHOWN) io.line(`... ${report.paths.length - SHOWN} more (--json has all)`);
    io.line();
    const counts = new Map<string, number>();
    for (const { nodes, links } of report.paths) {
      const key = `${nodes.join(' ')}\0${links.join(' ')}`;
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    io.line(`${report.paths.length} flows on ${report.distinct_paths} distinct paths`);
    const byPath = [...counts].sort(([, a], [, b]) => b - a).slice(0, SHOWN);
    io.table({
      head: ['flows', 'path'],
      rows: byPath.map(([key, count]) => [`${count}`, key.split('\0')[0] ?? '']),
      align: ['right'],
    });
  },
});
