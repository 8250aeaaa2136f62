/**
 * Two hosts made of network namespaces joined by a veth pair: what stands in for two machines. They are named after this
 * process, so that several test runs do not meet, and only what was made here is removed.
 */

import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mustRun, sleep } from './process.ts';
import { SOFT_DIR } from './requirements.ts';

/** One of the two hosts. */
export interface Host {
  netns: string;
  ipv4: string;
  ipv6: string;
  /** The interface, and the RDMA device on it. */
  netdev: string;
  device: string;
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
    this.runtimeDir = mkdtempSync(join(tmpdir(), `${base}-`));
    chmodSync(this.runtimeDir, 0o700);
  }

  /** Makes both namespaces; `mtu` in bytes is that of the veth interfaces. Remove it with `remove()`. */
  static async create({ mtu = 1500 }: { mtu?: number } = {}): Promise<Network> {
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
      const peer = ['peer', 'name', b.netdev, 'netns', b.netns];
      await mustRun(['ip', 'link', 'add', a.netdev, 'netns', a.netns, 'type', 'veth', ...peer]);
      for (const { netns, netdev, ipv4 } of [a, b]) {
        await mustRun(['ip', 'address', 'add', `${ipv4}/24`, 'dev', netdev], { netns });
        await mustRun(['ip', 'link', 'set', netdev, 'mtu', `${mtu}`], { netns });
      }
      for (const host of [a, b]) await network.linkUp(host);
      await network.settled();
      return network;
    } catch (error) {
      network.remove();
      throw error;
    }
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
    for (const { netns } of [this.a, this.b])
      spawnSync('ip', ['netns', 'delete', netns], { stdio: 'ignore' });
    rmSync(this.runtimeDir, { recursive: true, force: true });
  }
}
