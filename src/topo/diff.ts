/** What differs between two topologies, node by node and link by link. */

import * as v from 'valibot';
import type { Link, Topology } from './model/schema.ts';

const Change = v.object({
  what: v.picklist(['node', 'link']),
  id: v.string(),
  change: v.picklist(['added', 'removed', 'changed']),
  /** Ends of a link: `a - b`. */
  between: v.optional(v.string()),
  /** Fields that changed, with both values as JSON; null where the field is absent. */
  fields: v.array(
    v.object({ name: v.string(), before: v.nullable(v.string()), after: v.nullable(v.string()) }),
  ),
});

export const DiffReport = v.object({ same: v.boolean(), changes: v.array(Change) });
export type DiffReport = v.InferOutput<typeof DiffReport>;
type Change = v.InferOutput<typeof Change>;

function fieldsOf(before: object, after: object): Change['fields'] {
  const [a, b] = [before, after] as Record<string, unknown>[];
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  return names.flatMap((name) => {
    const [from, to] = [a?.[name], b?.[name]].map((value) =>
      value === undefined ? null : JSON.stringify(value),
    );
    return from === to ? [] : [{ name, before: from ?? null, after: to ?? null }];
  });
}

/** The same cable seen from its other end. */
function turned(link: Link): Link {
  const { id, a, b, a_port, b_port, back, ...rest } = link;
  const qualities = back === undefined ? rest : { ...rest, ...back };
  const forth = Object.fromEntries(
    Object.keys(back ?? {}).map((key) => [key, rest[key as keyof typeof rest]]),
  );
  return {
    id,
    a: b,
    b: a,
    ...(b_port === undefined ? {} : { a_port: b_port }),
    ...(a_port === undefined ? {} : { b_port: a_port }),
    ...qualities,
    ...(back === undefined ? {} : { back: forth }),
  };
}

function sameEnds(a: Link, b: Link): boolean {
  return (a.a === b.a && a.b === b.b) || (a.a === b.b && a.b === b.a);
}

/** Pairs the links of two topologies: by id, then by ends and ports, then by ends in order. */
function pairLinks(
  before: readonly Link[],
  after: readonly Link[],
): { pairs: [Link, Link][]; removed: Link[]; added: Link[] } {
  const ends = ({ a, b }: Link): string => JSON.stringify(a < b ? [a, b] : [b, a]);
  const ports = (link: Link): string => {
    const sides = [
      JSON.stringify([link.a, link.a_port ?? '']),
      JSON.stringify([link.b, link.b_port ?? '']),
    ].sort();
    return sides.join(' ');
  };
  const pairs: [Link, Link][] = [];
  let [left, right] = [[...before], [...after]];
  for (const key of [(link: Link) => `${ends(link)} ${link.id}`, ports, ends]) {
    const waiting = new Map<string, Link[]>();
    for (const link of right) {
      const list = waiting.get(key(link));
      if (list) list.push(link);
      else waiting.set(key(link), [link]);
    }
    const taken = new Set<Link>();
    left = left.filter((link) => {
      const found = waiting.get(key(link))?.shift();
      if (!found) return true;
      taken.add(found);
      pairs.push([link, found]);
      return false;
    });
    right = right.filter((link) => !taken.has(link));
  }
  return { pairs, removed: left, added: right };
}

/** Compares; a link that is written from its other end is the same link. */
export function diff(before: Topology, after: Topology): DiffReport {
  const changes: Change[] = [];
  const old = new Map(before.nodes.map((node) => [node.id, node]));
  const present = new Set(after.nodes.map(({ id }) => id));
  for (const node of after.nodes) {
    const was = old.get(node.id);
    if (!was) changes.push({ what: 'node', id: node.id, change: 'added', fields: [] });
    else {
      const fields = fieldsOf(was, node);
      if (fields.length > 0) changes.push({ what: 'node', id: node.id, change: 'changed', fields });
    }
  }
  for (const { id } of before.nodes)
    if (!present.has(id)) changes.push({ what: 'node', id, change: 'removed', fields: [] });
  const between = ({ a, b }: Link): string => `${a} - ${b}`;
  const { pairs, removed, added } = pairLinks(before.links, after.links);
  for (const [was, is] of pairs) {
    const { id: _, ...now } = was.a === is.a || !sameEnds(was, is) ? is : turned(is);
    const { id, ...then } = was;
    const fields = fieldsOf(then, now);
    if (fields.length > 0)
      changes.push({ what: 'link', id, change: 'changed', between: between(was), fields });
  }
  for (const link of removed)
    changes.push({ what: 'link', id: link.id, change: 'removed', between: between(link), fields: [] });
  for (const link of added)
    changes.push({ what: 'link', id: link.id, change: 'added', between: between(link), fields: [] });
  return { same: changes.length === 0, changes };
}
