/** `topo diff`: what changed between two topologies. */

import { defineCommand, usageError } from '../../cli/command.ts';
import { defineDocument } from '../../cli/documents.ts';
import { ExitCode } from '../../errors.ts';
import { DiffReport, diff } from '../../topo/diff.ts';
import { readTopology } from '../../topo/formats/index.ts';

const Diff = defineDocument('topo-diff', 1, DiffReport);

export const diffSpec = defineCommand({
  name: 'diff',
  summary: 'compare two topologies: nodes and links that came, went or changed',
  description: [
    'Links are paired by id, then by ends and ports, then by ends; the direction in which a link is written does not matter.',
  ],
  positionals: [
    { name: 'BEFORE', doc: 'topology in any format (- is standard input)' },
    { name: 'AFTER', doc: 'topology in any format (- is standard input)' },
  ],
  options: {},
  documents: true,
  examples: [
    {
      command: 'rdmakit topo diff wanted.json found.json',
      does: 'says what is cabled otherwise than planned',
    },
  ],
  exits: [{ code: ExitCode.badAnswer, when: 'they differ' }],
  async run({ args }, io) {
    const [before = '-', after = '-'] = args;
    if (before === '-' && after === '-')
      throw usageError('BEFORE and AFTER cannot both be standard input', 'topo diff');
    const report = diff(await readTopology(before), await readTopology(after));
    io.result(Diff, report);
    if (io.human && !report.same) {
      io.table({
        head: ['', 'id', 'between', 'fields'],
        rows: report.changes.map(({ what, id, change, between, fields }) => [
          `${what} ${change}`,
          id,
          between ?? '-',
          fields
            .map(({ name, before: from, after: to }) => `${name}: ${from ?? 'none'} > ${to ?? 'none'}`)
            .join(', ') || '-',
        ]),
      });
    }
    io.note(report.same ? 'no difference' : `${report.changes.length} differences`);
    return report.same ? undefined : ExitCode.badAnswer;
  },
});
