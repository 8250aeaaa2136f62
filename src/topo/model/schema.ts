/**
 * The one graph model of every `topo` command, `rdmakit.topo/1`: nodes and the cables between them.
 *
 * A link is one cable; parallel links are separate links with ids of their own. What a link can do holds in both
 * directions; `back` overrides it from b to a, because WAN links are often asymmetric. An absent capacity is an unknown
 * one, an absent delay is 0.
 */

import * as v from 'valibot';

/** What a node is: hosts end flows, switches and sites forward them. */
export const NODE_KINDS = ['host', 'switch', 'site'] as const;

// Ids travel through file names, markup and shells of other formats: no control characters, nothing invisible.
const id = v.pipe(
  v.string(),
  v.minLength(1, 'an id must not be empty'),
  v.maxLength(128, 'an id has at most 128 characters'),
  v.regex(/^[^\p{C}\p{Zl}\p{Zp}]+$/u, 'an id must not contain control characters'),
  v.check((text) => text === text.trim(), 'an id must not begin or end with a space'),
);
const text = v.pipe(
  v.string(),
  v.maxLength(1000),
  v.regex(/^[^\p{Cc}\p{Cs}]*$/u, 'no control characters here'),
);
const whole = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(Number.MAX_SAFE_INTEGER));
const finite = v.pipe(v.number(), v.finite());
const ratio = v.pipe(finite, v.minValue(0, 'a ratio lies in 0..1'), v.maxValue(1, 'a ratio lies in 0..1'));
const rate_bps = v.pipe(
  finite,
  v.gtValue(0, 'a rate must be above 0'),
  v.maxValue(1e18, 'a rate above 1e18 bit/s is a mistake'),
);
const time_ns = v.pipe(
  finite,
  v.minValue(0, 'a time must not be negative'),
  v.maxValue(1e15, 'a time above 1e15 ns is a mistake'),
);

export const Node = v.strictObject({
  id,
  kind: v.picklist(NODE_KINDS),
  /** Distance from the hosts in a tiered network: hosts 0, leaves 1, spines 2, ... */
  tier: v.optional(v.pipe(whole, v.maxValue(63))),
  /** Pod, group or site the node belongs to. */
  group: v.optional(id),
  /** Plane or rail in a multi-plane network. */
  plane: v.optional(v.pipe(whole, v.maxValue(9999))),
  label: v.optional(text),
  /** IPv4 address that flows of this host use. */
  address: v.optional(v.pipe(v.string(), v.ipv4('not an IPv4 address'))),
  /** Place in a picture (or longitude), to the right. */
  x: v.optional(finite),
  /** Place in a picture (or latitude), upwards. */
  y: v.optional(finite),
});

/** What a link does to packets in one direction. */
const quality = {
  capacity_bps: v.optional(rate_bps),
  delay_ns: v.optional(time_ns),
  jitter_ns: v.optional(time_ns),
  loss_ratio: v.optional(ratio),
  duplicate_ratio: v.optional(ratio),
  reorder_ratio: v.optional(ratio),
};

export const Link = v.strictObject({
  id,
  a: id,
  b: id,
  a_port: v.optional(id),
  b_port: v.optional(id),
  ...quality,
  /** Routing metric, 1 when absent. */
  metric: v.optional(v.pipe(finite, v.gtValue(0))),
  plane: v.optional(v.pipe(whole, v.maxValue(9999))),
  label: v.optional(text),
  /** From what it was concluded, when nobody saw the cable: then other nodes may lie between its ends. */
  inferred_from: v.optional(v.picklist(['routes'])),
  /** From b to a, where that differs. */
  back: v.optional(v.strictObject(quality)),
});

export const Demand = v.strictObject({ from: id, to: id, rate_bps });

export const Topology = v.strictObject({
  name: v.optional(text),
  /** How it was made: the generator's name and its parameters. */
  made_by: v.optional(text),
  nodes: v.array(Node),
  links: v.array(Link),
  demands: v.optional(v.array(Demand)),
});

export type Node = v.InferOutput<typeof Node>;
export type Link = v.InferOutput<typeof Link>;
export type Demand = v.InferOutput<typeof Demand>;
export type Topology = v.InferOutput<typeof Topology>;
export type NodeKind = Node['kind'];
/** One direction of a link. */
export type Quality = Pick<Link, keyof typeof quality>;
export const QUALITY_KEYS = Object.keys(quality) as (keyof Quality)[];

/** The `schema` field of the document. */
export const TOPOLOGY_ID = 'rdmakit.topo/1';
