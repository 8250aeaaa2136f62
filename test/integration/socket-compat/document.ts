/** The section of COMPATIBILITY.md about programs under socket-run. */

import { codeCell, inCell } from '../lib/compatibility.ts';
import { MODE_DOC, MODES, type ModeName } from './bench.ts';
import type { Row } from './row.ts';

export type Line = Pick<Row, 'from' | 'program' | 'note'> & { cells: Partial<Record<ModeName, string>> };

const HEAD = `## Programs under socket-run

Programs that others wrote, as Debian 12 ships them, unmodified. Each cell is a run of both ends: they must end well, and what came must be what was sent.
The word is what the report of the run says of their TCP connections.

`;

const TAIL = `
- **ring**: bytes went through a ring in shared memory
- **tcp (reason)**: all stayed in the kernel, for this reason (\`rdmakit socket-run --help\`, reports); \`no-library\`: the other end is not under socket-run
- **ring or TCP ok**: its connections carry one request each, and whether a ring takes part is a matter of microseconds; all that came was right
- **RC or TCP ok**, **UD or UDP ok**: the transport is chosen by measurement while it runs, and all that came was right
`;

export function render(lines: readonly Line[]): string {
  const table = [
    ['package', 'program', ...MODES],
    ['---', '---', ...MODES.map(() => '---')],
    ...lines.map(({ from, program, cells }) => [
      ...[from, codeCell(program)],
      ...MODES.map((mode) => inCell(cells[mode] ?? '-')),
    ]),
  ].map((cells) => `| ${cells.join(' | ')} |\n`);
  const modes = MODES.map((mode) => `- **${mode}**: ${MODE_DOC[mode]}\n`);
  const notes = lines.flatMap(({ program, note }) => (note ? [`- \`${program}\`: ${note}\n`] : []));
  return `${HEAD}${table.join('')}\n${modes.join('')}${TAIL}${notes.length > 0 ? '\n' : ''}${notes.join('')}`;
}
