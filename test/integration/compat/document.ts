/** The first section of COMPATIBILITY.md: made of what a run of the tests found, and read back to compare the next run with it. */

import { codeCell, inCell } from '../lib/compatibility.ts';
import { MODE_DOC, type ModeName } from './places.ts';

export const MODES = Object.keys(MODE_DOC) as ModeName[];

export interface Line {
  from: string;
  program: string;
  /** `ok`, `FAILED: reason`, or `-` where it does not apply. */
  cells: Partial<Record<ModeName, string>>;
  /** Why it does not apply somewhere, or what its `ok` means. */
  note?: string | undefined;
}

const HEAD = `# Compatibility

RDMA programs that others wrote, as Debian 12 ships them, on the embedded device, under what \`rdmakit verbs-run\` sets.
This file is written by \`npm run compat\` and compared with every run of the tests; nothing in it is written by hand.
[Ordinary network programs under \`rdmakit socket-run\`](#programs-under-socket-run) come after these.

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
  const notes = lines.flatMap(({ program, note }) => (note ? [`- \`${program}\`: ${note}\n`] : []));
  const modes = MODES.map((mode) => `- **${mode}**: ${MODE_DOC[mode]}\n`);
  const cells = lines.flatMap((line) => MODES.map((mode) => line.cells[mode] ?? '-'));
  const ok = cells.filter((cell) => cell === 'ok').length;
  const all = cells.filter((cell) => cell !== '-').length;
  return `${HEAD}${table.join('')}\n${ok} of ${all} work. Both ends must end well, and their results be right.\n\n${modes.join('')}\n${notes.join('')}`;
}
