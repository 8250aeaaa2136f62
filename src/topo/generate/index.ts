/** The generators by name, with the parameters that each takes. */

import type { Topology } from '../model/schema.ts';
import { type Fabric, wrongParameter } from './common.ts';
import { dragonfly, torus } from './direct.ts';
import { fatTree, leafSpine, railOptimised, threeTier } from './tiered.ts';

/** Every parameter that some generator takes; the whole numbers. */
export const COUNTS = [
  'k',
  'pods',
  'access',
  'aggregation',
  'core',
  'leaves',
  'spines',
  'groups',
  'rails',
  'planes',
  'routers',
  'globals',
  'hosts',
  'parallel',
] as const;
export type Count = (typeof COUNTS)[number];

export interface Parameters extends Fabric, Partial<Record<Count, number | undefined>> {
  oversubscription?: number | undefined;
  dimensions?: readonly number[] | undefined;
}

interface Generator {
  /** Parameters with their defaults; undefined has none and may be left out. */
  takes: Partial<Record<Count | 'oversubscription' | 'dimensions', number | readonly number[] | undefined>>;
  make(parameters: never): Topology;
}

const TABLE: Record<string, Generator> = {
  'three-tier': {
    takes: { pods: 2, access: 4, aggregation: 2, core: 2, hosts: 8, parallel: 1 },
    make: threeTier,
  },
  'leaf-spine': {
    takes: { leaves: 4, spines: 2, hosts: 4, parallel: 1, oversubscription: undefined },
    make: leafSpine,
  },
  'fat-tree': { takes: { k: 4 }, make: fatTree },
  rail: { takes: { groups: 2, hosts: 4, rails: 8, planes: 2, spines: 4, parallel: 1 }, make: railOptimised },
  dragonfly: { takes: { routers: 4, globals: 2, hosts: 2, groups: undefined }, make: dragonfly },
  torus: { takes: { dimensions: [4, 4], hosts: 1 }, make: torus },
};

export const GENERATORS = ['three-tier', 'leaf-spine', 'fat-tree', 'rail', 'dragonfly', 'torus'] as const;
export type GeneratorName = (typeof GENERATORS)[number];

/** Makes a topology; a parameter that the generator does not take is refused. */
export function generate(name: GeneratorName, given: Parameters): Topology {
  const { takes, make } = TABLE[name] as Generator;
  const parameters: Record<string, unknown> = { ...takes };
  for (const [key, value] of Object.entries(given)) {
    if (value === undefined) continue;
    if (!(key in takes) && !['rate_bps', 'uplink_bps', 'delay_ns', 'loss_ratio'].includes(key)) {
      throw wrongParameter(`${name} has no '${key}'`, `it takes ${Object.keys(takes).join(', ')}`);
    }
    parameters[key] = value;
  }
  return make(parameters as never);
}

/** For help: `fat-tree: k (4)`. */
export function describe(name: GeneratorName): string {
  const { takes } = TABLE[name] as Generator;
  const words = Object.entries(takes).map(([key, value]) => {
    const shown = Array.isArray(value) ? value.join('x') : value;
    return shown === undefined ? key : `${key} (${shown})`;
  });
  return `${name}: ${words.join(', ')}`;
}
