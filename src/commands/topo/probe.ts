/** `topo probe`: measures the matrix of an emulated network. */

import { defineCommand } from '../../cli/command.ts';
import { defineDocument } from '../../cli/documents.ts';
import { duration, flag, integer, rate } from '../../cli/options.ts';
import { formatRate } from '../../cli/units.ts';
import { pick } from '../../topo/emulate/state.ts';
import { matrixOf, ProbeReport, probe } from '../../topo/probe/probe.ts';
import { nameOption } from './emulate.ts';

const Probe = defineDocument('topo-probe', 1, ProbeReport);

export const probeSpec = defineCommand({
  name: 'probe',
  summary: 'measure rate, round-trip time and loss between all nodes of an emulation',
  description: [
    'Sends UDP packets between every two hosts (or sites) of an emulation, one pair after the other or several that share ' +
      'no link and no node, and prints the matrix that topo generate wan reads.',
    'Rates are of whole Ethernet frames, as in the topology. The round-trip time is the least of several. Loss is counted ' +
      'at a tenth of the rate; below one packet in a thousand it is taken as none. Needs root.',
  ],
  options: {
    name: nameOption,
    time: duration({ doc: 'how long each rate is measured', default: '1s' }),
    lossPackets: integer({ doc: 'packets to count for the loss', min: 10, max: 1_000_000, default: '3000' }),
    limit: rate({ doc: 'send no faster than this', default: '500Mbps' }),
    parallel: integer({ doc: 'pairs at the same time', min: 1, max: 64, default: '1' }),
    direct: flag({ doc: 'only pairs that have a link' }),
  },
  documents: true,
  examples: [
    {
      command: 'rdmakit topo probe --name wan1 --direct > measured.csv',
      does: 'measures the links of a WAN',
    },
    {
      command: 'rdmakit topo generate wan measured.csv --json',
      does: 'makes a topology of what was measured',
    },
  ],
  async run({ options }, io) {
    const report = await probe(pick(options.name), {
      time_ns: options.time,
      lossPackets: options.lossPackets,
      limit_bps: options.limit,
      parallel: options.parallel,
      direct: options.direct,
      signal: io.stop,
      onPair: ({ from, to, rate_bps }) => io.note(`${from} > ${to}: ${formatRate(rate_bps)}`),
    });
    io.result(Probe, report);
    if (io.human) io.raw(matrixOf(report));
  },
});
