/** COMPATIBILITY.md: each test that makes a table of programs owns a section of it, and leaves the others alone. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './requirements.ts';

const FILE = join(ROOT, 'COMPATIBILITY.md');
/** Whether this run writes its section instead of comparing it. */
export const WRITING = process.env.RDMAKIT_WRITE_COMPATIBILITY === '1';
/** What a cell without a record is compared with. */
const UNRECORDED = 'in COMPATIBILITY.md: npm run compat';

/** The document in sections, each from its heading of second rank; what comes before the first is one too. */
function sections(): string[] {
  const all = readFileSync(FILE, 'utf8').split(/^(?=## )/m);
  return all.map((text) => `${text.trimEnd()}\n`);
}

const headingOf = (text: string): string => text.slice(0, text.indexOf('\n') + 1);

/** The section with the heading (first line) of `text`; empty when there is none. */
export function section(text: string): string {
  return sections().find((each) => headingOf(each) === headingOf(text)) ?? '';
}

/** Puts a section in the place of the one with the same heading, or at the end. */
export function writeSection(text: string): void {
  const all = sections();
  const place = all.findIndex((each) => headingOf(each) === headingOf(text));
  all[place < 0 ? all.length : place] = text;
  writeFileSync(FILE, all.join('\n'));
}

/** The cell of a row in the checked-in section with the heading of `text`; `column` counts from 0. */
export function recordedCell(text: string, program: string, column: number): string {
  const row = section(text)
    .split('\n')
    .find((line) => line.includes(`| ${codeCell(program)} |`));
  return row?.split(' | ')[column]?.replace(/ \|$/, '') ?? UNRECORDED;
}

/** Text as it stands in a table, and as code in one. */
export const inCell = (text: string): string => text.replaceAll('|', '\\|');
export const codeCell = (text: string): string => `\`${inCell(text)}\``;
