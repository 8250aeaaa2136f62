/**
 * Two hosts made of network namespaces joined by a veth pair: what stands in for two machines. They are named after this
 * process, so that several test runs do not meet, and only what was made here is removed.
 */

import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mustRun, Program, sleep, until } from './process.ts';
import { PREBUILDS, SOFT_DIR } from './requirements.ts';

/** One of the two hosts. */
export interface Host {
  netns: string;
  ipv4: string;
  ipv6: string;
  /** The interface, and the RDMA device on it. */
  netdev: string;
  device: string;
}

/** What a link does to the frames of each direction. */
export interface Weather {
  delay_ms?: number;
  jitter_ms?: number;
  loss_percent?: number;
  duplicate_percent?: number;
  /** Frames that do not wait: they overtake others. */
  reorder_percent?: number;
}

let made = 0;

/** The kernel adds the link-local address some time after the link came up; until then the GID table is not final. */
async function linkLocalReady(netns: string, netdev: string): Promise<void> {
  const listing = ['ip', '-6', '-o', 'address', 'show', 'dev', netdev, 'scope', 'link'];
  const deadline = performance.now() + 5000;
  for (;;) {
    const text = await mustRun(listing, { netns });
    if (text.includes('fe80::') && !text.includes('tentative')) return;
    if (performance.now() > deadline)
      throw new Error(`${netdev} in ${netns} got no link-local address: ${text}`);
    await sleep(20);
  }
}

export class Network {
  readonly a: Host;
  readonly b: Host;
  /** RDMAKIT_RUNTIME_DIR of everything that runs here: private, and looked into by tests of what is left over. */
  readonly runtimeDir: string;
  /** The namespace between the halves of the link, when it has weather. */
  private readonly between: string;
  private relay: Program | undefined;
  private removed = false;
  private readonly removeAtExit = (): void => this.remove();

  private constructor() {
    const base = `rk${process.pid}n${made++}`;
    const host = (side: string, number: number): Host => ({
      netns: `${base}${side}`,
      ipv4: `10.77.0.${number}`,
      ipv6: `fd77::${number}`,
      netdev: `v${side}`,
      device: `rk_v${side}`,
    });
    this.a = host('a', 1);
    this.b = host('b', 2);
    this.between = `${base}m`;
    this.runtimeDir = mkdtempSync(join(tmpdir(), `${base}-`));
    chmodSync(this.runtimeDir, 0o700);
  }

  /** Makes both namespaces; `mtu` in bytes is that of the veth interfaces. Remove it with `remove()`. */
  static async create({ mtu = 1500, weather }: { mtu?: number; weather?: Weather } = {}): Promise<Network> {
    const network = new Network();
    process.on('exit', network.removeAtExit);
    try {
      const { a, b } = network;
      for (const { netns } of [a, b]) {
        await mustRun(['ip', 'netns', 'add', netns]);
        // Duplicate address detection would keep the IPv6 addresses unusable for the first second.
        await mustRun(['sysctl', '-qw', 'net.ipv6.conf.default.accept_dad=0'], { netns });
        await mustRun(['ip', 'link', 'set', 'lo', 'up'], { netns });
      }
      if (weather) {
        await network.makeBetween(mtu);
      } else {
        const peer = ['peer', 'name', b.netdev, 'netns', b.netns];
        await mustRun(['ip', 'link', 'add', a.netdev, 'netns', a.netns, 'type', 'veth', ...peer]);
      }
      for (const { netns, netdev, ipv4 } of [a, b]) {
        await mustRun(['ip', 'address', 'add', `${ipv4}/24`, 'dev', netdev], { netns });
        await mustRun(['ip', 'link', 'set', netdev, 'mtu', `${mtu}`], { netns });
      }
      for (const host of [a, b]) await network.linkUp(host);
      if (weather) await network.startRelay(weather);
      await network.settled();
      return network;
    } catch (error) {
      network.remove();
      throw error;
    }
  }

  /** Each host's interface gets a half in the namespace between. */
  private async makeBetween(mtu: number): Promise<void> {
    await mustRun(['ip', 'netns', 'add', this.between]);
    await mustRun(['sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1'], { netns: this.between });
    for (const { netns, netdev } of [this.a, this.b]) {
      const half = ['peer', 'name', netdev, 'netns', this.between];
      await mustRun(['ip', 'link', 'add', netdev, 'netns', netns, 'type', 'veth', ...half]);
      // Each packet a frame: what is lost is not dozens of them as one.
      await mustRun(['ip', 'link', 'set', netdev, 'gso_max_segs', '1'], { netns });
      await mustRun(['ip', 'link', 'set', netdev, 'mtu', `${mtu}`, 'up'], { netns: this.between });
    }
  }

  private async startRelay(weather: Weather): Promise<void> {
    const {
      delay_ms = 0,
      jitter_ms = 0,
      loss_percent = 0,
      duplicate_percent = 0,
      reorder_percent = 0,
    } = weather;
    const numbers = [
      delay_ms * 1e6,
      jitter_ms * 1e6,
      ...[loss_percent, duplicate_percent, reorder_percent].map((p) => p * 1e4),
    ];
    const [a, b] = [this.a.netdev, this.b.netdev];
    const rules = join(this.runtimeDir, 'relay-rules');
    writeFileSync(
      rules,
      [`${a} ${b} ${numbers.join(' ')} 1`, `${b} ${a} ${numbers.join(' ')} 2`, ''].join('\n'),
    );
    const relay = new Program([join(PREBUILDS, 'rdmakit-relay'), rules], {
      netns: this.between,
      limit_ms: 600_000,
    });
    this.relay = relay;
    await until('the relay is ready', () => !relay.alive || relay.stdout.includes('ready'));
    if (!relay.alive) throw new Error(`the relay: ${relay.stderr}`);
  }

  /** Also gives the IPv6 address back, which the kernel takes away when a link goes down. */
  async linkUp({ netns, netdev, ipv6 }: Host): Promise<void> {
    await mustRun(['ip', 'link', 'set', netdev, 'up'], { netns });
    await mustRun(['ip', 'address', 'replace', `${ipv6}/64`, 'dev', netdev, 'nodad'], { netns });
  }

  async linkDown({ netns, netdev }: Host): Promise<void> {
    await mustRun(['ip', 'link', 'set', netdev, 'down'], { netns });
  }

  /** Waits until both links are up and all their addresses there, so that GID tables stay as they are. */
  async settled(): Promise<void> {
    for (const { netns, netdev } of [this.a, this.b]) await linkLocalReady(netns, netdev);
  }

  /** Environment of a program on the embedded device. */
  env(more: Record<string, string> = {}): Record<string, string> {
    return { LD_LIBRARY_PATH: SOFT_DIR, RDMAKIT_RUNTIME_DIR: this.runtimeDir, ...more };
  }

  /** Synchronous, so that it also works while the process exits. */
  remove(): void {
    if (this.removed) return;
    this.removed = true;
    process.off('exit', this.removeAtExit);
    this.relay?.kill('SIGKILL');
    for (const netns of [this.a.netns, this.b.netns, this.between])
      spawnSync('ip', ['netns', 'delete', netns], { stdio: 'ignore' });
    rmSync(this.runtimeDir, { recursive: true, force: true });
  }
}
