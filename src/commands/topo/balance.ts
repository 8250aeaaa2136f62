/** `topo balance`: how evenly flows load the links, and source ports that load them evenly. */

import { defineCommand, usageError } from '../../cli/command.ts';
import { defineDocument } from '../../cli/documents.ts';
import type { Io } from '../../cli/io.ts';
import { choice, flag, integer, rate, text } from '../../cli/options.ts';
import { formatRate } from '../../cli/units.ts';
import { ExitCode } from '../../errors.ts';
import { balance } from '../../topo/ecmp/balance.ts';
import { LoadReport } from '../../topo/ecmp/report.ts';
import { Router } from '../../topo/ecmp/routes.ts';
import { PATTERNS } from '../../topo/ecmp/traffic.ts';
import { readTopology } from '../../topo/formats/index.ts';
import { Graph } from '../../topo/model/graph.ts';
import { flowOptions, MODEL_TEXT, modelOf, protocolOf } from './flow-options.ts';
import { FILE, fromOption } from './shared.ts';

export const LoadDocument = defineDocument('topo-load', 1, LoadReport);
const SHOWN = 16;

function print(report: LoadReport, io: Io): void {
  const busiest = [...report.links]
    .filter(({ flows }) => flows > 0)
    .sort((a, b) => (b.utilisation ?? 0) - (a.utilisation ?? 0) || b.rate_bps - a.rate_bps);
  io.table({
    head: ['link', 'direction', 'flows', 'load', 'of capacity'],
    rows: busiest
      .slice(0, SHOWN)
      .map(({ id, from, to, flows, rate_bps, utilisation }) => [
        id,
        `${from} > ${to}`,
        `${flows}`,
        formatRate(rate_bps),
        utilisation === null ? '-' : `${(utilisation * 100).toFixed(1)}%`,
      ]),
    align: ['left', 'left', 'right', 'right', 'right'],
  });
  if (busiest.length > SHOWN) io.line(`... ${busiest.length - SHOWN} more links with load (--json has all)`);
  io.line();
  const uneven = [...report.choices].sort((a, b) => b.max_over_mean - a.max_over_mean).slice(0, SHOWN);
  io.table({
    head: ['choice at', 'flows', 'by link', 'max/mean', 'Jain', ''],
    rows: uneven.map(({ node, flows, links, max_over_mean, jain, polarised }) => [
      node,
      `${flows}`,
      links
        .slice(0, 8)
        .map(({ flows: count }) => count)
        .join(' ') + (links.length > 8 ? ' ...' : ''),
      max_over_mean.toFixed(3),
      jain.toFixed(3),
      polarised ? 'polarised' : '',
    ]),
    align: ['left', 'right', 'left', 'right', 'right'],
  });
  io.line();
  io.line(
    `${report.flows} flows: max/mean ${report.max_over_mean.toFixed(3)}, Jain ${report.jain.toFixed(3)} over the links that were chosen among`,
  );
  if (report.max_utilisation !== null)
    io.line(`busiest link: ${(report.max_utilisation * 100).toFixed(1)}% of its capacity`);
  if (report.optimum_utilisation !== null) {
    const over =
      report.max_utilisation === null
        ? ''
        : `, this is ${(report.max_utilisation / report.optimum_utilisation).toFixed(3)} of it`;
    io.line(`optimum over shortest paths: ${(report.optimum_utilisation * 100).toFixed(1)}%${over}`);
  }
  if (report.chosen.length > 0) {
    io.line();
    io.table({
      head: ['src', 'dst', 'sport', 'flow label'],
      rows: report.chosen
        .slice(0, SHOWN)
        .map(({ source, destination, source_port, flow_label }) => [
          source,
          destination,
          `${source_port}`,
          flow_label === null ? '-' : `0x${flow_label.toString(16).padStart(5, '0')}`,
        ]),
      align: ['left', 'left', 'right', 'right'],
    });
    if (report.chosen.length > SHOWN) io.line(`... ${report.chosen.length - SHOWN} more (--json has all)`);
  }
}

export const balanceSpec = defineCommand({
  name: 'balance',
  summary: 'predict the load of every link under many flows, or choose source ports that even it out',
  description: [
    'Sends --flows flows from --src to --dst, or between the pairs of --pattern, with source ports in turn, and adds up ' +
      'what each link carries: max/mean and the fairness index of Jain for every place where flows have a choice.',
    MODEL_TEXT,
    'With --choose it picks paths so that the busiest link is as idle as possible, and for each flow a source port (and ' +
      'RoCE v2 flow label) that takes this path. With --optimum it also solves the linear program that no choice can beat.',
    'A place is called polarised when some link stays unused although chance alone would leave it unused less than once in ' +
      'a thousand times: then its hash repeats what an earlier switch did.',
  ],
  positionals: [FILE],
  options: {
    from: fromOption,
    src: text({ doc: 'node that sends', value: 'NODE' }),
    dst: text({ doc: 'node that receives', value: 'NODE' }),
    pattern: choice(PATTERNS, { doc: 'who sends to whom without --src and --dst', default: 'permutation' }),
    flows: integer({ doc: 'flows between every two nodes that talk', min: 1, max: 1_000_000, default: '64' }),
    flowRate: rate({ doc: 'rate of a flow', default: '1Gbps' }),
    ...flowOptions,
    choose: flag({ doc: 'choose source ports for an even load' }),
    optimum: flag({ doc: 'also compute the least possible load of the busiest link' }),
    strict: flag({ doc: 'exit with 1 when hashing is polarised or a flow finds no port' }),
  },
  documents: true,
  examples: [
    {
      command: 'rdmakit topo balance t.json --src h0 --dst h9 --flows 64',
      does: 'shows how 64 flows spread',
    },
    {
      command: 'rdmakit topo balance t.json --src h0 --dst h9 --flows 64 --choose',
      does: 'chooses their source ports',
    },
    {
      command: 'rdmakit topo balance t.json --model crc --json > load.json',
      does: 'predicts loads for topo overlay',
    },
  ],
  exits: [
    {
      code: ExitCode.badAnswer,
      when: 'with --strict, hashing is polarised or a flow finds no port for its path',
    },
  ],
  async run({ options, args }, io) {
    const { src, dst } = options;
    if ((src === undefined) !== (dst === undefined))
      throw usageError('--src and --dst go together', 'topo balance');
    const router = new Router(new Graph(await readTopology(args[0] ?? '-', options.from)));
    const pair =
      src === undefined || dst === undefined
        ? undefined
        : { source: router.find(src), destination: router.find(dst) };
    const report = await balance(router, modelOf(options), {
      pair,
      pattern: options.pattern,
      flows: options.flows,
      rate_bps: options.flowRate,
      protocol: protocolOf(options.protocol),
      destinationPort: options.dport,
      ports: options.sport,
      choose: options.choose,
      optimum: options.optimum,
    });
    io.result(LoadDocument, report);
    if (io.human) print(report, io);
    if (report.polarised)
      io.warn(
        'hashing is polarised: switches repeat the choice of the one before; give them different seeds (or, for crc, hash functions)',
      );
    if (report.unplaced > 0)
      io.warn(`${report.unplaced} flows found no port that takes their path; they keep the hashed one`);
    return options.strict && (report.polarised || report.unplaced > 0) ? ExitCode.badAnswer : undefined;
  },
});
