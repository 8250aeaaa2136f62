/** The answers of `topo paths` and `topo balance` as documents. */

import * as v from 'valibot';
import { directionOf, qualityOf } from '../model/graph.ts';
import { type HashModel, MODELS } from './hash.ts';
import { jain, type Load, maxOverMean, type Weighted } from './load.ts';
import { formatAddress, type Router } from './routes.ts';
import { type Flow, flowLabel, trace } from './trace.ts';

const whole = v.pipe(v.number(), v.integer(), v.minValue(0));
const Model = v.object({ name: v.picklist(MODELS), seed: whole, per_switch_seeds: v.boolean() });

export const PathsReport = v.object({
  model: Model,
  source: v.string(),
  destination: v.string(),
  source_address: v.string(),
  destination_address: v.string(),
  protocol: whole,
  destination_port: whole,
  paths: v.array(
    v.object({
      source_port: whole,
      /** RoCE v2 flow label that drivers fold to this port; null below port 49152. */
      flow_label: v.nullable(whole),
      nodes: v.array(v.string()),
      links: v.array(v.string()),
      /** Equal next hops at each node of the way. */
      choices: v.array(whole),
    }),
  ),
  distinct_paths: whole,
});
export type PathsReport = v.InferOutput<typeof PathsReport>;

export const LoadReport = v.object({
  model: Model,
  flows: whole,
  links: v.array(
    v.object({
      id: v.string(),
      from: v.string(),
      to: v.string(),
      flows: whole,
      rate_bps: v.number(),
      capacity_bps: v.nullable(v.number()),
      utilisation: v.nullable(v.number()),
    }),
  ),
  /** Where flows had a choice: a node and the links it chose from. */
  choices: v.array(
    v.object({
      node: v.string(),
      flows: whole,
      links: v.array(v.object({ id: v.string(), flows: whole })),
      max_over_mean: v.number(),
      jain: v.number(),
      polarised: v.boolean(),
    }),
  ),
  /** Of the rates of all links that were chosen among. */
  max_over_mean: v.number(),
  jain: v.number(),
  max_utilisation: v.nullable(v.number()),
  polarised: v.boolean(),
  /** Least possible utilisation of the busiest link over shortest paths; null when it was not asked for. */
  optimum_utilisation: v.nullable(v.number()),
  /** Ports that were chosen for an even load; empty when they were not. */
  chosen: v.array(
    v.object({
      source: v.string(),
      destination: v.string(),
      source_port: whole,
      flow_label: v.nullable(whole),
    }),
  ),
  /** Flows for which no port of the range takes the path wanted. */
  unplaced: whole,
});
export type LoadReport = v.InferOutput<typeof LoadReport>;

function modelOf({ name, seed, perSwitch }: HashModel): LoadReport['model'] {
  return { name, seed, per_switch_seeds: perSwitch };
}

/** Paths of the same flow with each of these source ports. */
export function pathsReport(
  router: Router,
  model: HashModel,
  flow: Omit<Flow, 'sourcePort'>,
  ports: readonly number[],
): PathsReport {
  const id = (node: number): string => router.graph.nodes[node]?.id ?? '';
  const distinct = new Set<string>();
  const paths = ports.map((sourcePort) => {
    const { arcs, choices } = trace(router, model, { ...flow, sourcePort });
    const links = arcs.map(({ link }) => link.id);
    distinct.add(JSON.stringify(links));
    return {
      source_port: sourcePort,
      flow_label: flowLabel(sourcePort) ?? null,
      nodes: [id(flow.source), ...arcs.map(({ to }) => id(to))],
      links,
      choices,
    };
  });
  return {
    model: modelOf(model),
    source: id(flow.source),
    destination: id(flow.destination),
    source_address: formatAddress(router.address(flow.source)),
    destination_address: formatAddress(router.address(flow.destination)),
    protocol: flow.protocol,
    destination_port: flow.destinationPort,
    paths,
    distinct_paths: distinct.size,
  };
}

export interface Extras {
  optimum?: number | undefined;
  chosen?: readonly Weighted[] | undefined;
  unplaced?: number | undefined;
}

export function loadReport(
  router: Router,
  model: HashModel,
  flows: readonly Weighted[],
  load: Load,
  extras: Extras = {},
): LoadReport {
  const { nodes, arcs } = router.graph;
  const id = (node: number): string => nodes[node]?.id ?? '';
  const links = arcs.map((arc) => {
    const { capacity_bps } = qualityOf(arc.link, directionOf(arc));
    const rate_bps = load.rate_bps[arc.number] ?? 0;
    return {
      id: arc.link.id,
      from: id(arc.from),
      to: id(arc.to),
      flows: load.flows[arc.number] ?? 0,
      rate_bps,
      capacity_bps: capacity_bps ?? null,
      utilisation: capacity_bps === undefined ? null : rate_bps / capacity_bps,
    };
  });
  const chosenAmong = new Set(load.switches.flatMap(({ counts }) => [...counts.keys()]));
  const rates = [...chosenAmong].map((arc) => load.rate_bps[arc] ?? 0);
  const shares = links.map(({ utilisation }) => utilisation);
  const known = shares.filter((share) => share !== null);
  return {
    model: modelOf(model),
    flows: flows.length,
    links,
    choices: load.switches.map(({ node, flows: count, counts, polarised }) => ({
      node: id(node),
      flows: count,
      links: [...counts].map(([arc, flows_]) => ({ id: arcs[arc]?.link.id ?? '', flows: flows_ })),
      max_over_mean: maxOverMean([...counts.values()]),
      jain: jain([...counts.values()]),
      polarised,
    })),
    max_over_mean: maxOverMean(rates),
    jain: jain(rates),
    max_utilisation: known.length > 0 ? known.reduce((most, share) => Math.max(most, share), 0) : null,
    polarised: load.switches.some(({ polarised }) => polarised),
    optimum_utilisation: extras.optimum ?? null,
    chosen: (extras.chosen ?? []).map(({ source, destination, sourcePort }) => ({
      source: id(source),
      destination: id(destination),
      source_port: sourcePort,
      flow_label: flowLabel(sourcePort) ?? null,
    })),
    unplaced: extras.unplaced ?? 0,
  };
}
