/** Decides how a topology is laid out, and where each node lies. Deterministic: arithmetic and square roots only. */

import type { Topology } from '../model/schema.ts';
import { layOutPlane } from './plane.ts';
import { layOutTiers } from './tiers.ts';

/** Where a node lies: its centre and size, in pixels. */
export interface Place {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Layout {
  places: Place[];
  width: number;
  height: number;
  /** Size of the text in nodes; 0 when the nodes are too small for any. */
  font: number;
  /** Names of nodes stand beside them instead of inside. */
  outside: boolean;
  /** Backgrounds with a title: pods, groups. */
  boxes: { x: number; y: number; width: number; height: number; title: string; font: number }[];
  /** Free texts: names of tiers. */
  notes: { x: number; y: number; text: string; font: number; bold?: boolean }[];
}

/** Tier of each node when the network is tiered: all switches have one, and no link stays inside a tier. */
export function tiersOf(topology: Topology): number[] | undefined {
  const tiers = topology.nodes.map(({ kind, tier }) => tier ?? (kind === 'host' ? 0 : undefined));
  if (tiers.some((tier) => tier === undefined) || tiers.every((tier) => tier === 0)) return undefined;
  return tiers as number[];
}

export function layOut(topology: Topology): Layout {
  const tiers = tiersOf(topology);
  return tiers ? layOutTiers(topology, tiers) : layOutPlane(topology);
}
