/**
 * Programs that others wrote, in every mode, compared with the first section of COMPATIBILITY.md. `npm run compat` writes that
 * section anew from such a run (RDMAKIT_WRITE_COMPATIBILITY=1).
 */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { type Line, MODES, render } from './compat/document.ts';
import { Places } from './compat/places.ts';
import { type Prepared, prepare } from './compat/prepare.ts';
import { NEEDED, ROWS } from './compat/programs.ts';
import { recordedCell, section, WRITING, writeSection } from './lib/compatibility.ts';
import { requireAll } from './lib/requirements.ts';

const TEST_LIMIT_MS = 150_000;
/** Each failure is printed; a second attempt at all cells would take five minutes. */
const DEFAULT_TRIES = 2;

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

for (const mode of MODES) {
  describe(mode, () => {
    for (const [i, row] of ROWS.entries()) {
      if (row.not?.includes(mode)) continue;
      test(
        row.program,
        async () => {
          const cells = lines[i]?.cells ?? {};
          let outcome = '';
          for (let left = row.tries ?? DEFAULT_TRIES; left > 0 && outcome !== 'ok'; left--) {
            outcome = await row.run(places.mode(mode), prepared).then(
              () => 'ok',
              (error: Error) => {
                console.log(`${mode}: ${row.program}: ${error.message}`);
                return `FAILED: ${error.message.split('\n')[0]}`;
              },
            );
          }
          cells[mode] = outcome;
          const column = MODES.indexOf(mode) + 2;
          if (!WRITING) expect(outcome).toBe(recordedCell(render([]), row.program, column));
        },
        TEST_LIMIT_MS,
      );
    }
  });
}

test('COMPATIBILITY.md is what this run found', () => {
  const text = render(lines);
  if (WRITING) writeSection(text);
  else expect(text).toBe(section(text));
});
