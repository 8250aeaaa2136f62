/** `topo discover` and `topo probe` over a real ssh: the hosts are nodes of an emulated network, each with an sshd of its own. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatAddress, Router } from '../../src/topo/ecmp/routes.ts';
import { down, up } from '../../src/topo/emulate/run.ts';
import { list, load } from '../../src/topo/emulate/state.ts';
import { readMatrix } from '../../src/topo/formats/matrix.ts';
import { leafSpine } from '../../src/topo/generate/tiered.ts';
import { Graph } from '../../src/topo/model/graph.ts';
import type { Topology } from '../../src/topo/model/schema.ts';
import { ROOT, requireAll } from './lib/requirements.ts';

setDefaultTimeout(120_000);
requireAll(['sshd', 'ssh', 'ssh-keygen', 'unshare']);

const SSHD_PORT = 2222;
const unique = (process.pid % 46_656).toString(36);
const folder = mkdtempSync(join(tmpdir(), 'rdmakit-ssh-'));
const names: string[] = [];
const children: ChildProcess[] = [];
let ssh = '';

function run(program: string, args: readonly string[]): void {
  const { status, stderr } = spawnSync(program, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: ${stderr}`);
}

beforeAll(() => {
  for (const key of ['host', 'user'])
    run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, key)]);
  run('cp', [join(folder, 'user.pub'), join(folder, 'authorized')]);
  // The temporary folder belongs to everybody; sshd would not trust a file there.
  writeFileSync(
    join(folder, 'sshd_config'),
    [
      `Port ${SSHD_PORT}`,
      `HostKey ${join(folder, 'host')}`,
      `AuthorizedKeysFile ${join(folder, 'authorized')}`,
      'StrictModes no',
      'PidFile none',
      'UsePAM no',
      'PasswordAuthentication no',
      'PermitRootLogin prohibit-password',
      'MaxStartups 100',
    ].join('\n'),
  );
  // Where sshd locks itself in before a login.
  mkdirSync('/run/sshd', { recursive: true });
  ssh = [
    'ssh -F none -o StrictHostKeyChecking=no -o IdentitiesOnly=yes -o LogLevel=ERROR',
    `-o UserKnownHostsFile=${join(folder, 'known')} -i ${join(folder, 'user')}`,
  ].join(' ');
});

afterAll(async () => {
  for (const child of children) {
    const closed = new Promise((resolve) => child.once('close', resolve));
    child.kill();
    await closed;
  }
  for (const name of names) if (list().includes(name)) down(name);
  rmSync(folder, { recursive: true });
});

/** Brings a network up with an sshd in every node; how each is called. */
async function lab(
  label: string,
  topology: Topology,
): Promise<{ inside: string; hostOf(node: string): string }> {
  const name = `q${label}${unique}`;
  names.push(name);
  await up(topology, {
    name,
    scale: 1,
    mtu_bytes: 1500,
    seed: 1,
    perSwitchSeeds: false,
    queue_ns: 50e6,
    netem: 'none',
  });
  const router = new Router(new Graph(topology));
  const spaces = load(name)?.spaces ?? {};
  for (const { id } of topology.nodes) {
    // A host has a name of its own, unlike a network namespace.
    const start = `hostname '${id}'; exec "$(command -v sshd)" -D -e -f ${join(folder, 'sshd_config')}`;
    const inside = ['netns', 'exec', spaces[id] ?? '', 'unshare', '--uts', 'sh', '-c', start];
    children.push(spawn('ip', inside, { stdio: ['ignore', 'ignore', 'ignore'] }));
  }
  const first = spaces[topology.nodes[0]?.id ?? ''] ?? '';
  const addresses = new Map(
    topology.nodes.map(({ id }) => [id, formatAddress(router.address(router.find(id)))]),
  );
  const hostOf = (node: string): string => `ssh://root@${addresses.get(node)}:${SSHD_PORT}`;
  for (const { id } of topology.nodes) {
    const words = [...ssh.split(' '), hostOf(id), 'true'];
    let last = '';
    for (let again = 0; again < 100; again++) {
      const { status, stderr } = spawnSync('ip', ['netns', 'exec', first, ...words], { encoding: 'utf8' });
      last = stderr;
      if (status === 0) break;
      await Bun.sleep(100);
    }
    if (last !== '') throw new Error(`sshd of ${id}: ${last}`);
  }
  return { inside: first, hostOf };
}

/** rdmakit in a namespace; its standard output. */
function rdmakit(space: string, argv: readonly string[]): { code: number | null; out: string; err: string } {
  const words = ['netns', 'exec', space, process.execPath, join(ROOT, 'src/cli.ts'), ...argv];
  const { status, stdout, stderr } = spawnSync('ip', words, { encoding: 'utf8' });
  return { code: status, out: stdout, err: stderr };
}

const ends = ({ links }: Topology): string[] => links.map(({ a, b }) => [a, b].sort().join(' ')).sort();

describe('discover over ssh', () => {
  const topology = leafSpine({ leaves: 2, spines: 2, hosts: 1, parallel: 2, rate_bps: 1e9 });
  let made: Awaited<ReturnType<typeof lab>>;

  test('hosts that are all asked: every cable is found, and who forwards is a switch', async () => {
    made = await lab('d', topology);
    const hosts = topology.nodes.map(({ id }) => made.hostOf(id));
    const { code, out, err } = rdmakit(made.inside, ['topo', 'discover', ...hosts, '--ssh', ssh, '--json']);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    const found: Topology = JSON.parse(out);
    const kinds = (nodes: Topology['nodes']) =>
      Object.fromEntries(
        nodes.map(({ id, kind, address }) => [id, `${kind} ${kind === 'host' ? address : ''}`]),
      );
    expect(kinds(found.nodes)).toEqual(kinds(topology.nodes));
    expect(ends(found)).toEqual(ends(topology));
    // Parallel cables are told apart by their ports.
    expect(new Set(found.links.map(({ a, a_port }) => `${a} ${a_port}`)).size).toBe(found.links.length);
  });

  test('one host that is asked: its next hop is a router', () => {
    const { code, out } = rdmakit(made.inside, [
      'topo',
      'discover',
      made.hostOf('h1'),
      '--ssh',
      ssh,
      '--json',
    ]);
    expect(code).toBe(0);
    const { nodes, links }: Topology = JSON.parse(out);
    expect(nodes.map(({ kind, label }) => `${kind} ${label ?? ''}`)).toEqual([
      'host ',
      'switch router',
      'switch subnet',
    ]);
    expect(links.length).toBe(2);
  });

  test('a cable that is pulled is the difference of two discoveries', () => {
    const hosts = topology.nodes.map(({ id }) => made.hostOf(id));
    const discover = (file: string): string => {
      const { out } = rdmakit(made.inside, ['topo', 'discover', ...hosts, '--ssh', ssh, '--json']);
      writeFileSync(join(folder, file), out);
      return join(folder, file);
    };
    const before = discover('before.json');
    run('ip', ['netns', 'exec', load(names[0] ?? '')?.spaces.l0 ?? '', 'ip', 'link', 'set', 'p3', 'down']);
    const { code, out } = rdmakit(made.inside, ['topo', 'diff', before, discover('after.json'), '--json']);
    expect(code).toBe(1);
    const changed = JSON.parse(out).changes.filter(({ what }: { what: string }) => what === 'link');
    expect(changed).toMatchObject([{ change: 'removed', between: 'l0 - s0' }]);
  });

  test('a host that does not answer is named, with what to try', () => {
    const { code, err } = rdmakit(made.inside, [
      'topo',
      'discover',
      `ssh://root@${made.hostOf('h1').split('@')[1]?.split(':')[0]}:1`,
      '--ssh',
      ssh,
    ]);
    expect(code).toBe(4);
    expect(err).toContain('cannot ask ssh://root@');
    expect(err).toContain('without a password: ssh');
  });
});

test('probe over ssh: the matrix of a WAN between hosts, and nothing stays behind on them', async () => {
  const topology = readMatrix('name,A,B\nA,-,20Mbps/20ms/5%\nB,10Mbps/20ms,-\n');
  const made = await lab('p', topology);
  const left = (): string[] => readdirSync(tmpdir()).filter((name) => name.startsWith('rdmakit-probe.'));
  const before = left();
  const { code, out, err } = rdmakit(made.inside, [
    'topo',
    'probe',
    made.hostOf('A'),
    made.hostOf('B'),
    '--ssh',
    ssh,
    '--json',
  ]);
  expect({ code, err: code === 0 ? '' : err }).toEqual({ code: 0, err: '' });
  const pairs: {
    from: string;
    to: string;
    rate_bps: number;
    rtt_ns: number;
    loss_low: number;
    loss_high: number;
  }[] = JSON.parse(out).pairs;
  expect(pairs.map(({ from, to }) => `${from} ${to}`)).toEqual(['A B', 'B A']);
  for (const [at, rate_bps] of [20e6, 10e6].entries()) {
    expect(Math.abs((pairs[at]?.rate_bps ?? 0) / rate_bps - 1)).toBeLessThan(0.05);
    expect(Math.abs((pairs[at]?.rtt_ns ?? 0) / 20e6 - 1)).toBeLessThan(0.05);
  }
  // One of two intervals of 95 % may miss; both a factor apart may not.
  expect(pairs[0]?.loss_low).toBeGreaterThan(0.03);
  expect(pairs[0]?.loss_high).toBeLessThan(0.07);
  expect(pairs[1]?.loss_low).toBeLessThan(0.001);
  expect(left()).toEqual(before);
});
