/**
 * Ordinary network programs under socket-run, in every mode, compared with their section of COMPATIBILITY.md. `npm run compat`
 * writes that section anew from such a run (RDMAKIT_WRITE_COMPATIBILITY=1).
 */

import { afterAll, beforeAll, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { recordedCell, section, WRITING, writeSection } from './lib/compatibility.ts';
import { Network } from './lib/network.ts';
import { requireAll } from './lib/requirements.ts';
import { Bench, MODES, type ModeName } from './socket-compat/bench.ts';
import { type Line, render } from './socket-compat/document.ts';
import { NEEDED, ROWS } from './socket-compat/programs.ts';
import type { Row } from './socket-compat/row.ts';

const TEST_LIMIT_MS = 150_000;
/** Cells of a row that run at the same time. */
const LANES = 2;

const lines: Line[] = ROWS.map(({ from, program, note }) => ({ from, program, note, cells: {} }));
let network: Network;
let base: string;

beforeAll(async () => {
  requireAll(NEEDED);
  // Not in /tmp, which servers that give up their privileges may not see into.
  base = mkdtempSync(join('/var/tmp', `rk${process.pid}-programs-`));
  chmodSync(base, 0o755);
  network = await Network.create();
}, 60_000);

afterAll(() => {
  for (const { netns } of network ? [network.a, network.b] : []) endAll(netns);
  network?.remove();
  if (base) rmSync(base, { recursive: true, force: true });
});

/** Servers that made themselves daemons outlive those who started them; everything in our namespaces was started here. */
function endAll(netns: string): void {
  const listing = spawnSync('ip', ['netns', 'pids', netns], { encoding: 'utf8' });
  for (const pid of listing.stdout.split('\n').filter((line) => line !== ''))
    process.kill(Number(pid), 'SIGKILL');
}

/** A cell: its verdict, or how it failed. */
async function runCell(row: Row, mode: ModeName): Promise<string> {
  const bench = new Bench(mode, network, base);
  const fault = await row.run(bench).then(
    () => undefined,
    (error: Error) => error,
  );
  const outcome = await bench.conclude(row.brief === true).catch((error: Error) => error);
  const failed = fault ?? (outcome instanceof Error ? outcome : undefined);
  if (failed === undefined) return `${outcome}`;
  console.log(`${mode}: ${row.program}: ${failed.message}`);
  return `FAILED: ${failed.message.split('\n')[0]}`;
}

/** A cell that failed, or is not as recorded, has a second try, and both are printed. */
async function tryCell(row: Row, mode: ModeName, recorded: string | undefined): Promise<string> {
  const first = await runCell(row, mode);
  if (WRITING ? !first.startsWith('FAILED') : first === recorded) return first;
  console.log(`${mode}: ${row.program}: the first try: ${first}`);
  const second = await runCell(row, mode);
  console.log(`${mode}: ${row.program}: the second try: ${second}`);
  return second;
}

for (const [i, row] of ROWS.entries()) {
  test(
    row.program,
    async () => {
      const cells = lines[i]?.cells ?? {};
      const modes = MODES.filter((mode) => !row.not?.includes(mode));
      const expected = Object.fromEntries(
        modes.map((mode) => [mode, recordedCell(render([]), row.program, MODES.indexOf(mode) + 2)]),
      );
      const lane = async (): Promise<void> => {
        for (let mode = modes.shift(); mode !== undefined; mode = modes.shift())
          cells[mode] = await tryCell(row, mode, expected[mode]);
      };
      await Promise.all(Array.from({ length: LANES }, lane));
      if (!WRITING) expect(cells).toEqual(expected);
    },
    TEST_LIMIT_MS,
  );
}

test('the section of COMPATIBILITY.md is what this run found', () => {
  const text = render(lines);
  if (WRITING) writeSection(text);
  else expect(text).toBe(section(text));
});
