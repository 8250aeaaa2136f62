/**
 * `npm run perf`: runs every test/perf/perf-*.ts, prints medians and which targets they meet.
 * `npm run perf -- rate` runs the files with that word in their name. Exit code 1 when a target is missed.
 */

import { readdirSync } from 'node:fs';
import { renderTable } from '../../src/cli/table.ts';
import { judge, median, type Plan, sampleAll } from './harness.ts';

const words = process.argv.slice(2);
const files = readdirSync(import.meta.dirname)
  .filter((name) => /^perf-.*\.ts$/.test(name))
  .filter((name) => words.length === 0 || words.some((word) => name.includes(word)))
  .sort();

const plain = (text: string): string => text;
const number = (value: number): string =>
  Number.isFinite(value) ? String(Number(value.toPrecision(3))) : '-';
let missed = 0;
let met = 0;

for (const file of files) {
  const { plan } = (await import(`./${file}`)) as { plan: Plan };
  console.log(`\n${plan.title} (${plan.rounds} interleaved rounds)`);
  try {
    const samples = await sampleAll(plan);
    const rows = plan.probes.map(({ name, unit }) => {
      const values = samples.get(name) ?? [];
      return [name, number(median(values)), number(Math.min(...values)), number(Math.max(...values)), unit];
    });
    const align: ('left' | 'right')[] = ['left', 'right', 'right', 'right', 'left'];
    process.stdout.write(
      renderTable(
        { head: ['probe', 'median', 'min', 'max', 'unit'], rows, align },
        plain,
        Number.POSITIVE_INFINITY,
      ),
    );
    for (const { target, measured, ok } of judge(plan.targets, samples)) {
      if (ok) met += 1;
      else missed += 1;
      const limit = target.of ? `${target.limit} x ${target.of}` : `${target.limit}`;
      const value = target.of ? `${number(measured)} x` : number(measured);
      console.log(`${ok ? 'met   ' : 'MISSED'} ${target.probe} ${target.comparison} ${limit}: ${value}`);
    }
  } catch (error) {
    missed += plan.targets.length;
    console.log(`FAILED ${file}: ${error instanceof Error ? (error.stack ?? error.message) : error}`);
  }
}
console.log(`\n${met} met, ${missed} missed`);
process.exitCode = missed > 0 || files.length === 0 ? 1 : 0;
