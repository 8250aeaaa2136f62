/**
 * Where can be measured: the nodes of an emulation, or hosts that ssh reaches. Each has the command that starts an agent
 * there, and says at which address another finds it.
 */

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { libraryFolder, requireLibrary } from '../../../ffi/paths.ts';
import { RdmakitError } from '../../errors.ts';
import { addressesOf } from '../discover/addresses.ts';
import { ask } from '../discover/ask.ts';
import type { Facts } from '../discover/facts.ts';
import { hostIds, mergeFacts } from '../discover/merge.ts';
import { type Ssh, sshCommand, sshFailure } from '../discover/ssh.ts';
import { formatAddress, Router } from '../ecmp/routes.ts';
import { endpoints } from '../ecmp/traffic.ts';
import { folderOf, load } from '../emulate/state.ts';
import { readTopology } from '../formats/index.ts';
import { Graph } from '../model/graph.ts';
import { Agent } from './agent.ts';

/** What can be measured, by node numbers of `router`. */
export interface Sites {
  /** The emulation; null for hosts. */
  emulation: string | null;
  router: Router;
  ends: number[];
  /** How `from` reaches `to`; undefined when it cannot. */
  address(from: number, to: number): string | undefined;
  start(node: number): Promise<Agent>;
}

function program(): string {
  return requireLibrary(join(libraryFolder(), 'rdmakit-probe'));
}

/** The hosts and sites of an emulation that is up. */
export async function emulated(name: string): Promise<Sites> {
  const topology = await readTopology(join(folderOf(name), 'topology.json'));
  const spaces = load(name)?.spaces ?? {};
  const router = new Router(new Graph(topology));
  const nodeOf = (number: number): string => router.graph.nodes[number]?.id ?? '';
  return {
    emulation: name,
    router,
    ends: endpoints(router),
    address: (_, to) => formatAddress(router.address(to)),
    start: (number) =>
      Agent.start(nodeOf(number), ['ip', 'netns', 'exec', spaces[nodeOf(number)] ?? '', program()]),
  };
}

/** The address of `to` in a subnet that both are in; otherwise its first one that no other host has too. */
export function addressBetween(from: Facts, to: Facts, all: readonly Facts[]): string | undefined {
  const count = new Map<string, number>();
  for (const { address } of all.flatMap(addressesOf)) count.set(address, (count.get(address) ?? 0) + 1);
  // Every host of a kind may have 172.17.0.1 on a bridge of its own.
  const candidates = addressesOf(to).filter(({ address }) => count.get(address) === 1);
  const near = new Set(addressesOf(from).map(({ subnet }) => subnet));
  const shared = candidates.find(({ subnet, prefix }) => prefix < 32 && near.has(subnet));
  return (shared ?? candidates[0])?.address;
}

/** Machine names of uname for the architectures that Node names otherwise. */
const MACHINES: Record<string, string> = { x64: 'x86_64', arm64: 'aarch64' };

/** Copies the agent to a host; the folder it is in there. */
function upload(ssh: Ssh, host: string): Promise<string> {
  const script =
    'umask 077; d=$(mktemp -d -t rdmakit-probe.XXXXXX) && cat >"$d/rdmakit-probe" && chmod 700 "$d/rdmakit-probe" && echo "$d"';
  const [shell = '', ...args] = sshCommand(ssh, host, script);
  return new Promise((resolve, reject) => {
    const child = spawn(shell, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    let [output, errors] = ['', ''];
    child.stdout.on('data', (chunk) => {
      output = (output + chunk).slice(-1000);
    });
    child.stderr.on('data', (chunk) => {
      errors = (errors + chunk).slice(-2000);
    });
    child.on('error', (error) => reject(sshFailure(ssh, host, error.message, null)));
    child.on('close', (code) => {
      const folder = output.trim().split('\n').at(-1) ?? '';
      // It becomes part of a command: nothing but a plain path.
      if (code === 0 && /^\/[\w./-]+$/.test(folder)) resolve(folder);
      else reject(sshFailure(ssh, host, errors || `its answer was '${folder.slice(0, 100)}'`, code));
    });
    child.stdin.on('error', () => undefined);
    child.stdin.end(readFileSync(program()));
  });
}

/** Hosts as ssh takes them. */
export async function overSsh(ssh: Ssh, hosts: readonly string[], signal?: AbortSignal): Promise<Sites> {
  const facts = await Promise.all(hosts.map((host) => ask(host, ssh, signal)));
  for (const [at, { machine }] of facts.entries()) {
    const own = MACHINES[process.arch] ?? process.arch;
    if (machine === own) continue;
    throw new RdmakitError({
      kind: 'environment',
      what: `cannot measure at ${hosts[at]}`,
      cause: `it is a ${machine || 'machine of unknown kind'} and the agent here is for ${own}`,
      remedy: `run topo probe on a machine of that architecture`,
    });
  }
  const router = new Router(new Graph(mergeFacts(facts)));
  const ends = hostIds(facts).map((id) => router.find(id));
  const numberOf = new Map(ends.map((number, at) => [number, at]));
  const factsOf = (number: number): Facts => facts[numberOf.get(number) ?? 0] as Facts;
  return {
    emulation: null,
    router,
    ends,
    address: (from, to) => addressBetween(factsOf(from), factsOf(to), facts),
    async start(number) {
      const host = hosts[numberOf.get(number) ?? 0] ?? '';
      const folder = await upload(ssh, host);
      const run = `trap 'rm -rf ${folder}' EXIT; trap 'exit 1' HUP INT TERM; ${folder}/rdmakit-probe`;
      return Agent.start(host, sshCommand(ssh, host, run));
    },
  };
}
