/**
 * What a device counts: packets, retransmissions, drops and errors, under the names that
 * NICs use. The embedded device counts for this process; a kernel device for the port.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { softrdma } from '../../ffi/softrdma.ts';
import { requireInteger } from './check.ts';
import type { Provider } from './types.ts';

/** Counters by name; a name that the device lacks is absent. */
export type Counters = ReadonlyMap<string, bigint>;

/** Reads all counters of a port. An empty map when the device keeps none that this user may read. */
export function readCounters(
  device: { readonly name: string; readonly provider: Provider },
  port = 1,
): Counters {
  requireInteger('the port', port, 1, 255);
  if (device.provider === 'soft') return softCounters();
  const folder = `/sys/class/infiniband/${device.name}/ports/${port}`;
  return new Map([
    ...folderCounters(join(folder, 'counters')),
    ...folderCounters(join(folder, 'hw_counters')),
  ]);
}

/** What changed between two readings, without the counters that stood still. */
export function counterChanges(before: Counters, after: Counters): Counters {
  const changes = [...after].map(([name, value]): [string, bigint] => [
    name,
    value - (before.get(name) ?? 0n),
  ]);
  return new Map(changes.filter(([, change]) => change !== 0n));
}

/** Counters of ordinary traffic: they tell nothing about a fault. */
const TRAFFIC =
  /^port_(xmit|rcv)_(packets|data|wait)$|^shm_(messages|direct|doorbells)|^(unicast|multicast)_|^sacks_/;

/** One sentence with the counters that hint at a fault, for a diagnosis; none when all stood still. */
export function counterEvidence(before: Counters, after: Counters): string[] {
  const hints = [...counterChanges(before, after)].filter(([name]) => !TRAFFIC.test(name));
  if (hints.length === 0) return [];
  return [`counters meanwhile: ${hints.map(([name, change]) => `${name} +${change}`).join(', ')}`];
}

function softCounters(): Counters {
  const counters = new Map<string, bigint>();
  const count = softrdma.rdmakit_counter_count();
  for (let i = 0; i < count; i++) {
    const name = softrdma.rdmakit_counter_name(i);
    if (name !== null) counters.set(name, softrdma.rdmakit_counter_value(i));
  }
  return counters;
}

function folderCounters(folder: string): [string, bigint][] {
  try {
    return readdirSync(folder).flatMap((name): [string, bigint][] => {
      const text = readFileSync(join(folder, name), 'utf8').trim();
      return /^\d+$/.test(text) ? [[name, BigInt(text)]] : [];
    });
  } catch {
    // Not every driver has both folders, and some files are for root only.
    return [];
  }
}
