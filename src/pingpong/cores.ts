/** Which cores the two ends are pinned to. */

import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';

/** CPUs this process may use, from /proc/self/status; counted ones where that cannot be read. */
export function allowedCpus(status: string = readStatus()): number[] {
  const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(status)?.[1];
  if (list === undefined) return Array.from({ length: availableParallelism() }, (_, cpu) => cpu);
  return list.split(',').flatMap((part) => {
    const [first = 0, last = first] = part.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}

function readStatus(): string {
  try {
    return readFileSync('/proc/self/status', 'utf8');
  } catch {
    return '';
  }
}

/** Cores for both ends on one machine: two different ones, or none when there is only one to share. */
export function coresForBothEnds(allowed: readonly number[]): { client: number; server: number } {
  const [client, server] = allowed;
  if (client === undefined || server === undefined) return { client: -1, server: -1 };
  return { client, server };
}
