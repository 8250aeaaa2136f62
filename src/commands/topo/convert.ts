/** `topo convert`: reads a topology in one format and writes it in another. */

import { defineCommand } from '../../cli/command.ts';
import { choice } from '../../cli/options.ts';
import { formatTopology, READABLE, readTopology, WRITABLE } from '../../topo/formats/index.ts';
import { FILE, fromOption } from './shared.ts';

export const convertSpec = defineCommand({
  name: 'convert',
  summary: 'translate a topology between formats: JSON, DOT, GraphML, Mermaid, drawio, ...',
  description: [
    `Reads ${READABLE.join(', ')}; writes ${WRITABLE.join(', ')}. The format of FILE is recognised by its beginning.`,
    'JSON, DOT, GraphML, drawio and containerlab files keep everything. Mermaid keeps ids, kinds, capacity, delay and ' +
      'loss; ns3 keeps the graph with capacity, delay and loss, and numbers the nodes; slurm keeps the hierarchy; matrix ' +
      'keeps one link a pair; htsim describes only regular Clos networks of two or three tiers.',
  ],
  positionals: [FILE],
  options: {
    from: fromOption,
    to: choice(WRITABLE, { short: 't', doc: 'format to write', value: 'FORMAT', default: 'json' }),
  },
  examples: [
    { command: 'rdmakit topo convert t.json --to graphml > t.graphml', does: 'writes GraphML' },
    {
      command: 'rdmakit topo convert Abilene.graphml --to json',
      does: 'reads a network of the Topology Zoo',
    },
    {
      command: 'rdmakit topo generate leaf-spine --json | rdmakit topo convert - --to slurm',
      does: 'writes a topology.conf for Slurm',
    },
  ],
  async run({ options, args }, io) {
    const topology = await readTopology(args[0] ?? '-', options.from);
    io.raw(await formatTopology(topology, options.to));
  },
});
