/** What the subcommands that read or write topologies share. */

import type { Positional } from '../../cli/command.ts';
import { defineDocument } from '../../cli/documents.ts';
import { choice, text } from '../../cli/options.ts';
import { READABLE } from '../../topo/formats/index.ts';
import { Topology } from '../../topo/model/schema.ts';

/** The document of a topology. */
export const TopologyDocument = defineDocument('topo', 1, Topology);

export const FILE: Positional = {
  name: 'FILE',
  doc: 'topology in any format that is read (- is standard input)',
};

export const fromOption = choice(READABLE, {
  doc: 'format of FILE, when its beginning does not tell',
  value: 'FORMAT',
});

export const sshOption = text({
  doc: 'program that reaches the hosts, with its options',
  value: 'COMMAND',
  default: 'ssh',
});
