/** Tables for people: cli-table3 without borders, numbers to the right, cut to the terminal's width. */

import Table from 'cli-table3';

export interface TableSpec {
  head: string[];
  rows: string[][];
  /** One a column; missing ones are 'left'. */
  align?: ('left' | 'right')[];
}

const NO_LINES = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: '  ',
};

/** The table as text with a final newline. `paintHead` colours the heading. */
export function renderTable(spec: TableSpec, paintHead: (text: string) => string): string {
  const table = new Table({
    head: spec.head.map(paintHead),
    colAligns: spec.head.map((_, column) => spec.align?.[column] ?? 'left'),
    chars: NO_LINES,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
  });
  table.push(...spec.rows);
  const lines = table.toString().split('\n');
  return `${lines.map((line) => line.trimEnd()).join('\n')}\n`;
}
