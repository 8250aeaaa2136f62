/** `topo discover` reads the lldpd of Debian, live: every node of an emulated network runs one, in a machine of its own. */

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { down, up } from '../../src/topo/emulate/run.ts';
import { list, load } from '../../src/topo/emulate/state.ts';
import { leafSpine } from '../../src/topo/generate/tiered.ts';
import type { Link, Topology } from '../../src/topo/model/schema.ts';
import { ROOT, requireAll } from './lib/requirements.ts';

setDefaultTimeout(60_000);
requireAll(['lldpd', 'lldpctl', 'nsenter', 'unshare']);

const topology = leafSpine({ leaves: 2, spines: 1, hosts: 1, parallel: 2, rate_bps: 1e9 });
const name = `l${(process.pid % 46_656).toString(36)}`;
const folder = mkdtempSync(join(tmpdir(), 'rdmakit-lldp-'));
const daemons = new Map<string, ChildProcess>();
/** Called like ssh: runs a command where the lldpd of a node is. */
const hop = ['sh', join(folder, 'hop')];

const on = (node: string, command: string) =>
  spawnSync(hop[0] ?? '', [...hop.slice(1), '--', node, command], { encoding: 'utf8' });

beforeAll(async () => {
  await up(topology, {
    name,
    scale: 1,
    mtu_bytes: 1500,
    seed: 1,
    perSwitchSeeds: false,
    queue_ns: 50e6,
    netem: 'none',
  });
  const spaces = load(name)?.spaces ?? {};
  for (const { id } of topology.nodes) {
    // Its socket lies in /run, so each has a /run too.
    const start = [
      `hostname ${id}; mount -t tmpfs none /run; mkdir /run/lldpd`,
      `echo 'configure system hostname ${id}.example.net' > /run/lldpd.conf`,
      "echo 'configure lldp tx-interval 1' >> /run/lldpd.conf",
      'exec lldpd -d -O /run/lldpd.conf',
    ].join('\n');
    const words = ['netns', 'exec', spaces[id] ?? '', 'unshare', '--mount', '--uts', 'sh', '-ec', start];
    daemons.set(id, spawn('ip', words, { stdio: 'ignore' }));
  }
  const processes = [...daemons].map(([id, { pid }]) => `${id}) pid=${pid} ;;`).join(' ');
  writeFileSync(
    join(folder, 'hop'),
    `while [ "$1" != -- ]; do shift; done; shift\ncase $1 in ${processes} esac\nexec nsenter --mount --uts --net --target $pid sh -c "$2"\n`,
  );
  for (const { id } of topology.nodes) {
    const degree = topology.links.filter(({ a, b }) => a === id || b === id).length;
    let heard = 0;
    for (let again = 0; again < 300 && heard < degree; again++) {
      await Bun.sleep(100);
      heard = on(id, 'lldpctl -f json0').stdout.match(/"via": "LLDP"/g)?.length ?? 0;
    }
    expect(`${id} hears ${heard}`).toBe(`${id} hears ${degree}`);
  }
});

afterAll(async () => {
  for (const daemon of daemons.values()) {
    const closed = new Promise((resolve) => daemon.once('close', resolve));
    daemon.kill();
    await closed;
  }
  if (list().includes(name)) down(name);
  rmSync(folder, { recursive: true });
});

function discover(...nodes: string[]): Topology {
  const words = [join(ROOT, 'src/cli.ts'), 'topo', 'discover', ...nodes, '--ssh', hop.join(' '), '--json'];
  const { status, stdout, stderr } = spawnSync(process.execPath, words, { encoding: 'utf8' });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return JSON.parse(stdout);
}

const cables = (links: readonly Link[]): string[] =>
  links.map(({ a, a_port, b, b_port }) => [`${a} ${a_port}`, `${b} ${b_port}`].sort().join(' -- ')).sort();
const kinds = ({ nodes }: Topology): string[] => nodes.map(({ id, kind }) => `${id} ${kind}`).sort();

test('all are asked: the cables with their ports are those of the network, each once', () => {
  const found = discover(...topology.nodes.map(({ id }) => id));
  expect(cables(found.links)).toEqual(cables(topology.links));
  expect(kinds(found)).toEqual(kinds(topology));
});

test('a host alone knows the port of its switch, and that it is its router', () => {
  const found = discover('h0');
  expect(kinds(found)).toEqual(['h0 host', 'l0.example.net switch']);
  expect(found.nodes[1]?.label).toBe('router');
  expect(cables(found.links)).toEqual(['h0 p1 -- l0.example.net p1']);
});

test('a switch alone tells hosts from switches, as its neighbours say of themselves', () => {
  const found = discover('l0');
  expect(cables(found.links)).toEqual([
    'h0.example.net p1 -- l0 p1',
    'l0 p2 -- s0.example.net p1',
    'l0 p3 -- s0.example.net p2',
  ]);
  expect(kinds(found)).toContain('h0.example.net host');
  expect(kinds(found)).toContain('s0.example.net switch');
});
