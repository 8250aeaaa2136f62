/**
 * `npm test`: every check of the project as a table of named, timed steps. All steps run even when one fails.
 * The last line is `N passed, N failed`, with `, N skipped` when steps were left out by naming others:
 * `npm test -- unit c-test` runs only the steps whose names begin with these words.
 * Plain Node without dependencies, so that it can report whatever is broken.
 */

import { spawn } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { runtimes } from './runtimes.mjs';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));

const { bun } = runtimes;
const node = process.execPath;

/** Folders of test/ that are not unit tests: they have steps of their own or are not tests. */
const NOT_UNITS = new Set(['rxe-vm', 'smoke', 'integration', 'perf', 'data']);
const unitFolders = readdirSync('test')
  .filter((name) => !NOT_UNITS.has(name) && statSync(`test/${name}`).isDirectory())
  .map((name) => `./test/${name}/`);
/** Tests between processes and network namespaces: *.test.ts, and any other file that is executable; helpers are neither. */
const integrationFiles = (existsSync('test/integration') ? readdirSync('test/integration') : [])
  .filter((name) => name.endsWith('.ts'))
  .filter((name) => name.endsWith('.test.ts') || (statSync(`test/integration/${name}`).mode & 0o111) !== 0)
  .sort();
const manPages = existsSync('man') ? readdirSync('man') : [];

function smoke(runtime) {
  return {
    name: `smoke-${runtime}`,
    run: [bun, 'test', './test/smoke/'],
    env: { RDMAKIT_SMOKE: runtime, RDMAKIT_TEST_NODE: node },
    limit_s: 120,
  };
}

/** A step of c/Makefile; it uses one processor, because another one runs at the same time. */
function native(name, ...targets) {
  return { name, run: ['make', '-s', '-C', 'c', 'TEST_JOBS=1', ...targets], limit_s: 900 };
}

const steps = [
  { name: 'types', run: ['node_modules/.bin/tsc', '--noEmit'], limit_s: 120 },
  {
    name: 'lint',
    run: ['node_modules/.bin/biome', 'ci', '--colors=off', '--error-on-warnings', '.'],
    limit_s: 60,
  },
  { name: 'generated', run: [bun, 'scripts/gen.ts', '--check'], limit_s: 60 },
  { name: 'structs', run: [bun, 'ffi/gen/gen-structs.ts', '--check'], limit_s: 60 },
  // From inside the folder, where mandoc finds the pages that others refer to.
  { name: 'man', run: ['mandoc', '-T', 'lint', '-W', 'style', ...manPages], cwd: 'man', limit_s: 60 },
  { name: 'dist', run: [node, 'scripts/build.mjs'], limit_s: 60 },
  // Bun's own limit of 5 s a test is for idle machines.
  { name: 'unit', run: [bun, 'test', '--timeout', '60000', ...unitFolders], limit_s: 300 },
  smoke('bun'),
  smoke('deno'),
  smoke('node22'),
  smoke('dist'),
  native('c-asan', 'test-asan'),
  native('c-tsan', 'test-tsan'),
  native('c-test', 'test'),
  native('fuzz', 'fuzz-run', 'FUZZ_SECONDS=3'),
  ...integrationFiles.map((name) => ({
    name: `integration-${name.replace(/(\.test)?\.ts$/, '')}`,
    run: [bun, 'test', '--timeout', '120000', `./test/integration/${name}`],
    limit_s: 600,
  })),
];

/** Lines of a failed step that are shown: its end, without what make and bun say of each thing that went well. */
const SHOWN_LINES = 200;
const WENT_WELL = /^ {2}(CC|LD|ok) |^\(pass\) /;

/** Runs one step in a process group of its own, so that nothing it started outlives its limit. */
function runStep(step) {
  return new Promise((resolve) => {
    const [program, ...args] = step.run;
    const child = spawn(program, args, {
      cwd: step.cwd,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...step.env },
    });
    const chunks = [];
    let timedOut = false;
    child.stdout.on('data', (chunk) => chunks.push(chunk));
    child.stderr.on('data', (chunk) => chunks.push(chunk));
    const killGroup = () => {
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {
        // the group has ended already
      }
    };
    const timer = setTimeout(() => {
      timedOut = true;
      killGroup();
    }, step.limit_s * 1000);
    const finish = (ok, reason) => {
      clearTimeout(timer);
      if (child.pid) killGroup();
      resolve({ ok, reason, log: Buffer.concat(chunks).toString() });
    };
    child.on('error', (error) => finish(false, error.message));
    child.on('close', (code, signal) => {
      const reason = timedOut ? `took more than ${step.limit_s} s` : (signal ?? `exit code ${code}`);
      finish(code === 0 && !timedOut, reason);
    });
  });
}

/**
 * Steps in which processes meet real timers (retry counts, 30 s limits against hangs) on whatever CPU time the machine has. They get a
 * second attempt; the first failure is printed in full all the same, so that an unstable test is seen and not hidden.
 */
const MEETS_THE_CLOCK = /^(unit|c-test|c-asan|c-tsan|integration-)/;

/** The step with only those of its tests that failed, where its output names them; else the whole step. */
function onlyFailed(step, log) {
  if (step.name.startsWith('c-')) {
    const names = [...log.matchAll(/^ {2}FAILED \(\d+\) \w+ (test-[\w-]+)$/gm)].map(([, name]) => name);
    return names.length > 0 ? { ...step, run: [...step.run, `TESTS=${names.join(' ')}`] } : step;
  }
  const names = [...log.matchAll(/^\(fail\) (.*?)(?: \[[\d.]+m?s\])?$/gm)].map(([, name]) => name);
  // What fails before or between tests has no name of its own, and a document is compared with what all of them found.
  if (names.length === 0 || /\(unnamed\)|Unhandled error|\(fail\).*COMPATIBILITY/.test(log)) return step;
  const pattern = names.map((name) => name.replaceAll(' > ', ' ').replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return { ...step, run: [...step.run, '-t', `^(${pattern.join('|')})$`] };
}

/** Runs a step and prints how it ended; gives what is to be tried again, undefined when it passed. */
async function attempt(step, number) {
  const start_ms = Date.now();
  const { ok, reason, log } = await runStep(step);
  const seconds = ((Date.now() - start_ms) / 1000).toFixed(1);
  const unstable = ok ? ': UNSTABLE, see its failure above' : '';
  const which = number > 1 ? `, attempt ${number}${unstable}` : '';
  if (ok) {
    console.log(`ok      ${step.name} (${seconds} s${which})`);
  } else {
    console.log(`FAILED  ${step.name} (${seconds} s${which}): ${reason}\n        ${step.run.join(' ')}`);
    const lines = log
      .trimEnd()
      .split('\n')
      .filter((line) => !WENT_WELL.test(line));
    console.log(
      lines
        .slice(-SHOWN_LINES)
        .map((line) => `    | ${line}`)
        .join('\n'),
    );
  }
  return ok ? undefined : onlyFailed(step, log);
}

const wanted = process.argv.slice(2);
const chosen = steps.filter(
  (step) => wanted.length === 0 || wanted.some((word) => step.name.startsWith(word)),
);
const failed = [];

/** Runs steps one after the other until `next` has none left. */
async function lane(next) {
  for (let step = next(); step !== undefined; step = next()) {
    const again = await attempt(step, 1);
    if (again) failed.push(again);
  }
}

const left = new Set(chosen);
/** Those chosen steps whose names begin so, and that no earlier call took. */
function take(...words) {
  const taken = [...left].filter(({ name }) => words.some((word) => name.startsWith(word)));
  for (const step of taken) left.delete(step);
  return taken;
}

const natives = take('c-asan', 'c-tsan', 'c-test', 'fuzz');
const tested = take('unit', 'smoke-');
// Two at once, for more make everything slower and some of it fail; virtual machines, which compute all the time, one after the other.
const machines = take('integration-rxe-');
const others = [...take('integration-compat', 'integration-socket-compat'), ...take('integration-')];
// What is quick and says most about a mistake comes first.
const quick = take('');
const taking = (...queues) => lane(() => queues.find((queue) => queue.length > 0)?.shift());
await taking(quick);
await Promise.all([taking(natives, tested), taking(natives, tested)]);
await Promise.all([taking(machines, others), taking(others)]);
// Second attempts come last, when nothing else runs.
let failures = 0;
for (const step of failed) if (!MEETS_THE_CLOCK.test(step.name) || (await attempt(step, 2))) failures += 1;

const skipped = steps.length - chosen.length;
console.log(
  `${chosen.length - failures} passed, ${failures} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`,
);
process.exitCode = failures > 0 || chosen.length === 0 ? 1 : 0;
