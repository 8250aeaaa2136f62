/** What socket-run will be able to do for a program, told from its files and without running it. */

import * as v from 'valibot';
import { libc } from '../../ffi/libc.ts';
import { filesToRun, findObstacle, type Identity, type Obstacle } from '../verbs-run/program.ts';
import { type ElfFacts, readElf } from './elf.ts';

/** Findings; `not`: nothing of it is accelerated, `partly`: some of its connections stay in the kernel. */
const FINDINGS = {
  static: 'not',
  foreign: 'not',
  raised: 'not',
  musl: 'not',
  go: 'not',
  'io-uring': 'partly',
  'raw-calls': 'partly',
  unreadable: 'partly',
} as const;
type Code = keyof typeof FINDINGS;

export const Finding = v.object({
  finding: v.picklist(Object.keys(FINDINGS) as Code[]),
  file: v.string(),
  what: v.string(),
  cause: v.string(),
  remedy: v.string(),
});
export type Finding = v.InferOutput<typeof Finding>;

export const Check = v.object({
  program: v.string(),
  /** What would be opened to run it: the program, and the interpreters of a script. */
  files: v.array(v.string()),
  /** `yes`: its TCP connections are accelerated where the other end is under socket-run too. */
  accelerated: v.picklist(['yes', 'partly', 'not']),
  findings: v.array(Finding),
});
export type Check = v.InferOutput<typeof Check>;

const CAUSES: Readonly<Record<Obstacle['reason'], Pick<Finding, 'cause' | 'remedy'>>> = {
  static: {
    cause: 'its socket functions are inside it, where no library can replace them',
    remedy: 'build it with shared libraries',
  },
  foreign: {
    cause: 'a program loads only libraries of its own architecture',
    remedy: `run a build for ${process.arch}`,
  },
  raised: {
    cause: 'the loader ignores LD_PRELOAD for programs that gain privileges',
    remedy: 'start it as the user that it becomes, or run a copy without the bit',
  },
};

/** @param path as findProgram() gives it. */
export function checkProgram(program: string, path: string, who: Identity, searchPath: string): Check {
  const files = filesToRun(path, searchPath);
  const findings = files.flatMap((file) => findingsOf(file, who));
  const weights = findings.map(({ finding }) => FINDINGS[finding]);
  const accelerated = weights.includes('not') ? 'not' : weights.includes('partly') ? 'partly' : 'yes';
  return { program, files, accelerated, findings };
}

function findingsOf(file: string, who: Identity): Finding[] {
  const elf = readElf(file);
  const obstacle = findObstacle(file, who);
  const found: Finding[] = [];
  if (elf?.go) {
    found.push({
      finding: 'go',
      file,
      what: `${file} is a Go program`,
      cause: 'Go makes its system calls itself, so its connections stay in the kernel, unharmed',
      remedy: 'nothing can be done from outside; the other ends may go on under socket-run',
    });
  } else if (obstacle !== undefined) {
    found.push({ finding: obstacle.reason, file, what: obstacle.what, ...CAUSES[obstacle.reason] });
  }
  if (who.uid !== 0 && hasCapabilities(file)) {
    found.push({ finding: 'raised', file, what: `${file} has file capabilities`, ...CAUSES.raised });
  }
  if (elf === undefined) return found;
  return [...found, ...ofElf(file, elf)];
}

function ofElf(file: string, { loader, libraries, imports, go, rawCalls }: ElfFacts): Finding[] {
  const found: Finding[] = [];
  if (loader?.includes('ld-musl')) {
    found.push({
      finding: 'musl',
      file,
      what: `${file} uses the C library musl`,
      cause: 'the replacements are built for glibc, and musl cannot load them',
      remedy: 'run a build for glibc',
    });
  }
  if (
    libraries.some((name) => name.startsWith('liburing')) ||
    [...imports].some((name) => name.startsWith('io_uring_'))
  ) {
    found.push({
      finding: 'io-uring',
      file,
      what: `${file} uses io_uring`,
      cause:
        'its requests go to the kernel past every function; once it has made a ring its connections stay in the kernel',
      remedy: 'turn io_uring off in the program, if it has a switch for it',
    });
  }
  const calls = [
    ...(imports.has('syscall') ? ['calls syscall()'] : []),
    ...(rawCalls > 0
      ? [`makes system calls by itself at ${rawCalls} place${rawCalls === 1 ? '' : 's'}`]
      : []),
  ];
  if (loader !== undefined && !go && calls.length > 0) {
    found.push({
      finding: 'raw-calls',
      file,
      what: `${file} ${calls.join(' and ')}`,
      cause:
        'close() and waiting may be done so; a read or write of a connection so made would not be seen, and most such calls are not that',
      remedy:
        'run it with --report and --verify once, which tell what was accelerated and whether all bytes came',
    });
  }
  return found;
}

/** Linux keeps them in an extended attribute. */
function hasCapabilities(file: string): boolean {
  return libc.getxattr(file, 'security.capability', new Uint8Array(64), 64n) > 0n;
}

/** The verdict as a sentence. */
export function verdictOf({ program, accelerated }: Check): string {
  if (accelerated === 'yes')
    return `${program}: TCP connections to other programs under socket-run will be accelerated`;
  if (accelerated === 'partly')
    return `${program}: TCP connections to other programs under socket-run will be accelerated, some perhaps not:`;
  return `${program}: nothing will be accelerated:`;
}
