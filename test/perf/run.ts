/**
 * `npm run perf`: runs every test/perf/perf-*.ts, prints medians and which targets they meet. It reports and never judges:
 * the exit code is 1 only when something could not be measured.
 *
 *   npm run perf -- --only send --only qps   the files with these words in their names
 *   npm run perf -- --probe redis            the probes with a word in their names, and the targets that need no other
 *   npm run perf -- --short                  one round of short measurements: shows that all works, not how fast it is
 *   npm run perf -- --json                   one JSON document on standard output
 *
 * Wants two cores with nothing else on them, and root for the network namespaces.
 */

import { readdirSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { renderTable } from '../../src/cli/table.ts';
import { requireAll } from '../integration/lib/requirements.ts';
import { type Effort, judge, median, type Plan, sampleAll, type Verdict } from './harness.ts';

const FULL: Effort = { rounds: 5, duration_ms: 1000, scale: 1 };
const SHORT: Effort = { rounds: 1, duration_ms: 100, scale: 0.05 };

interface Group {
  name: string;
  title: string;
  rounds: number;
  probes: { name: string; unit: string; median: number; samples: number[] }[];
  verdicts: Verdict[];
  error?: string;
}

const number = (value: number): string =>
  Number.isFinite(value) ? String(Number(value.toPrecision(3))) : '-';

async function measure(name: string, plan: Plan): Promise<Group> {
  const { title, rounds, targets } = plan;
  try {
    const samples = await sampleAll(plan);
    const probes = plan.probes.map((probe) => {
      const values = samples.get(probe.name) ?? [];
      return { name: probe.name, unit: probe.unit, median: median(values), samples: values };
    });
    return { name, title, rounds, probes, verdicts: judge(targets, samples) };
  } catch (error) {
    const text = error instanceof Error ? (error.stack ?? error.message) : `${error}`;
    return { name, title, rounds, probes: [], verdicts: [], error: text };
  }
}

function print({ title, rounds, probes, verdicts, error }: Group): void {
  console.log(`\n${title} (${rounds} interleaved rounds)`);
  if (error !== undefined) {
    console.log(`not measured: ${error}`);
    return;
  }
  const rows = probes.map((probe) => [
    ...[
      probe.name,
      number(probe.median),
      number(Math.min(...probe.samples)),
      number(Math.max(...probe.samples)),
    ],
    probe.unit,
  ]);
  const align: ('left' | 'right')[] = ['left', 'right', 'right', 'right', 'left'];
  const table = { head: ['probe', 'median', 'min', 'max', 'unit'], rows, align };
  process.stdout.write(renderTable(table, (text) => text, Number.POSITIVE_INFINITY));
  for (const { target, measured, ok } of verdicts) {
    const limit = target.of ? `${target.limit} x ${target.of}` : `${target.limit}`;
    const value = target.of ? `${number(measured)} x` : number(measured);
    console.log(`${ok ? 'met   ' : 'MISSED'} ${target.probe} ${target.comparison} ${limit}: ${value}`);
  }
}

const { values } = parseArgs({
  options: {
    only: { type: 'string', multiple: true, default: [] },
    probe: { type: 'string', multiple: true, default: [] },
    short: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
});
requireAll(['gcc', 'taskset', 'ibv_devinfo', 'ib_write_bw', 'ucx_perftest', 'iperf3']);
const effort = values.short ? SHORT : FULL;
const named = (name: string): boolean =>
  values.probe.length === 0 || values.probe.some((word) => name.includes(word));
/** Of the plan what --probe names. */
const chosen = (plan: Plan): Plan => ({
  ...plan,
  probes: plan.probes.filter(({ name }) => named(name)),
  targets: plan.targets.filter(({ probe, of }) => named(probe) && (of === undefined || named(of))),
});
const files = readdirSync(import.meta.dirname)
  .filter((name) => /^perf-.*\.ts$/.test(name))
  .filter((name) => values.only.length === 0 || values.only.some((word) => name.includes(word)))
  .sort();
const groups: Group[] = [];
for (const file of files) {
  const { plan } = (await import(`./${file}`)) as { plan: (effort: Effort) => Plan };
  const group = await measure(file.slice('perf-'.length, -'.ts'.length), chosen(plan(effort)));
  groups.push(group);
  if (!values.json) print(group);
}
const verdicts = groups.flatMap((group) => group.verdicts);
const met = verdicts.filter(({ ok }) => ok).length;
if (values.json) console.log(JSON.stringify({ schema: 'rdmakit.perf/1', effort, groups }, null, 2));
else
  console.log(
    `\n${met} met, ${verdicts.length - met} missed${values.short ? ' (short: not a measurement)' : ''}`,
  );
process.exitCode = groups.length === 0 || groups.some(({ error }) => error !== undefined) ? 1 : 0;
