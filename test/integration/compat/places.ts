/**
 * Where the two ends of a program run, and as whom: one host or two, root or an ordinary user in a container. All have the
 * same addresses.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { Network } from '../lib/network.ts';
import { mustRun, type StartOptions, sleep, until } from '../lib/process.ts';
import { SOFT_DIR, SYSFS_SO } from '../lib/requirements.ts';

/** One end. */
export interface Place {
  device: string;
  ipv4: string;
  /** Index of the IPv4 address's GID. */
  gidIndex: number;
  /** The command line that runs a program there. */
  wrap(argv: readonly string[]): string[];
  env: Record<string, string>;
}

export interface Mode {
  name: string;
  doc: string;
  server: Place;
  client: Place;
}

export const MODE_DOC = {
  'one host': 'both ends on one host, through shared memory',
  'one host, UDP': 'both ends on one host, RoCE v2 over UDP (RDMAKIT_ROAD=wire)',
  'two hosts': 'two network namespaces joined by a veth pair, RoCE v2 over UDP',
  container:
    'as "one host", in a container: fresh user, network and mount namespaces, ordinary user, 64 KiB of lockable memory, read-only root, private /dev/shm',
  'two containers': 'two such containers joined by a veth pair, RoCE v2 over UDP',
} as const;
export type ModeName = keyof typeof MODE_DOC;

/** An ordinary user that owns nothing here. */
const USER = 65534;
const MEMLOCK_BYTES = 65536;
const ADDRESSES = ['10.77.0.1', '10.77.0.2'] as const;
const CONTAINER_NETDEV = 'eth0';

/** What `rdmakit verbs-run` sets; these tests name the libraries themselves to save its start a thousand times. */
const VERBS_RUN = { LD_LIBRARY_PATH: SOFT_DIR, LD_PRELOAD: SYSFS_SO };

/** For programs that choose among all devices: the loopback one leads to no other host. */
const chosen = (device: string): Record<string, string> => ({ UCX_NET_DEVICES: `${device}:1` });

/**
 * A container: a process that sleeps in its own namespaces. Nothing is writable in it but /dev/shm. The user is the same
 * inside, has no capabilities, and the limits of the host's user apply.
 */
class Container {
  readonly pid: number;
  private readonly holder: ChildProcess;
  readonly ready: Promise<void>;

  constructor() {
    const inside = [
      'set -e',
      'mount -t tmpfs -o mode=1777 tmpfs /dev/shm',
      'ip link set lo up',
      'mount -o remount,bind,ro /',
      'for point in /tmp /run /var/tmp; do ! mountpoint -q $point || mount -t tmpfs -o ro tmpfs $point; done',
      'echo ready',
      'exec sleep 1000000',
    ].join('\n');
    this.holder = spawn(
      'setpriv',
      [
        ...['--reuid', `${USER}`, '--regid', `${USER}`, '--clear-groups', '--'],
        ...['unshare', '--user', '--map-current-user', '--keep-caps', '--net', '--mount', 'sh', '-c', inside],
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    this.pid = this.holder.pid ?? -1;
    let said = '';
    this.holder.stdout?.on('data', (chunk: Buffer) => {
      said += chunk;
    });
    this.ready = until('the container is set up', () => {
      if (this.holder.exitCode !== null) throw new Error('a container could not be set up');
      return said.includes('ready');
    });
  }

  wrap(argv: readonly string[]): string[] {
    return [
      ...['nsenter', '-t', `${this.pid}`, '-U', '-n', '-m', '-S', `${USER}`, '-G', `${USER}`, '--'],
      ...['prlimit', `--memlock=${MEMLOCK_BYTES}:${MEMLOCK_BYTES}`, '--'],
      ...argv,
    ];
  }

  /** Joins two containers; the interfaces are given their addresses from outside, as a container engine does it. */
  static async join(containers: readonly [Container, Container]): Promise<void> {
    await Promise.all(containers.map(({ ready }) => ready));
    const [a, b] = containers;
    const name = CONTAINER_NETDEV;
    const peer = ['peer', 'name', name, 'netns', `${b.pid}`];
    await mustRun(['ip', 'link', 'add', name, 'netns', `${a.pid}`, 'type', 'veth', ...peer]);
    for (const [i, { pid }] of containers.entries()) {
      const ip = ['nsenter', '-t', `${pid}`, '-n', 'ip'];
      await mustRun([...ip, 'address', 'add', `${ADDRESSES[i]}/24`, 'dev', name]);
      await mustRun([...ip, 'link', 'set', name, 'up']);
    }
  }

  remove(): void {
    this.holder.kill('SIGKILL');
  }
}

/** Reads the index from `ibv_devinfo -v`; waits for the address to get there. */
async function gidIndexOf(place: Omit<Place, 'gidIndex'>): Promise<number> {
  for (let attempt = 0; ; attempt++) {
    const argv = place.wrap(['ibv_devinfo', '-v', '-d', place.device]);
    const text = await mustRun(argv, { env: place.env });
    const line = text.split('\n').find((each) => each.includes(`::ffff:${place.ipv4},`));
    const index = line?.match(/GID\[\s*(\d+)\]/)?.[1];
    if (index !== undefined) return Number(index);
    if (attempt === 20) throw new Error(`${place.device} has no GID of ${place.ipv4}:\n${text}`);
    await sleep(100);
  }
}

/** All modes, and how to remove what they stand on. */
export class Places {
  readonly modes = new Map<ModeName, Mode>();
  private network: Network | undefined;
  private containers: Container[] = [];

  static async create(): Promise<Places> {
    const places = new Places();
    process.on('exit', () => places.remove());
    const network = await Network.create();
    places.network = network;
    const pair = [new Container(), new Container()] as const;
    places.containers = [...pair];
    await Container.join(pair);

    const host = async (i: 0 | 1, env: Record<string, string> = {}): Promise<Place> => {
      const { netns, device, ipv4 } = i === 0 ? network.a : network.b;
      const wrap = (argv: readonly string[]): string[] => ['ip', 'netns', 'exec', netns, ...argv];
      const place = {
        ...{ device, ipv4, wrap },
        env: { ...network.env(), ...VERBS_RUN, ...chosen(device), ...env },
      };
      return { ...place, gidIndex: await gidIndexOf(place) };
    };
    const inside = async (i: 0 | 1): Promise<Place> => {
      const container = pair[i];
      const [device, ipv4] = [`rk_${CONTAINER_NETDEV}`, ADDRESSES[i]];
      const home = { HOME: '/dev/shm', TMPDIR: '/dev/shm', RDMAKIT_RUNTIME_DIR: '' };
      const wrap = (argv: readonly string[]): string[] => container.wrap(argv);
      const place = { device, ipv4, wrap, env: { ...VERBS_RUN, ...home, ...chosen(device) } };
      return { ...place, gidIndex: await gidIndexOf(place) };
    };
    const add = (name: ModeName, server: Place, client: Place): void => {
      places.modes.set(name, { name, doc: MODE_DOC[name], server, client });
    };
    const a = await host(0);
    const wired = await host(0, { RDMAKIT_ROAD: 'wire' });
    const c = await inside(0);
    add('one host', a, a);
    add('one host, UDP', wired, wired);
    add('two hosts', a, await host(1));
    add('container', c, c);
    add('two containers', c, await inside(1));
    return places;
  }

  mode(name: ModeName): Mode {
    const mode = this.modes.get(name);
    if (!mode) throw new Error(`the mode ${name} was not made`);
    return mode;
  }

  remove(): void {
    for (const container of this.containers) container.remove();
    this.network?.remove();
  }
}

/** How `Program` starts something at a place. */
export function at(
  place: Place,
  argv: readonly string[],
  limit_ms: number,
  env: Record<string, string> = {},
): [string[], StartOptions] {
  return [place.wrap(argv), { env: { ...place.env, ...env }, limit_ms, cwd: '/' }];
}
