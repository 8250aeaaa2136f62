/**
 * Nodes and links as flat names and values, for formats that have attributes but no nesting (DOT, GraphML, drawio), and
 * back. Names of others are understood too: Topology Zoo writes Longitude, LinkSpeedRaw and so on.
 */

import type { NewLink } from '../model/build.ts';
import { InputError } from '../model/input-error.ts';
import { type Link, NODE_KINDS, type Node, QUALITY_KEYS } from '../model/schema.ts';
import { rateOf } from '../quantity.ts';

export type Flat = Record<string, string | number>;

const NODE_NUMBERS = ['tier', 'plane', 'x', 'y'] as const;
const NODE_TEXTS = ['group', 'label', 'address'] as const;
const LINK_NUMBERS = [...QUALITY_KEYS, 'metric', 'plane'] as const;
const LINK_TEXTS = ['id', 'a_port', 'b_port', 'label', 'inferred_from'] as const;
const BACK = 'back_';

/** Every attribute name with its type, for formats that declare them. */
export const NODE_ATTRIBUTES: Record<string, 'string' | 'double'> = {
  kind: 'string',
  ...Object.fromEntries(NODE_TEXTS.map((key) => [key, 'string'])),
  ...Object.fromEntries(NODE_NUMBERS.map((key) => [key, 'double'])),
};
export const LINK_ATTRIBUTES: Record<string, 'string' | 'double'> = {
  ...Object.fromEntries(LINK_TEXTS.map((key) => [key, 'string'])),
  ...Object.fromEntries(LINK_NUMBERS.map((key) => [key, 'double'])),
  ...Object.fromEntries(QUALITY_KEYS.map((key) => [`${BACK}${key}`, 'double'])),
};

/** All of a node except its id. */
export function flatNode(node: Node): Flat {
  const { id: _, ...rest } = node;
  return rest;
}

/** All of a link except its ends. */
export function flatLink(link: Link): Flat {
  const { a: _a, b: _b, back, ...rest } = link;
  const flat: Flat = { ...rest };
  for (const [key, value] of Object.entries(back ?? {})) flat[`${BACK}${key}`] = value;
  return flat;
}

function numberOf(text: string, name: string, line: number | undefined): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value))
    throw new InputError(`${name} '${text.slice(0, 40)}' is not a number`, line);
  return value;
}

type Texts = ReadonlyMap<string, string>;

function numbers(
  texts: Texts,
  keys: readonly string[],
  line: number | undefined,
  prefix = '',
): Record<string, number> {
  const found: Record<string, number> = {};
  for (const key of keys) {
    const text = texts.get(prefix + key);
    if (text !== undefined) found[key] = numberOf(text, prefix + key, line);
  }
  return found;
}

function words(texts: Texts, keys: readonly string[]): Record<string, string> {
  return Object.fromEntries(keys.flatMap((key) => (texts.has(key) ? [[key, texts.get(key) ?? '']] : [])));
}

/** A node from attributes; `fallback` is the kind of a node that names none. */
export function nodeOf(id: string, texts: Texts, fallback: Node['kind'], line?: number): Node {
  const kind = texts.get('kind') ?? fallback;
  if (!(NODE_KINDS as readonly string[]).includes(kind)) {
    throw new InputError(`kind '${kind.slice(0, 40)}' is not one of ${NODE_KINDS.join(', ')}`, line);
  }
  const place: Record<string, number> = {};
  for (const [key, foreign] of [
    ['x', 'Longitude'],
    ['y', 'Latitude'],
  ] as const) {
    const text = texts.get(foreign);
    if (text !== undefined) place[key] = numberOf(text, foreign, line);
  }
  return {
    id,
    kind: kind as Node['kind'],
    ...place,
    ...words(texts, NODE_TEXTS),
    ...numbers(texts, NODE_NUMBERS, line),
  };
}

/** A link from attributes. */
export function linkOf(a: string, b: string, texts: Texts, line?: number): NewLink {
  const link: NewLink = { a, b, ...words(texts, LINK_TEXTS), ...numbers(texts, LINK_NUMBERS, line) };
  const back = numbers(texts, QUALITY_KEYS, line, BACK);
  if (Object.keys(back).length > 0) link.back = back;
  if (link.capacity_bps === undefined) {
    const raw = texts.get('LinkSpeedRaw');
    const speed = texts.get('LinkSpeed');
    const capacity =
      raw !== undefined
        ? numberOf(raw, 'LinkSpeedRaw', line)
        : speed === undefined
          ? undefined
          : rateOf(`${speed}${texts.get('LinkSpeedUnits') ?? 'bps'}`);
    // Zoo files have speeds such as "10-20": a link without a known capacity, not a wrong file.
    if (capacity !== undefined && capacity > 0) link.capacity_bps = capacity;
  }
  return link;
}
