/**
 * Programs that others wrote, in every mode, compared with COMPATIBILITY.md. `npm run compat` writes that file anew from
 * such a run (RDMAKIT_WRITE_COMPATIBILITY=1).
 */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Line, MODES, render } from './compat/document.ts';
import { Places } from './compat/places.ts';
import { type Prepared, prepare } from './compat/prepare.ts';
import { NEEDED, ROWS } from './compat/programs.ts';
import { ROOT, requireAll } from './lib/requirements.ts';

const FILE = join(ROOT, 'COMPATIBILITY.md');
const WRITING = process.env.RDMAKIT_WRITE_COMPATIBILITY === '1';
const TEST_LIMIT_MS = 150_000;

const lines: Line[] = ROWS.map(({ from, program, note }) => ({ from, program, note, cells: {} }));
let places: Places;
let prepared: Prepared;

beforeAll(async () => {
  requireAll(NEEDED);
  prepared = await prepare();
  places = await Places.create();
}, 60_000);

afterAll(() => {
  places?.remove();
  prepared?.remove();
});

/** The cell of a case in the checked-in table. */
function recorded(program: string, mode: string): string | undefined {
  const table = readFileSync(FILE, 'utf8').split('\n');
  const cells = table.find((line) => line.includes(`| \`${program}\` |`))?.split(' | ');
  return cells?.[MODES.indexOf(mode as (typeof MODES)[number]) + 2]?.replace(/ \|$/, '');
}

for (const mode of MODES) {
  describe(mode, () => {
    for (const [i, row] of ROWS.entries()) {
      if (row.not?.includes(mode)) continue;
      test(
        row.program,
        async () => {
          const cells = lines[i]?.cells ?? {};
          let outcome = '';
          for (let left = row.tries ?? 1; left > 0 && outcome !== 'ok'; left--) {
            outcome = await row.run(places.mode(mode), prepared).then(
              () => 'ok',
              (error: Error) => {
                console.log(`${mode}: ${row.program}: ${error.message}`);
                return `FAILED: ${error.message.split('\n')[0]}`;
              },
            );
          }
          cells[mode] = outcome;
          if (!WRITING)
            expect(outcome).toBe(recorded(row.program, mode) ?? 'in COMPATIBILITY.md: npm run compat');
        },
        TEST_LIMIT_MS,
      );
    }
  });
}

test('COMPATIBILITY.md is what this run found', () => {
  const text = render(lines);
  if (WRITING) writeFileSync(FILE, text);
  else expect(text).toBe(readFileSync(FILE, 'utf8'));
});
