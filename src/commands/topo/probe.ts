/** `topo probe`: measures the matrix of a network, emulated or real. */

import { defineCommand, usageError } from '../../cli/command.ts';
import { defineDocument } from '../../cli/documents.ts';
import { duration, flag, integer, rate } from '../../cli/options.ts';
import { formatRate } from '../../cli/units.ts';
import { ExitCode } from '../../errors.ts';
import { sshWords } from '../../topo/discover/ssh.ts';
import { pick } from '../../topo/emulate/state.ts';
import { matrixOf, type ProbePair, ProbeReport, probe } from '../../topo/probe/probe.ts';
import { emulated, overSsh } from '../../topo/probe/sites.ts';
import { shortTime } from '../../topo/quantity.ts';
import { nameOption } from './emulate.ts';
import { sshOption } from './shared.ts';

export const ProbeDocument = defineDocument('topo-probe', 1, ProbeReport);

function progress({
  from,
  to,
  rate_bps,
  saturated,
  rtt_ns,
  loss_ratio,
  loss_low,
  loss_high,
}: ProbePair): string {
  if (rtt_ns === null) return `${from} > ${to}: no answer`;
  const percent = (ratio: number): string => `${Number((ratio * 100).toPrecision(3))}%`;
  const loss =
    loss_high < 0.001 ? '' : `, loss ${percent(loss_ratio)} (${percent(loss_low)} to ${percent(loss_high)})`;
  return `${from} > ${to}: ${saturated ? '' : 'at least '}${formatRate(rate_bps)}, ${shortTime(rtt_ns)}${loss}`;
}

export const probeSpec = defineCommand({
  name: 'probe',
  summary: 'measure rate, round-trip time and loss between all nodes of a network, as a matrix',
  description: [
    'Measures between every two hosts (or sites) of an emulation, or between the HOSTs named, which ssh reaches: one pair ' +
      'after the other, or several at a time that share no direction of a link and no node. It prints the matrix that topo ' +
      'generate wan reads.',
    'UDP packets are sent faster than the narrowest link takes them, and what arrives is the rate; what is lost at random is ' +
      'counted apart, at half of the rate, and added. So a lossy link is not underrated, as it would be with TCP. Rates are of ' +
      'whole Ethernet frames, as in the topology. The round-trip time is the least of 40, by the time stamps of the kernels. A ' +
      'loss whose interval of 95 % confidence begins below 0.01 % is not written into the matrix.',
    'Hosts get a small static program (rdmakit-probe) into a temporary folder, which is removed at the end. Emulations need root.',
  ],
  positionals: [
    { name: 'HOST', doc: 'as ssh takes it; the emulation when none is named', optional: true, many: true },
  ],
  options: {
    name: nameOption,
    ssh: sshOption,
    time: duration({ doc: 'how long each rate is measured, and at most each loss', default: '1s' }),
    lossPackets: integer({ doc: 'packets to count for the loss', min: 10, max: 4_000_000, default: '50000' }),
    limit: rate({ doc: 'send no faster than this', default: '10Gbps' }),
    parallel: integer({ doc: 'pairs at the same time, at most', min: 1, max: 64, default: '1' }),
    direct: flag({ doc: 'only pairs that have a link' }),
  },
  documents: true,
  examples: [
    {
      command: 'rdmakit topo probe --name wan1 --direct > measured.csv',
      does: 'measures the links of an emulated WAN',
    },
    { command: 'rdmakit topo probe node1 node2 node3 --limit 1Gbps', does: 'measures between three hosts' },
    {
      command: 'rdmakit topo generate wan measured.csv --json',
      does: 'makes a topology of what was measured',
    },
  ],
  exits: [
    { code: ExitCode.badAnswer, when: 'some pair got no answer' },
    { code: ExitCode.peer, when: 'a host cannot be asked' },
  ],
  async run({ options, args }, io) {
    if (args.length === 1) throw usageError('a matrix needs at least two HOSTs', 'topo probe');
    if (args.length > 0 && options.name !== undefined)
      throw usageError('--name and HOST exclude each other', 'topo probe');
    const sites =
      args.length > 0
        ? await overSsh(sshWords(options.ssh), args, io.stop)
        : await emulated(pick(options.name));
    const report = await probe(sites, {
      time_ns: options.time,
      lossPackets: options.lossPackets,
      limit_bps: options.limit,
      parallel: options.parallel,
      direct: options.direct,
      signal: io.stop,
      onPair: (row) => io.note(progress(row)),
    });
    io.result(ProbeDocument, report);
    if (io.human) io.raw(matrixOf(report));
    return report.pairs.some(({ rtt_ns }) => rtt_ns === null) ? ExitCode.badAnswer : undefined;
  },
});
