/** Reads a `rdmakit.topo/1` document strictly; what is wrong is named with its path and line. */

import * as v from 'valibot';
import { firstMistake } from './check.ts';
import { InputError } from './input-error.ts';
import { checkJson, type JsonPath, lineOfPath } from './json-place.ts';
import { MAX_LINKS, MAX_NODES } from './limits.ts';
import { TOPOLOGY_ID, Topology } from './schema.ts';

function show(path: JsonPath): string {
  return path.map((key, at) => (typeof key === 'number' ? `[${key}]` : at === 0 ? key : `.${key}`)).join('');
}

/** Throws InputError with the line. */
export function readTopologyJson(text: string): Topology {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    checkJson(text);
    throw new InputError('not JSON');
  }
  const refuse = (path: JsonPath, message: string): never => {
    throw new InputError(path.length === 0 ? message : `${show(path)}: ${message}`, lineOfPath(text, path));
  };
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    refuse([], 'not a topology document');
  const { schema, ...body } = value as Record<string, unknown>;
  if (schema !== TOPOLOGY_ID)
    refuse(schema === undefined ? [] : ['schema'], `"schema" must be "${TOPOLOGY_ID}"`);
  for (const [key, limit] of [
    ['nodes', MAX_NODES],
    ['links', MAX_LINKS],
  ] as const) {
    const list = body[key];
    if (Array.isArray(list) && list.length > limit) refuse([key], `more than ${limit} ${key}`);
  }
  const checked = v.safeParse(Topology, body, { abortEarly: true });
  if (!checked.success) {
    const [issue] = checked.issues;
    refuse(
      (issue.path ?? []).map((item) => item.key as string | number),
      issue.message,
    );
  }
  const topology = checked.output as Topology;
  const mistake = firstMistake(topology);
  if (mistake) refuse(mistake.path, mistake.message);
  // JSON.parse keeps the last of two equal names; a hand-edited file must not lose the first silently.
  if (text.length < 2 ** 20) checkJson(text);
  return topology;
}

/** The document, one node or link a line: readable, and diff shows which one changed. */
export function writeTopologyJson(topology: Topology): string {
  const { nodes, links, demands, ...about } = topology;
  const head = Object.entries({ schema: TOPOLOGY_ID, ...about }).map(
    ([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`,
  );
  const list = (key: string, items: readonly object[]): string =>
    items.length === 0
      ? `"${key}":[]`
      : `"${key}":[\n${items.map((item) => JSON.stringify(item)).join(',\n')}\n]`;
  const parts = [...head, list('nodes', nodes), list('links', links)];
  if (demands) parts.push(list('demands', demands));
  return `{${parts.join(',\n')}}\n`;
}
