/** Emulated networks: what `topo up` makes behaves as `topo` predicts and as the file says. */

import { afterAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { libraryFolder } from '../../ffi/paths.ts';
import { balance } from '../../src/topo/ecmp/balance.ts';
import { choose, type HashModel } from '../../src/topo/ecmp/hash.ts';
import { formatAddress, Router } from '../../src/topo/ecmp/routes.ts';
import { UDP } from '../../src/topo/ecmp/trace.ts';
import { netemHere } from '../../src/topo/emulate/netem.ts';
import { type EmulationOptions, planEmulation } from '../../src/topo/emulate/plan.ts';
import { down, execIn, up } from '../../src/topo/emulate/run.ts';
import { list, load } from '../../src/topo/emulate/state.ts';
import { readMatrix } from '../../src/topo/formats/matrix.ts';
import { leafSpine } from '../../src/topo/generate/tiered.ts';
import { Graph, qualityOf } from '../../src/topo/model/graph.ts';
import type { Link, Topology } from '../../src/topo/model/schema.ts';
import { Agent } from '../../src/topo/probe/agent.ts';
import { matrixOf, probe } from '../../src/topo/probe/probe.ts';
import { emulated } from '../../src/topo/probe/sites.ts';

setDefaultTimeout(60_000);
const TRAFFIC = fileURLToPath(new URL('lib/traffic.mjs', import.meta.url));
const PORT = 4791;
const options = (name: string, more: Partial<EmulationOptions> = {}): EmulationOptions => ({
  name,
  scale: 1,
  mtu_bytes: 1500,
  seed: 7,
  perSwitchSeeds: true,
  queue_ns: 50e6,
  netem: netemHere(),
  ...more,
});

// Names of their own, so that two runs of the tests do not meet.
const unique = (process.pid % 46_656).toString(36);
const made: string[] = [];
async function emulate(
  label: string,
  topology: Topology,
  more: Partial<EmulationOptions> = {},
): Promise<string> {
  const name = `t${label}${unique}`;
  made.push(name);
  await up(topology, options(name, more));
  return name;
}
afterAll(() => {
  for (const name of made) if (list().includes(name)) down(name);
});

function spaceOf(name: string, node: string): string {
  return load(name)?.spaces[node] ?? '';
}

function inside(space: string, command: readonly string[], input?: string): string {
  const { status, stdout, stderr } = spawnSync('ip', ['netns', 'exec', space, ...command], {
    encoding: 'utf8',
    input,
    maxBuffer: 1 << 28,
  });
  if (status !== 0) throw new Error(`${command.join(' ')} in ${space}: ${stderr}`);
  return stdout;
}

const program = (space: string, words: readonly (string | number)[]): string[] => [
  'netns',
  'exec',
  space,
  process.execPath,
  TRAFFIC,
  ...words.map(String),
];

/** Starts a sink or echo; `finish()` ends it and gives what it counted. */
async function serve(
  space: string,
  mode: 'sink' | 'echo',
): Promise<{ finish(): Promise<{ packets: number; bytes: number; span_ns: number }> }> {
  const child: ChildProcess = spawn('ip', program(space, [mode, PORT]), {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let output = '';
  await new Promise<void>((resolve) => {
    child.stdout?.on('data', (chunk) => {
      output += chunk;
      if (output.startsWith('ready\n')) resolve();
    });
  });
  return {
    async finish() {
      const closed = new Promise((resolve) => child.once('close', resolve));
      child.stdin?.end();
      await closed;
      return JSON.parse(output.slice('ready\n'.length));
    },
  };
}

async function send(space: string, words: readonly (string | number)[]): Promise<string> {
  const child = spawn('ip', program(space, words), { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (chunk) => {
    output += chunk;
  });
  await new Promise((resolve) => child.once('close', resolve));
  return output;
}

const agent = (space: string): Promise<Agent> =>
  Agent.start(space, ['ip', 'netns', 'exec', space, join(libraryFolder(), 'rdmakit-probe')]);

/** What arrives when that much is sent, in frames of 1242 bytes. */
async function arrivalRate(
  from: string,
  to: string,
  address: string,
  rate_bps: number,
  seconds: number,
): Promise<number> {
  const [sender, receiver] = [await agent(from), await agent(to)];
  try {
    const packets = Math.round((rate_bps * seconds) / 8 / 1242);
    await receiver.ask(`expect 1 ${packets}`, 'expecting');
    await sender.ask(
      `send ${address} ${receiver.port} 1 1200 ${packets} ${Math.round((1242 * 8e9) / rate_bps)}`,
      'sent',
    );
    await Bun.sleep(200);
    const [, , rate = 0] = await receiver.ask('report', 'counted');
    return rate;
  } finally {
    await Promise.all([sender.close(), receiver.close()]);
  }
}

function sentPackets(space: string): Map<string, number> {
  const lines = inside(space, ['cat', '/proc/net/dev']).split('\n').slice(2);
  return new Map(
    lines.filter(Boolean).map((line) => {
      const [device = '', rest = ''] = line.split(':');
      return [device.trim(), Number(rest.trim().split(/\s+/)[9])];
    }),
  );
}

describe('leaf-spine with 4 spines', () => {
  const topology = leafSpine({ leaves: 4, spines: 4, hosts: 4, parallel: 1, rate_bps: 1e9 });
  const router = new Router(new Graph(topology));
  const model: HashModel = { name: 'linux', seed: 7, perSwitch: true };
  const [source, destination, leaf] = [router.find('h0'), router.find('h9'), router.find('l0')];
  const target = formatAddress(router.address(destination));
  const { interfaces } = planEmulation(topology, options('x'));
  const uplinks =
    router.routesTo(destination).hops[leaf]?.map(({ link }) => interfaces.get(link.id)?.a ?? '') ?? [];
  let name = '';

  test('the kernel chooses as the Linux model predicts for 10^4 flows', async () => {
    name = await emulate('ls', topology);
    const ports = Array.from({ length: 10_000 }, (_, i) => 49_152 + i);
    const questions = ports.map(
      (port) =>
        `route get ${target} from ${formatAddress(router.address(source))} iif p1 ipproto udp sport ${port} dport ${PORT}`,
    );
    const answers = [
      ...inside(spaceOf(name, 'l0'), ['ip', '-batch', '-'], `${questions.join('\n')}\n`).matchAll(
        / dev (\S+)/g,
      ),
    ].map(([, device]) => device);
    expect(answers.length).toBe(ports.length);
    const tuple = {
      source: router.address(source),
      destination: router.address(destination),
      protocol: UDP,
      destinationPort: PORT,
    };
    const right = ports.filter(
      (sourcePort, i) =>
        uplinks[choose(model, { ...tuple, sourcePort }, leaf, uplinks.length)] === answers[i],
    );
    expect(right.length).toBeGreaterThanOrEqual(9_900);
  });

  test('interface counters of all links are the load that balance predicts (twin check, mean error <= 5 %)', async () => {
    const ports = { first: 50_000, last: 50_199 };
    const [flows, each] = [ports.last - ports.first + 1, 10];
    // A host of each leaf sends; two of them to the same leaf.
    const pairs = ['h0 h9', 'h4 h13', 'h8 h1', 'h12 h2'].map((pair) => pair.split(' ') as [string, string]);
    const sinks = await Promise.all(pairs.map(([, to]) => serve(spaceOf(name, to), 'sink')));
    const counters = (): Map<string, Map<string, number>> =>
      new Map(topology.nodes.map(({ id }) => [id, sentPackets(spaceOf(name, id))]));
    const addressOf = (node: string): string => formatAddress(router.address(router.find(node)));
    const before = counters();
    await Promise.all(
      pairs.map(([from, to]) =>
        send(spaceOf(name, from), ['ports', addressOf(to), PORT, ports.first, ports.last, each]),
      ),
    );
    const after = counters();
    for (const sink of sinks) expect((await sink.finish()).packets).toBe(flows * each);
    const predicted = new Map<string, number>();
    for (const [from, to] of pairs) {
      const pair = { source: router.find(from), destination: router.find(to) };
      const { links } = await balance(router, model, {
        pair,
        pattern: 'permutation',
        flows,
        rate_bps: 1,
        protocol: UDP,
        destinationPort: PORT,
        ports,
        choose: false,
        optimum: false,
      });
      for (const link of links) {
        const key = `${link.from} ${link.id}`;
        predicted.set(key, (predicted.get(key) ?? 0) + link.flows * each);
      }
    }
    const errors: number[] = [];
    let unexpected = 0;
    for (const link of topology.links) {
      for (const end of ['a', 'b'] as const) {
        const device = interfaces.get(link.id)?.[end] ?? '';
        const measured = (after.get(link[end])?.get(device) ?? 0) - (before.get(link[end])?.get(device) ?? 0);
        const wanted = predicted.get(`${link[end]} ${link.id}`) ?? 0;
        if (wanted > 0) errors.push(Math.abs(measured - wanted) / wanted);
        else unexpected += measured;
      }
    }
    // Up and down at each leaf, and the links of the hosts.
    expect(errors.length).toBeGreaterThan(30);
    expect(errors.reduce((sum, error) => sum + error, 0) / errors.length).toBeLessThanOrEqual(0.05);
    expect(unexpected).toBeLessThanOrEqual(0.05 * flows * each);
  });

  test('every host reaches every other', async () => {
    const hosts = topology.nodes.filter(({ kind }) => kind === 'host');
    const agents = await Promise.all(hosts.map(({ id }) => agent(spaceOf(name, id))));
    try {
      for (const [at, far] of agents.entries()) {
        await far.ask('expect 5 1', 'expecting');
        for (const near of agents) {
          if (near === far) continue;
          const [answered] = await near.ask(`ask ${hosts[at]?.address} ${far.port} 5 1 1000000`, 'answered');
          expect(answered).toBe(1);
        }
      }
    } finally {
      await Promise.all(agents.map((each) => each.close()));
    }
  });
});

describe('a WAN from a matrix', () => {
  const topology = readMatrix(
    'name,A,B,C\nA,-,20Mbps/20ms,50Mbps/4ms/5%\nB,8Mbps/20ms,-,-\nC,50Mbps/4ms,-,-\n',
  );
  const router = new Router(new Graph(topology));
  const address = (site: string): string => formatAddress(router.address(router.find(site)));
  let name = '';

  test('delay is the round-trip time of the matrix within 0.3 ms + 2 %', async () => {
    name = await emulate('wan', topology);
    for (const [to, rtt_ms] of [
      ['B', 20],
      ['C', 4],
    ] as const) {
      const [from, far] = [await agent(spaceOf(name, 'A')), await agent(spaceOf(name, to))];
      await far.ask('expect 5 1', 'expecting');
      const [, least_ns = 0] = await from.ask(`ask ${address(to)} ${far.port} 5 60 5000000`, 'answered');
      await Promise.all([from.close(), far.close()]);
      // Each way within 0.3 ms + 2 %; the least of 60, because the rest is the scheduling of a machine with other work.
      expect(least_ns / 1e6).toBeGreaterThanOrEqual(rtt_ms);
      expect(least_ns / 1e6).toBeLessThanOrEqual(rtt_ms * 1.02 + 2 * 0.3);
    }
  });

  test('rate is the rate of each direction, headers included, within 3 %', async () => {
    for (const [from, to, rate_bps] of [
      ['A', 'B', 20e6],
      ['B', 'A', 8e6],
    ] as const) {
      // Twice what fits for a second and a half, counted by the kernel's time stamps of arrival.
      const measured = await arrivalRate(
        spaceOf(name, from),
        spaceOf(name, to),
        address(to),
        rate_bps * 2,
        1.5,
      );
      expect(Math.abs(measured / rate_bps - 1)).toBeLessThan(0.03);
    }
  });

  test('the probe returns the matrix within 5 %', async () => {
    const report = await probe(await emulated(name), {
      time_ns: 1e9,
      lossPackets: 20_000,
      limit_bps: 200e6,
      direct: true,
      parallel: 1,
    });
    expect(report.pairs.map(({ from, to }) => `${from} ${to}`)).toEqual(['A B', 'A C', 'B A', 'C A']);
    for (const { from, to, rate_bps, saturated, rtt_ns, loss_ratio } of report.pairs) {
      const link = topology.links.find(({ a, b }) => (a === from && b === to) || (a === to && b === from));
      const wanted = qualityOf(link as Link, link?.a === from ? 'forth' : 'back');
      expect(saturated).toBe(true);
      // The link that loses 5 % too.
      expect(Math.abs(rate_bps / (wanted.capacity_bps ?? 0) - 1)).toBeLessThan(0.05);
      const rtt = 2 * (wanted.delay_ns ?? 0);
      expect(Math.abs((rtt_ns ?? 0) - rtt)).toBeLessThan(Math.max(0.05 * rtt, 0.3e6 + 0.02 * rtt));
      // Three and a half standard deviations of 20 000 packets.
      const loss = wanted.loss_ratio ?? 0;
      expect(Math.abs(loss_ratio - loss)).toBeLessThan(3.5 * Math.sqrt((loss * (1 - loss)) / 20_000) + 1e-3);
    }
    const again = readMatrix(matrixOf(report));
    expect(again.nodes).toEqual(topology.nodes);
    expect(again.links.length).toBe(topology.links.length);
  });

  test('loss lies in its confidence interval, and only where the matrix says', async () => {
    const count = 3000;
    for (const [from, to, loss] of [
      ['A', 'C', 0.05],
      ['C', 'A', 0],
    ] as const) {
      const sink = await serve(spaceOf(name, to), 'sink');
      await send(spaceOf(name, from), ['blast', address(to), PORT, count, 100, 5]);
      const { packets } = await sink.finish();
      const spread = 3.3 * Math.sqrt(loss * (1 - loss) * count);
      expect(Math.abs(count - packets - loss * count)).toBeLessThanOrEqual(spread);
    }
  });
});

test('loss, duplication and reordering repeat with the seed', async () => {
  const topology: Topology = {
    nodes: [
      { id: 'A', kind: 'host' },
      { id: 'B', kind: 'host' },
    ],
    links: [
      {
        id: 'x',
        a: 'A',
        b: 'B',
        delay_ns: 2e6,
        jitter_ns: 1e6,
        loss_ratio: 0.1,
        duplicate_ratio: 0.2,
        reorder_ratio: 0.05,
      },
    ],
  };
  const address = formatAddress(new Router(new Graph(topology)).address(1));
  const count = 1000;
  const arrivals: number[] = [];
  for (const [label, seed] of [
    ['d', 3],
    ['e', 3],
    ['f', 4],
  ] as const) {
    const name = await emulate(label, topology, { seed });
    const sink = await serve(spaceOf(name, 'B'), 'sink');
    await send(spaceOf(name, 'A'), ['blast', address, PORT, count, 100, 5]);
    arrivals.push((await sink.finish()).packets);
    down(name);
  }
  expect(arrivals[1]).toBe(arrivals[0] as number);
  expect(arrivals[2]).not.toBe(arrivals[0] as number);
  // Duplicates are made of what was not lost, except of frames that were sent early.
  const expected = count * 0.9 * (1 + 0.2 * 0.95);
  for (const packets of arrivals) expect(Math.abs(packets / expected - 1)).toBeLessThan(0.06);
});

describe('up and down', () => {
  const spaces = (): string[] =>
    spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' })
      .stdout.split('\n')
      .map((line) => line.split(' ')[0] ?? '')
      .filter(Boolean)
      .sort();

  test('two side by side do not see each other; down removes exactly its own', async () => {
    const before = spaces();
    const topology = readMatrix('name,A,B\nA,-,10Mbps/1ms\nB,-,-\n');
    const first = await emulate('a', topology);
    const mine = spaces();
    const second = await emulate('b', topology);
    await expect(up(topology, options(second))).rejects.toThrow('is there already');
    expect(execIn(second, 'A', ['true'])).toBe(0);
    expect(execIn(second, 'A', ['sh', '-c', 'exit 7'])).toBe(7);
    expect(() => execIn(second, 'Z', ['true'])).toThrow("no node 'Z'");
    down(second);
    expect(spaces()).toEqual(mine);
    down(first);
    expect(spaces()).toEqual(before);
    expect(list()).not.toContain(first);
  });

  test.each([
    ['alone: its ip(8) goes on', 1],
    ['with all that it started', -1],
  ])('what an up that was killed %s left behind is removed', async (_, group) => {
    const before = spaces();
    const name = `k${group > 0 ? 'a' : 'g'}${unique}`;
    made.push(name);
    const script = `import { up } from ${JSON.stringify(fileURLToPath(new URL('../../src/topo/emulate/run.ts', import.meta.url)))};
      import { fatTree } from ${JSON.stringify(fileURLToPath(new URL('../../src/topo/generate/tiered.ts', import.meta.url)))};
      await up(fatTree({ k: 4, rate_bps: 1e9, delay_ns: 1e6 }), ${JSON.stringify(options(name))});`;
    const child = spawn(process.execPath, ['-e', script], { stdio: 'ignore', detached: true });
    const closed = new Promise((resolve) => child.once('close', resolve));
    // Killed as soon as some, and before all, of the namespaces are there.
    while (spaces().filter((space) => space.startsWith(`rk-${name}`)).length < 3 && child.exitCode === null)
      await Bun.sleep(2);
    process.kill(group * (child.pid ?? 0), 'SIGKILL');
    await closed;
    expect(list()).toContain(name);
    down(name);
    expect(spaces()).toEqual(before);
  });

  test('a user without root is told what is needed, and it works in a user namespace', () => {
    // The checkout where anybody may read it, also when it lies in somebody's home.
    const checkout = fileURLToPath(new URL('../..', import.meta.url));
    const seen = mkdtempSync(join(tmpdir(), 'rdmakit-nobody-'));
    chmodSync(seen, 0o755);
    const there = (path: string): string =>
      path.startsWith(checkout) ? join(seen, relative(checkout, path)) : path;
    const source = (path: string): string => JSON.stringify(there(join(checkout, 'src/topo', path)));
    const name = `u${unique}`;
    const script = `import { up, execIn, down } from ${source('emulate/run.ts')};
      import { readMatrix } from ${source('formats/matrix.ts')};
      try { await up(readMatrix('name,A,B\\nA,-,10Mbps/1ms\\nB,-,-\\n'), ${JSON.stringify(options(name))}); }
      catch (error) { console.log(error.message); process.exit(9); }
      console.log('exec', execIn('${name}', 'A', ['true'])); down('${name}');`;
    const nobody = 'setpriv --reuid=65534 --regid=65534 --clear-groups';
    const run = (before: string) =>
      spawnSync(
        'unshare',
        ['--mount', 'sh', '-c', `mount --bind "$1" "$2"; cd /; shift 2; exec ${nobody} ${before} "$@"`]
          .concat(['sh', checkout, seen])
          .concat([there(process.execPath), '-e', script]),
        { encoding: 'utf8', env: { ...process.env, HOME: '/tmp' } },
      );
    try {
      expect(run('')).toMatchObject({ status: 9, stdout: 'network namespaces need root\n' });
      const user = 'unshare --user --map-root-user --net --mount';
      expect(run(user)).toMatchObject({ status: 9, stdout: 'cannot write to /run/rdmakit/topo\n' });
      expect(run(`${user} sh -c 'mount -t tmpfs none /run; exec "$@"' sh`)).toMatchObject({
        status: 0,
        stdout: 'exec 0\n',
      });
    } finally {
      rmdirSync(seen);
    }
  });

  test('a broken file makes nothing', async () => {
    const before = spaces();
    const many = leafSpine({ leaves: 40, spines: 4, hosts: 40, parallel: 1, rate_bps: 1e9 });
    await expect(up(many, options(`m${unique}`))).rejects.toThrow('too many to emulate');
    expect(spaces()).toEqual(before);
  });

  test('the relay names a wrong rule by its line', () => {
    const relay = fileURLToPath(
      new URL(`../../prebuilds/linux-${process.arch}/rdmakit-relay`, import.meta.url),
    );
    expect(readFileSync(relay).length).toBeGreaterThan(1000);
    const { status, stderr } = spawnSync(relay, ['/dev/stdin'], {
      input: 'a b 1 1 0 0 0 1\na b -5\n',
      encoding: 'utf8',
    });
    expect([status, stderr]).toEqual([2, 'rdmakit-relay: /dev/stdin:2: not a rule\n']);
  });
});
