/** How large an input may be before it is refused: generous for real networks, far from what hurts the machine. */

import { RdmakitError } from '../../errors.ts';

/** Fat-tree k=48 (27 648 hosts, 82 944 links) is 20 MB of JSON. */
export const MAX_INPUT_BYTES = 64 * 2 ** 20;
export const MAX_NODES = 200_000;
export const MAX_LINKS = 1_000_000;

/** Throws when a graph of this size must not be built; `what` names the generator or file. */
export function checkSize(what: string, nodes: number, links: number): void {
  if (nodes <= MAX_NODES && links <= MAX_LINKS) return;
  throw new RdmakitError({
    kind: 'usage',
    what: `${what} has ${nodes} nodes and ${links} links`,
    cause: `the limit is ${MAX_NODES} nodes and ${MAX_LINKS} links`,
    remedy: 'use a smaller network',
  });
}
