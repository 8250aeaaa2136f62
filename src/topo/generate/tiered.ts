/** Tiered networks: three-tier, leaf-spine, fat-tree and the multi-plane rail-optimised network of GPU clusters. */

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

/** Adds the same link `times` times: parallel cables. */
function parallel(
  builder: TopologyBuilder,
  times: number,
  link: Parameters<TopologyBuilder['link']>[0],
): void {
  for (let i = 0; i < times; i++) builder.link(link);
}

export interface ThreeTier extends Fabric {
  pods: number;
  /** Access switches a pod. */
  access: number;
  /** Aggregation switches a pod. */
  aggregation: number;
  core: number;
  /** Hosts an access switch. */
  hosts: number;
  /** Parallel cables between two switches. */
  parallel: number;
}

/** hosts = pods x access x hosts; links = hosts + parallel x pods x aggregation x (access + core). */
export function threeTier(given: ThreeTier): Topology {
  const { pods, access, aggregation, core, hosts, parallel: times } = given;
  checkCounts({ pods, access, aggregation, core, hosts, parallel: times });
  const hostCount = pods * access * hosts;
  checkSize(
    'this three-tier network',
    hostCount + pods * (access + aggregation) + core,
    hostCount + times * pods * aggregation * (access + core),
  );
  const builder = new TopologyBuilder({ numberPorts: true });
  for (let i = 0; i < hostCount; i++) {
    const group = `pod${Math.floor(i / (access * hosts))}`;
    builder.node({ id: `h${i}`, kind: 'host', tier: 0, group, address: hostAddress(i) });
  }
  const switches = (prefix: string, count: number, tier: number, podSize?: number): void => {
    for (let i = 0; i < count; i++) {
      const group = podSize === undefined ? {} : { group: `pod${Math.floor(i / podSize)}` };
      builder.node({ id: `${prefix}${i}`, kind: 'switch', tier, ...group });
    }
  };
  switches('acc', pods * access, 1, access);
  switches('agg', pods * aggregation, 2, aggregation);
  switches('core', core, 3);
  for (let i = 0; i < hostCount; i++) {
    builder.link({ a: `h${i}`, b: `acc${Math.floor(i / hosts)}`, ...hostLink(given) });
  }
  for (let pod = 0; pod < pods; pod++) {
    for (let i = 0; i < access; i++) {
      for (let j = 0; j < aggregation; j++) {
        const ends = { a: `acc${pod * access + i}`, b: `agg${pod * aggregation + j}` };
        parallel(builder, times, { ...ends, ...switchLink(given) });
      }
    }
    for (let j = 0; j < aggregation; j++) {
      for (let c = 0; c < core; c++) {
        parallel(builder, times, { a: `agg${pod * aggregation + j}`, b: `core${c}`, ...switchLink(given) });
      }
    }
  }
  return builder.build({
    name: 'three-tier',
    made_by: madeBy('three-tier', { pods, access, aggregation, core, hosts, parallel: times }),
  });
}

export interface LeafSpine extends Fabric {
  leaves: number;
  spines: number;
  /** Hosts a leaf. */
  hosts: number;
  /** Parallel cables between a leaf and a spine. */
  parallel: number;
  /** Host capacity of a leaf over its uplink capacity; sets the uplinks' rate when given. */
  oversubscription?: number | undefined;
}

/** nodes = leaves x hosts + leaves + spines; links = leaves x hosts + leaves x spines x parallel. */
export function leafSpine(given: LeafSpine): Topology {
  const { leaves, spines, hosts, parallel: times, oversubscription } = given;
  checkCounts({ leaves, spines, hosts, parallel: times });
  if (oversubscription !== undefined && given.uplink_bps !== undefined) {
    throw wrongParameter(
      'oversubscription and the rate of uplinks are both given',
      'give one; it sets the other',
    );
  }
  if (oversubscription !== undefined && !(oversubscription > 0)) {
    throw wrongParameter(`oversubscription is ${oversubscription}`, 'give a number above 0, 3 for 3:1');
  }
  const hostCount = leaves * hosts;
  checkSize('this leaf-spine network', hostCount + leaves + spines, hostCount + leaves * spines * times);
  const uplink_bps =
    oversubscription === undefined
      ? given.uplink_bps
      : (hosts * given.rate_bps) / (oversubscription * spines * times);
  const fabric = { ...given, uplink_bps };
  const builder = new TopologyBuilder({ numberPorts: true });
  for (let i = 0; i < hostCount; i++) {
    builder.node({ id: `h${i}`, kind: 'host', tier: 0, address: hostAddress(i) });
  }
  for (let i = 0; i < leaves; i++) builder.node({ id: `l${i}`, kind: 'switch', tier: 1 });
  for (let i = 0; i < spines; i++) builder.node({ id: `s${i}`, kind: 'switch', tier: 2 });
  for (let i = 0; i < hostCount; i++)
    builder.link({ a: `h${i}`, b: `l${Math.floor(i / hosts)}`, ...hostLink(fabric) });
  for (let i = 0; i < leaves; i++) {
    for (let j = 0; j < spines; j++)
      parallel(builder, times, { a: `l${i}`, b: `s${j}`, ...switchLink(fabric) });
  }
  const made_by = madeBy('leaf-spine', { leaves, spines, hosts, parallel: times, oversubscription });
  return builder.build({ name: 'leaf-spine', made_by });
}

export interface FatTree extends Fabric {
  /** Ports of a switch, even. */
  k: number;
}

/**
 * The k-ary fat-tree of Al-Fares, Loukissas and Vahdat (SIGCOMM 2008): k^3/4 hosts, 5k^2/4 switches, 3k^3/4 links.
 * Hosts h, edge switches e, aggregation switches a, core switches c.
 */
export function fatTree(given: FatTree): Topology {
  const { k } = given;
  if (!Number.isInteger(k) || k < 2 || k % 2 !== 0 || k > 128) {
    throw wrongParameter(`k is ${k}`, 'give an even number in 2..128: the ports of a switch');
  }
  const half = k / 2;
  const hosts = (k * k * k) / 4;
  checkSize(`a fat-tree with k=${k}`, hosts + (5 * k * k) / 4, 3 * hosts);
  const builder = new TopologyBuilder({ numberPorts: true });
  for (let i = 0; i < hosts; i++) {
    const group = `pod${Math.floor(i / (half * half))}`;
    builder.node({ id: `h${i}`, kind: 'host', tier: 0, group, address: hostAddress(i) });
  }
  for (const [prefix, tier] of [
    ['e', 1],
    ['a', 2],
  ] as const) {
    for (let i = 0; i < k * half; i++) {
      builder.node({ id: `${prefix}${i}`, kind: 'switch', tier, group: `pod${Math.floor(i / half)}` });
    }
  }
  for (let i = 0; i < half * half; i++) builder.node({ id: `c${i}`, kind: 'switch', tier: 3 });
  for (let i = 0; i < hosts; i++)
    builder.link({ a: `h${i}`, b: `e${Math.floor(i / half)}`, ...hostLink(given) });
  for (let pod = 0; pod < k; pod++) {
    for (let i = 0; i < half; i++) {
      for (let j = 0; j < half; j++) {
        builder.link({ a: `e${pod * half + i}`, b: `a${pod * half + j}`, ...switchLink(given) });
      }
    }
    for (let j = 0; j < half; j++) {
      // Aggregation switch j of every pod reaches the core switches j*k/2 .. j*k/2 + k/2 - 1.
      for (let c = 0; c < half; c++)
        builder.link({ a: `a${pod * half + j}`, b: `c${j * half + c}`, ...switchLink(given) });
    }
  }
  return builder.build({ name: `fat-tree k=${k}`, made_by: madeBy('fat-tree', { k }) });
}

export interface Rail extends Fabric {
  /** Groups of hosts (scalable units) that share leaves. */
  groups: number;
  /** Hosts a group. */
  hosts: number;
  /** NICs a host: NIC r of every host of a group is on leaf r. */
  rails: number;
  /** Separate networks; every NIC has a port in each. */
  planes: number;
  /** Spines a plane. */
  spines: number;
  /** Parallel cables between a leaf and a spine. */
  parallel: number;
}

/**
 * Rail-optimised multi-plane network. Leaves = groups x rails x planes, spines = planes x spines,
 * links = groups x hosts x rails x planes + leaves x spines x parallel. Planes meet only in hosts.
 */
export function railOptimised(given: Rail): Topology {
  const { groups, hosts, rails, planes, spines, parallel: times } = given;
  checkCounts({ groups, hosts, rails, planes, spines, parallel: times });
  const hostCount = groups * hosts;
  const leaves = groups * rails * planes;
  checkSize(
    'this network',
    hostCount + leaves + planes * spines,
    hostCount * rails * planes + leaves * spines * times,
  );
  const builder = new TopologyBuilder({ numberPorts: true });
  for (let i = 0; i < hostCount; i++) {
    const group = `su${Math.floor(i / hosts)}`;
    builder.node({ id: `h${i}`, kind: 'host', tier: 0, group, address: hostAddress(i) });
  }
  const leafId = (group: number, plane: number, rail: number): string => `l${group}.${plane}.${rail}`;
  const each = (visit: (group: number, plane: number, rail: number) => void): void => {
    for (let group = 0; group < groups; group++) {
      for (let plane = 0; plane < planes; plane++)
        for (let rail = 0; rail < rails; rail++) visit(group, plane, rail);
    }
  };
  each((group, plane, rail) => {
    builder.node({ id: leafId(group, plane, rail), kind: 'switch', tier: 1, group: `su${group}`, plane });
  });
  for (let plane = 0; plane < planes; plane++) {
    for (let j = 0; j < spines; j++) builder.node({ id: `s${plane}.${j}`, kind: 'switch', tier: 2, plane });
  }
  for (let i = 0; i < hostCount; i++) {
    const group = Math.floor(i / hosts);
    for (let rail = 0; rail < rails; rail++) {
      for (let plane = 0; plane < planes; plane++) {
        const a_port = planes === 1 ? `nic${rail}` : `nic${rail}.${plane}`;
        builder.link({ a: `h${i}`, a_port, b: leafId(group, plane, rail), plane, ...hostLink(given) });
      }
    }
  }
  each((group, plane, rail) => {
    for (let j = 0; j < spines; j++) {
      const ends = { a: leafId(group, plane, rail), b: `s${plane}.${j}` };
      parallel(builder, times, { ...ends, plane, ...switchLink(given) });
    }
  });
  const made_by = madeBy('rail', { groups, hosts, rails, planes, spines, parallel: times });
  return builder.build({ name: 'rail-optimised', made_by });
}
