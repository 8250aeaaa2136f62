/**
 * Tables for people: cli-table3 without borders. A table that is wider than the terminal becomes one block of lines a row,
 * because lines folded by the terminal cannot be read as columns.
 */

import { stripVTControlCharacters } from 'node:util';

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

/** One block a row: `head  value` lines, blocks apart by an empty line; empty cells are left out. */
function renderBlocks(spec: TableSpec, paintHead: (text: string) => string): string {
  const widest = Math.max(0, ...spec.head.map((title) => title.length));
  const blocks = spec.rows.map((row) =>
    row.map((cell, column) => {
      const title = spec.head[column] ?? '';
      return cell === '' ? '' : `${paintHead(title)}${' '.repeat(widest - title.length + 2)}${cell}\n`;
    }),
  );
  return blocks.map((lines) => lines.join('')).join('\n');
}

/**
 * The table as text with a final newline. `paintHead` colours the headings; `columns` is the width it should fit in,
 * Infinity where there is no terminal.
 */
export function renderTable(spec: TableSpec, paintHead: (text: string) => string, columns: number): string {
  const table = new Table({
    head: spec.head.map(paintHead),
    colAligns: spec.head.map((_, column) => spec.align?.[column] ?? 'left'),
    chars: NO_LINES,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
  });
  table.push(...spec.rows);
  const lines = table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd());
  const widest = Math.max(...lines.map((line) => stripVTControlCharacters(line).length));
  return widest <= columns ? `${lines.join('\n')}\n` : renderBlocks(spec, paintHead);
}
