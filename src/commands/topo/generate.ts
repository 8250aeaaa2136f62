/** `topo generate`: makes a topology from a few numbers, or from a matrix or map of others. */

import { defineCommand, usageError } from '../../cli/command.ts';
import type { Io } from '../../cli/io.ts';
import { custom, duration, integer, rate } from '../../cli/options.ts';
import { formatRate, UnitError } from '../../cli/units.ts';
import { readTopology } from '../../topo/formats/index.ts';
import { describe, GENERATORS, type GeneratorName, generate } from '../../topo/generate/index.ts';
import type { Topology } from '../../topo/model/schema.ts';
import { summarise } from '../../topo/summary.ts';
import { TopologyDocument } from './shared.ts';

/** Kinds that read a file instead. */
const FROM_FILES = ['wan', 'sndlib', 'zoo'];

function dimensions(text: string): number[] {
  if (!/^\d{1,6}(x\d{1,6})*$/.test(text))
    throw new UnitError(`'${text}' is not a size; write for example 4x4x4`);
  return text.split('x').map(Number);
}

function ratio(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(?::1)?$/.exec(text);
  if (!match || Number(match[1]) <= 0)
    throw new UnitError(`'${text}' is not a ratio; write for example 3 or 3:1`);
  return Number(match[1]);
}

function percent(text: string): number {
  const match = /^(\d+(?:\.\d+)?)%$/.exec(text);
  if (!match || Number(match[1]) > 100)
    throw new UnitError(`'${text}' is not a share of packets; write for example 0.1%`);
  return Number(match[1]) / 100;
}

const whole = (doc: string) => integer({ doc, min: 1, max: 100_000 });

/** Prints what is in a topology. */
export function printSummary(topology: Topology, io: Io): void {
  const { nodes, links } = summarise(topology);
  io.line(`${topology.name ?? 'topology'}: ${topology.nodes.length} nodes, ${topology.links.length} links`);
  io.line();
  io.table({
    head: ['nodes', 'count'],
    rows: nodes.map(({ what, count }) => [what, `${count}`]),
    align: ['left', 'right'],
  });
  io.line();
  io.table({
    head: ['links between', 'count', 'capacity', 'together'],
    rows: links.map(({ between, count, capacity, total_bps }) => [
      between,
      `${count}`,
      capacity,
      total_bps > 0 ? formatRate(total_bps) : '-',
    ]),
    align: ['left', 'right', 'right', 'right'],
  });
}

export const generateSpec = defineCommand({
  name: 'generate',
  summary: 'make a topology: fat-tree, leaf-spine, dragonfly, torus, WAN and others',
  description: [
    'Makes the graph of a network and prints it with --json for the other subcommands; without, it prints how many nodes ' +
      'and links there are.',
    `The kinds and what they take (with defaults): ${GENERATORS.map(describe).join('; ')}. A number option that the kind ` +
      'does not take is refused.',
    'Three kinds read FILE: wan (a table of sites with cells rate/rtt/loss such as 31.2Mbps/40ms/0.1%, comma or tab ' +
      'separated; - is no value), sndlib (XML or native) and zoo (GraphML or GML of the Topology Zoo).',
    'Links keep one end, the other end, ports, capacity, delay and loss; parallel cables are separate links.',
  ],
  positionals: [
    { name: 'KIND', doc: [...GENERATORS, ...FROM_FILES].join(', ') },
    { name: 'FILE', doc: 'for wan, sndlib and zoo (- is standard input)', optional: true },
  ],
  options: {
    k: integer({ doc: 'ports of a switch of a fat-tree, even', min: 2, max: 128 }),
    leaves: whole('leaf switches'),
    spines: whole('spine switches (of a plane)'),
    hosts: whole('hosts on a leaf, access switch, router or torus switch, or in a rail group'),
    parallel: whole('parallel cables between two switches'),
    oversubscription: custom(ratio, {
      doc: 'host capacity over uplink capacity of a leaf; sets the uplink rate',
      value: 'RATIO',
    }),
    pods: whole('pods of a three-tier network'),
    access: whole('access switches a pod'),
    aggregation: whole('aggregation switches a pod'),
    core: whole('core switches'),
    groups: whole('groups of a dragonfly or of a rail network'),
    routers: whole('routers in a group of a dragonfly'),
    globals: whole('global links of a router of a dragonfly'),
    rails: whole('rails: NICs of a host'),
    planes: whole('planes: separate networks, each NIC has a port in each'),
    dimensions: custom(dimensions, { doc: 'size of a torus, as in 4x4x4', value: 'AxBxC' }),
    rate: rate({ doc: 'capacity of host links', default: '100Gbps' }),
    uplinkRate: rate({ doc: 'capacity of links between switches; as --rate when absent' }),
    delay: duration({ doc: 'delay of every link' }),
    loss: custom(percent, { doc: 'share of packets that every link loses', value: 'PERCENT' }),
  },
  documents: true,
  examples: [
    {
      command: 'rdmakit topo generate fat-tree --k 16 --json > t.json',
      does: 'writes a fat-tree of 1024 hosts',
    },
    {
      command: 'rdmakit topo generate leaf-spine --leaves 8 --spines 4 --hosts 16 --oversubscription 3:1',
      does: 'counts nodes and links of an oversubscribed network',
    },
    {
      command: 'rdmakit topo generate torus --dimensions 4x4x4 --json',
      does: 'writes a three-dimensional torus',
    },
    { command: 'rdmakit topo generate wan matrix.csv --json', does: 'makes a WAN from a bandwidth matrix' },
  ],
  async run({ options, args }, io) {
    const [kind = '', file] = args;
    const topology = await make(kind, file, options);
    io.result(TopologyDocument, topology);
    if (io.human) printSummary(topology, io);
  },
});

type Given = Parameters<typeof generate>[1] & {
  rate: number;
  uplinkRate?: number | undefined;
  delay?: number | undefined;
  loss?: number | undefined;
};

async function make(
  kind: string,
  file: string | undefined,
  options: Omit<Given, 'rate_bps'>,
): Promise<Topology> {
  const { rate: rate_bps, uplinkRate: uplink_bps, delay: delay_ns, loss: loss_ratio, ...counts } = options;
  if (FROM_FILES.includes(kind)) {
    if (file === undefined) throw usageError(`topo generate ${kind} needs FILE`, 'topo generate');
    return readTopology(file, kind === 'wan' ? 'matrix' : undefined);
  }
  if (!(GENERATORS as readonly string[]).includes(kind)) {
    throw usageError(
      `unknown kind '${kind}'`,
      'topo generate',
      `one of ${[...GENERATORS, ...FROM_FILES].join(', ')}`,
    );
  }
  if (file !== undefined) throw usageError(`${kind} is made from numbers, not from ${file}`, 'topo generate');
  return generate(kind as GeneratorName, { ...counts, rate_bps, uplink_bps, delay_ns, loss_ratio });
}
