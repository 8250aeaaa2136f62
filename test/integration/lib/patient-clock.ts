/** What keeps perftest from burning a second of CPU time a process before it measures: programs/patient-clock.c. */

import { spawnSync } from 'node:child_process';
import { mkdirSync, renameSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCE = fileURLToPath(new URL('../programs/patient-clock.c', import.meta.url));
/** Where containers see it, which have a /tmp of their own. */
const LIBRARY = fileURLToPath(new URL('../../../c/build/patient-clock.so', import.meta.url));
const PERFTEST = /^ib_(send|write|read|atomic)_(bw|lat)$/;

let built = false;

/** The library's path; made by the first call of a test run. */
export function patientClock(): string {
  if (!built) {
    const fresh = join(dirname(LIBRARY), `patient-clock-${process.pid}.so`);
    mkdirSync(dirname(LIBRARY), { recursive: true });
    const options = ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror', '-shared', '-fPIC'];
    const { status, stderr, error } = spawnSync('gcc', [...options, '-o', fresh, SOURCE], {
      encoding: 'utf8',
    });
    if (status !== 0) throw new Error(`${SOURCE} cannot be compiled: ${error?.message ?? stderr}`);
    renameSync(fresh, LIBRARY);
    built = true;
  }
  return LIBRARY;
}

/** Whether one of these words is a program of perftest. */
export const startsPerftest = (argv: readonly string[]): boolean => argv.some((word) => PERFTEST.test(word));

/** What is to be added to the environment of such a program, in which `preload` is preloaded already. */
export const patience = (argv: readonly string[], preload: string | undefined): Record<string, string> =>
  startsPerftest(argv) ? { LD_PRELOAD: preload ? `${preload}:${patientClock()}` : patientClock() } : {};
