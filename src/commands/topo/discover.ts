/** `topo discover`: the network as the hosts see it. */

import { defineCommand } from '../../cli/command.ts';
import { text } from '../../cli/options.ts';
import { ExitCode } from '../../errors.ts';
import { ask } from '../../topo/discover/ask.ts';
import { mergeFacts, mergeTopologies } from '../../topo/discover/merge.ts';
import { sshWords } from '../../topo/discover/ssh.ts';
import { drawText } from '../../topo/draw/text.ts';
import { readTopology } from '../../topo/formats/index.ts';
import { sshOption, TopologyDocument } from './shared.ts';

export const discoverSpec = defineCommand({
  name: 'discover',
  summary: 'find the network around this host or a list of hosts',
  description: [
    'Asks this host, or the hosts named (through ssh, without a password), for interfaces, addresses, neighbours, routes, ' +
      'speeds, RDMA devices and LLDP, and merges the answers into one graph. Nothing is installed on the hosts.',
    'An interface leads to the switch that LLDP names (when lldpd runs there and this user may ask it); otherwise to a node ' +
      'for its subnet, which its hosts and their ARP and ND neighbours share. A point-to-point subnet of two hosts is a cable. ' +
      'Next hops of routes are routers.',
    'Routers that were not asked are joined when hosts on both sides route through them. Nobody saw such a link, and there may be ' +
      'more routers on the way: it is marked (inferred_from: routes), drawn dashed, and told about.',
    'HOST is what ssh takes: a name of its configuration, user@host, or ssh://user@host:port.',
    'With --merge the graph of a file is added: a saved output of ibnetdiscover, or any other topology.',
  ],
  positionals: [
    { name: 'HOST', doc: 'as ssh takes it; this host when none is named', optional: true, many: true },
  ],
  options: {
    ssh: sshOption,
    merge: text({ doc: 'add the graph of this file', value: 'FILE', many: true, completes: 'file' }),
  },
  documents: true,
  examples: [
    { command: 'rdmakit topo discover', does: 'shows what this host knows' },
    { command: 'rdmakit topo discover node1 node2 --json > found.json', does: 'asks two hosts' },
    {
      command: 'rdmakit topo discover ssh://root@10.0.0.7:2222 --ssh "ssh -i key"',
      does: 'asks a host with a key',
    },
    {
      command: 'rdmakit topo discover --merge ibnetdiscover.txt --json',
      does: 'adds a fabric that was saved',
    },
  ],
  exits: [{ code: ExitCode.peer, when: 'a host cannot be asked' }],
  async run({ options, args }, io) {
    const hosts = args.length === 0 ? [undefined] : args;
    const ssh = sshWords(options.ssh);
    const facts = await Promise.all(hosts.map((host) => ask(host, ssh, io.stop)));
    let topology = mergeFacts(facts);
    for (const file of options.merge) topology = mergeTopologies(topology, await readTopology(file));
    io.result(TopologyDocument, topology);
    if (io.human) io.raw(drawText(topology, io.columns));
    const inferred = topology.links.filter(({ inferred_from }) => inferred_from !== undefined);
    for (const { a, b } of inferred.slice(0, 8))
      io.note(`${a} - ${b}: nobody saw this link; routes imply it`);
    if (inferred.length > 8) io.note(`... ${inferred.length - 8} more links that routes imply`);
  },
});
