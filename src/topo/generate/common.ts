/** What the generators share: the qualities of their links, host addresses, checks of parameters. */

import { RdmakitError } from '../../errors.ts';
import type { Quality } from '../model/schema.ts';

/** Qualities of the links of a generated network. */
export interface Fabric {
  /** Capacity of host links, bits a second. */
  rate_bps: number;
  /** Capacity of links between switches; as the host links when absent. */
  uplink_bps?: number | undefined;
  delay_ns?: number | undefined;
  loss_ratio?: number | undefined;
}

/** Hosts 0, 1, 2, ... get addresses in 10.0.0.0/8, without .0 and .255. */
export function hostAddress(number: number): string {
  const block = Math.floor(number / 250);
  return `10.${Math.floor(block / 250)}.${block % 250}.${(number % 250) + 1}`;
}

export function hostLink(fabric: Fabric): Quality {
  return { capacity_bps: fabric.rate_bps, delay_ns: fabric.delay_ns, loss_ratio: fabric.loss_ratio };
}

export function switchLink(fabric: Fabric): Quality {
  return { ...hostLink(fabric), capacity_bps: fabric.uplink_bps ?? fabric.rate_bps };
}

/** Refuses a parameter that makes no network. */
export function wrongParameter(what: string, remedy: string): RdmakitError {
  return new RdmakitError({ kind: 'usage', what, remedy });
}

/** Every parameter must be a whole number in 1..limit. */
export function checkCounts(counts: Record<string, number>, limit = 100_000): void {
  for (const [name, value] of Object.entries(counts)) {
    if (Number.isInteger(value) && value >= 1 && value <= limit) continue;
    throw wrongParameter(`${name} is ${value}`, `give a whole number in 1..${limit}`);
  }
}

/** `fat-tree k=16` */
export function madeBy(kind: string, parameters: Record<string, number | string | undefined>): string {
  const words = Object.entries(parameters).flatMap(([key, value]) =>
    value === undefined ? [] : [`${key}=${value}`],
  );
  return [kind, ...words].join(' ');
}
