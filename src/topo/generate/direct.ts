/** Direct networks, whose switches are neighbours of one another without tiers: dragonfly and torus. */

import { TopologyBuilder } from '../model/build.ts';
import { checkSize } from '../model/limits.ts';
import type { Topology } from '../model/schema.ts';
import {
  checkCounts,
  type Fabric,
  hostAddress,
  hostLink,
  madeBy,
  switchLink,
  wrongParameter,
} from './common.ts';

export interface Dragonfly extends Fabric {
  /** Routers a group (a in the paper). */
  routers: number;
  /** Global links a router (h). */
  globals: number;
  /** Hosts a router (p). */
  hosts: number;
  /** Groups (g); the largest number, a x h + 1, when absent. */
  groups?: number | undefined;
}

/**
 * The dragonfly of Kim, Dally, Scott and Abts (ISCA 2008): the routers of a group are all joined, and every two groups
 * are joined by floor(a h / (g-1)) links. Links = g a p + g a (a-1)/2 + g (g-1)/2 floor(a h / (g-1)).
 */
export function dragonfly(given: Dragonfly): Topology {
  const { routers, globals, hosts } = given;
  const groups = given.groups ?? routers * globals + 1;
  checkCounts({ routers, globals, hosts, groups });
  const ports = routers * globals;
  if (groups > ports + 1) {
    throw wrongParameter(
      `${groups} groups need ${groups - 1} global links each, and a group has ${ports}`,
      `give at most ${ports + 1} groups, more routers or more globals`,
    );
  }
  const between = groups === 1 ? 0 : Math.floor(ports / (groups - 1));
  const routerCount = groups * routers;
  checkSize(
    'this dragonfly',
    routerCount * (1 + hosts),
    routerCount * hosts + (routerCount * (routers - 1)) / 2 + ((groups * (groups - 1)) / 2) * between,
  );
  const builder = new TopologyBuilder({ numberPorts: true });
  for (let i = 0; i < routerCount * hosts; i++) {
    const group = `g${Math.floor(i / (hosts * routers))}`;
    builder.node({ id: `h${i}`, kind: 'host', group, address: hostAddress(i) });
  }
  for (let i = 0; i < routerCount; i++) {
    builder.node({ id: `r${i}`, kind: 'switch', group: `g${Math.floor(i / routers)}` });
  }
  for (let i = 0; i < routerCount * hosts; i++) {
    builder.link({ a: `h${i}`, b: `r${Math.floor(i / hosts)}`, ...hostLink(given) });
  }
  for (let group = 0; group < groups; group++) {
    for (let i = 0; i < routers; i++) {
      for (let j = i + 1; j < routers; j++) {
        builder.link({ a: `r${group * routers + i}`, b: `r${group * routers + j}`, ...switchLink(given) });
      }
    }
  }
  // Global ports of a group are handed out router by router in the order of the far groups.
  const used = new Array<number>(groups).fill(0);
  const nextRouter = (group: number): string => {
    const port = used[group] ?? 0;
    used[group] = port + 1;
    return `r${group * routers + (port % routers)}`;
  };
  for (let round = 0; round < between; round++) {
    for (let a = 0; a < groups; a++) {
      for (let b = a + 1; b < groups; b++)
        builder.link({ a: nextRouter(a), b: nextRouter(b), ...switchLink(given) });
    }
  }
  const made_by = madeBy('dragonfly', { routers, globals, hosts, groups });
  return builder.build({ name: 'dragonfly', made_by });
}

export interface Torus extends Fabric {
  /** Switches along each dimension. */
  dimensions: readonly number[];
  /** Hosts a switch. */
  hosts: number;
}

/**
 * A torus: every switch is joined to its neighbours in each dimension, around the end. A dimension of 2 has one link, not
 * two. Links = N hosts + sum over the dimensions of N (d > 2), N/2 (d = 2), 0 (d = 1).
 */
export function torus(given: Torus): Topology {
  const { dimensions, hosts } = given;
  if (dimensions.length < 1 || dimensions.length > 6) {
    throw wrongParameter(
      `a torus with ${dimensions.length} dimensions`,
      'give 1 to 6 dimensions, as in 4x4x4',
    );
  }
  checkCounts({ hosts, ...Object.fromEntries(dimensions.map((size, at) => [`dimension ${at + 1}`, size])) });
  const count = dimensions.reduce((product, size) => product * size, 1);
  checkSize('this torus', count * (1 + hosts), count * (hosts + dimensions.length));
  const builder = new TopologyBuilder({ numberPorts: true });
  const strides = dimensions.map((_, at) =>
    dimensions.slice(at + 1).reduce((product, size) => product * size, 1),
  );
  const coordinate = (i: number, at: number): number =>
    Math.floor(i / (strides[at] ?? 1)) % (dimensions[at] ?? 1);
  const place = (i: number): string => dimensions.map((_, at) => coordinate(i, at)).join('.');
  const [rows = 1, columns = 1] = dimensions.length > 1 ? dimensions.slice(-2) : [1, ...dimensions];
  const sheets = count / (rows * columns);
  const sheetsInRow = Math.max(1, Math.ceil(Math.sqrt((sheets * rows) / columns)));
  for (let i = 0; i < count * hosts; i++)
    builder.node({ id: `h${i}`, kind: 'host', address: hostAddress(i) });
  for (let i = 0; i < count; i++) {
    // The last two dimensions are a sheet of the picture. The sheets lie in a square, each a little aside of the one before,
    // so that links between sheets do not run along the rows.
    const sheet = Math.floor(i / (rows * columns));
    const within = i % (rows * columns);
    const down = Math.floor(sheet / sheetsInRow);
    // Every other row of sheets runs backwards: the next sheet is always beside or below.
    const across = down % 2 === 0 ? sheet % sheetsInRow : sheetsInRow - 1 - (sheet % sheetsInRow);
    const x = across * (columns + 1.25) + down * 0.375 + (within % columns);
    const y = down * (rows + 1.25) + across * 0.375 + Math.floor(within / columns);
    builder.node({ id: `t${place(i)}`, kind: 'switch', x, y: -y });
  }
  for (let i = 0; i < count * hosts; i++) {
    builder.link({ a: `h${i}`, b: `t${place(Math.floor(i / hosts))}`, ...hostLink(given) });
  }
  for (let i = 0; i < count; i++) {
    for (const [at, size] of dimensions.entries()) {
      const here = coordinate(i, at);
      if (size === 1 || (size === 2 && here === 1)) continue;
      const next = i + (here + 1 === size ? 1 - size : 1) * (strides[at] ?? 1);
      builder.link({ a: `t${place(i)}`, b: `t${place(next)}`, ...switchLink(given) });
    }
  }
  return builder.build({
    name: 'torus',
    made_by: madeBy('torus', { dimensions: dimensions.join('x'), hosts }),
  });
}
