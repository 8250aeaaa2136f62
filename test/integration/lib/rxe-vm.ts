/**
 * The kernel's own Soft-RoCE in a virtual machine (test/rxe-vm/rxe-vm.sh) and, beside it, a network namespace in which programs
 * run on the embedded device: two hosts, of which only one is ours.
 */

import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { freshPort, type PairEnded } from './pair.ts';
import { patientClock, startsPerftest } from './patient-clock.ts';
import { type Ended, listensOn, mustRun, Program, until } from './process.ts';
import { ROOT, SOFT_DIR } from './requirements.ts';
import type { End } from './roads.ts';

const SCRIPT = join(ROOT, 'test', 'rxe-vm', 'rxe-vm.sh');
const BUILD_LIMIT_MS = 300_000;
const START_LIMIT_MS = 180_000;
/** For a hook that calls `RxeVm.start()`. */
export const BOOT_LIMIT_MS = BUILD_LIMIT_MS + START_LIMIT_MS;
/** A line of the guest's shell, once the server it started is ready. */
const READY = '__ready';

/** Debian's kernels, the meta packages: with all programs, or with a selection. */
export const KERNELS = [
  { name: 'linux-image-amd64', linesOf: 'all' },
  { name: 'linux-image-6.12-amd64', linesOf: 'selection' },
] as const;

export type IpVersion = 'IPv4' | 'IPv6';
/** Which of the two runs the server; the other one is the client. */
export type Server = 'ours' | 'rxe';

/** What happens to the frames of either direction, in parts per million. */
export interface Fate {
  delay_ns: number;
  loss_ppm: number;
  duplicate_ppm: number;
  reorder_ppm: number;
}

/** How often it happened, both directions together. */
export type FateCounts = Record<'forwarded' | 'lost' | 'duplicated' | 'reordered', number>;

/** How to see that a server waits for its client: at a TCP port, or, for rdma_cm, by its sleep. */
export type Ready = 'listening' | 'asleep';

export interface RxePairSpec {
  /** A program of the guest's image, or the path of one of ours, which is handed to the guest. */
  program: string;
  /** Of the client, when it is another one. */
  clientProgram?: string;
  args: readonly string[];
  flags: (end: End, port: number) => string[];
  /** What the client is told behind its arguments; the server's IPv4 address when absent. */
  clientArgs?: readonly string[];
  server: Server;
  ready?: Ready;
  /** It serves for ever: killed when the client has ended. */
  endless?: boolean;
  ip: IpVersion;
  limit_ms?: number;
  /** Of the embedded device's end. */
  env?: Record<string, string>;
}

/** `RDMAKIT_RXE=all` runs every combination, some ten minutes; else each address family and each frame size comes once. */
export const isExhaustive = process.env.RDMAKIT_RXE === 'all';
export const isUsualWay = (ip: IpVersion, mtu: number): boolean =>
  isExhaustive || (ip === 'IPv4') === (mtu === 1500);

/** Why no such machine can run here; undefined when it can. Missing Debian packages are not among the reasons. */
export function whyNoVm(): string | undefined {
  if (process.arch !== 'x64') return `the image is for x86-64 and this machine is ${process.arch}`;
  if (!existsSync('/dev/net/tun')) return 'this machine has no /dev/net/tun, so QEMU gets no TAP';
  return undefined;
}

export class RxeVm {
  static readonly HOST_IPV4 = '10.77.0.1';
  static readonly GUEST_IPV4 = '10.77.0.2';
  readonly hostNetns: string;
  private readonly name: string;
  private readonly folder: string;
  /** This folder is /share in the guest. */
  readonly share: string;
  private readonly scriptEnv: Record<string, string>;
  private readonly gidIndexes: Record<Server, Record<IpVersion, number>> = {
    ours: { IPv4: -1, IPv6: -1 },
    rxe: { IPv4: -1, IPv6: -1 },
  };
  private readonly stopAtExit = (): void => this.stop();
  private readonly shared = new Set<string>();
  private started = false;

  private constructor(kernel: string) {
    this.name = `rk${process.pid}${kernel.replaceAll(/[^0-9]/g, '')}`;
    this.hostNetns = `${this.name}-host`;
    this.folder = mkdtempSync(join(tmpdir(), `${this.name}-`));
    chmodSync(this.folder, 0o700);
    this.share = join(this.folder, 'share');
    mkdirSync(this.share);
    this.scriptEnv = { RXE_VM_NAME: this.name, RXE_VM_KERNEL: kernel, RXE_VM_SHARE: this.share };
  }

  /** Boots the Debian kernel of this (meta) package; builds the image first when there is none. */
  static async start(kernel: string): Promise<RxeVm> {
    const vm = new RxeVm(kernel);
    process.on('exit', vm.stopAtExit);
    try {
      await vm.script(['setup'], BUILD_LIMIT_MS);
      vm.started = true;
      await vm.script(['start'], START_LIMIT_MS);
      await vm.findGids();
      return vm;
    } catch (error) {
      vm.stop();
      throw error;
    }
  }

  static addressOf(side: Server, ip: IpVersion): string {
    if (ip === 'IPv6') return side === 'ours' ? 'fd77::1' : 'fd77::2';
    return side === 'ours' ? RxeVm.HOST_IPV4 : RxeVm.GUEST_IPV4;
  }

  /** Environment of programs on the embedded device. */
  env(more: Record<string, string> = {}): Record<string, string> {
    return { LD_LIBRARY_PATH: SOFT_DIR, RDMAKIT_RUNTIME_DIR: this.folder, ...more };
  }

  end(side: Server, ip: IpVersion): End {
    const device = side === 'ours' ? 'rk_eth0' : 'rxe0';
    return { netns: side === 'ours' ? this.hostNetns : '', device, gidIndex: this.gidIndexes[side][ip] };
  }

  /** Runs a shell script in the guest; throws unless it succeeds. */
  guest(script: string, limit_ms = 20_000): Promise<string> {
    return this.script(['exec', script], limit_ms);
  }

  /** Runs a command beside the guest. */
  host(command: string): Promise<string> {
    return mustRun(command.split(' '), { netns: this.hostNetns, env: this.env() });
  }

  /** A program in the guest; it is killed there after the limit. With `ready`, a shell command that ends then, it says so. */
  guestProgram(argv: readonly string[], limit_ms: number, ready?: string): Program {
    const [file = '', ...args] = argv;
    const command = [this.inGuest(file), ...args].map((word) => `'${word}'`).join(' ');
    const clock = startsPerftest(argv) ? `LD_PRELOAD=${this.inGuest(patientClock())} ` : '';
    const limited = `${clock}timeout -s KILL ${Math.ceil(limit_ms / 1000)} ${command}`;
    const script = ready === undefined ? limited : `${limited} & p=$!; ${ready} echo ${READY}; wait $p`;
    return new Program([SCRIPT, 'exec', script], { env: this.scriptEnv, limit_ms: limit_ms + 5000 });
  }

  ourProgram(argv: readonly string[], limit_ms: number, env: Record<string, string> = {}): Program {
    return new Program(argv, { netns: this.hostNetns, env: this.env(env), limit_ms });
  }

  /** Hands rdmakit itself to the guest, with Bun and the packages it needs; the words that start it there. */
  shareRdmakit(): string[] {
    const there = join(this.share, 'rdmakit');
    if (!existsSync(there)) {
      mkdirSync(there);
      copyFileSync(process.execPath, join(there, 'bun'));
      const lock = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as {
        packages: Record<string, { dev?: boolean }>;
      };
      const packages = Object.entries(lock.packages).flatMap(([path, { dev }]) =>
        path !== '' && !dev && existsSync(join(ROOT, path)) ? [path] : [],
      );
      for (const path of ['src', 'ffi', 'package.json', 'prebuilds', ...packages])
        cpSync(join(ROOT, path), join(there, path), { recursive: true });
    }
    return ['/share/rdmakit/bun', '/share/rdmakit/src/cli.ts'];
  }

  /** Server on one side, client on the other, to their ends, however they end. */
  async runPair(spec: RxePairSpec): Promise<PairEnded> {
    const port = freshPort();
    const { limit_ms = 20_000, ip, server: serving, ready = 'listening' } = spec;
    const dialling = serving === 'ours' ? 'rxe' : 'ours';
    const argv = (side: Server, program: string): string[] => [
      ...[program, ...spec.flags(this.end(side, ip), port), ...spec.args],
    ];
    const start = (side: Server, words: readonly string[], waiting?: string): Program =>
      side === 'ours'
        ? this.ourProgram(words, limit_ms, spec.env)
        : this.guestProgram(words, limit_ms, waiting);
    const server = start(serving, argv(serving, spec.program), guestWaits(spec.program, ready, port));
    let client: Program | undefined;
    try {
      const isReady = serving === 'ours' ? weWait(server, ready, port) : () => server.stdout.includes(READY);
      await until('the server waits for its client', () => !server.alive || isReady(), limit_ms);
      const more = spec.clientArgs ?? [serving === 'ours' ? RxeVm.HOST_IPV4 : RxeVm.GUEST_IPV4];
      client = start(dialling, [...argv(dialling, spec.clientProgram ?? spec.program), ...more]);
      const ended = await client.ended;
      if (spec.endless) {
        if (serving === 'rxe') await this.guest(`killall -9 ${basename(spec.program)}`);
        else server.kill('SIGKILL');
      }
      return { client: ended, server: withoutNotice(await server.ended) };
    } finally {
      for (const program of [server, client]) if (program?.alive) program.kill('SIGKILL');
    }
  }

  /** Of every interface on the way. rxe and the embedded device choose their path MTU by it. */
  async setMtu(bytes: number): Promise<void> {
    await this.script(['mtu', `${bytes}`]);
  }

  /** What happens to frames from now on, nothing without an argument. Returns what had happened to them until now. */
  async setFate(fate?: Fate): Promise<FateCounts> {
    const { delay_ns = 0, loss_ppm = 0, duplicate_ppm = 0, reorder_ppm = 0 } = fate ?? {};
    const words = [delay_ns, 0, loss_ppm, duplicate_ppm, reorder_ppm].map(String);
    const text = await this.script(['link', ...words]);
    const sum = (name: string): number =>
      [...text.matchAll(new RegExp(`\\b${name}=(\\d+)`, 'g'))].reduce(
        (total, match) => total + Number(match[1]),
        0,
      );
    return {
      forwarded: sum('forwarded'),
      lost: sum('lost'),
      duplicated: sum('duplicated'),
      reordered: sum('reordered'),
    };
  }

  /** Synchronous, so that it also works while the process exits. */
  stop(): void {
    process.off('exit', this.stopAtExit);
    if (this.started) {
      this.started = false;
      spawnSync(SCRIPT, ['stop'], { env: { ...process.env, ...this.scriptEnv }, stdio: 'ignore' });
    }
    rmSync(this.folder, { recursive: true, force: true });
  }

  private script(args: readonly string[], limit_ms = 20_000): Promise<string> {
    return mustRun([SCRIPT, ...args], { env: this.scriptEnv, limit_ms });
  }

  /** Where the guest finds a program: ours are copied into the shared folder. */
  inGuest(program: string): string {
    if (!program.startsWith('/') || program.startsWith('/share/')) return program;
    const name = basename(program);
    if (!this.shared.has(program)) copyFileSync(program, join(this.share, name));
    this.shared.add(program);
    return `/share/${name}`;
  }

  /** Reads both GID tables; their order is not ours to assume. */
  private async findGids(): Promise<void> {
    const tables = {
      ours: await mustRun(['ibv_devinfo', '-v', '-d', 'rk_eth0'], { netns: this.hostNetns, env: this.env() }),
      rxe: await this.guest('ibv_devinfo -v -d rxe0'),
    };
    for (const side of ['ours', 'rxe'] as const) {
      for (const ip of ['IPv4', 'IPv6'] as const) {
        const address = RxeVm.addressOf(side, ip);
        const gid = ip === 'IPv4' ? `::ffff:${address}` : address;
        const row = new RegExp(`\\s${gid},`);
        const line = tables[side].split('\n').find((each) => row.test(each));
        const index = line?.match(/GID\[\s*(\d+)\]/)?.[1];
        if (index === undefined) throw new Error(`no GID ${gid} on the side of ${side}:\n${tables[side]}`);
        this.gidIndexes[side][ip] = Number(index);
      }
    }
  }
}

/** So many looks in a row, 30 ms apart, must find it asleep: who only waits for the processor is not. */
const ASLEEP_LOOKS = 8;

/** Shell text which ends when $p waits, or is gone. */
function guestWaits(program: string, ready: Ready, port: number): string {
  if (ready === 'listening') {
    const listening = `grep -qi ':${port.toString(16).padStart(4, '0')} .* 0A ' /proc/net/tcp /proc/net/tcp6`;
    return `until ${listening} || ! kill -0 $p 2>&-; do sleep 0.02; done;`;
  }
  // `timeout` of busybox becomes the program and leaves the watching to a child.
  const state = '"$(cat /proc/$p/comm 2>&-):$(cut -d\' \' -f3 /proc/$p/stat 2>&-)"';
  return (
    `n=0; while [ $n -lt ${ASLEEP_LOOKS} ] && kill -0 $p 2>&-; do sleep 0.03; ` +
    `if [ ${state} = ${basename(program).slice(0, 15)}:S ]; then n=$((n+1)); else n=0; fi; done;`
  );
}

/** The same for a program beside the guest, to be asked again and again. */
function weWait(program: Program, ready: Ready, port: number): () => boolean {
  if (ready === 'listening') return () => listensOn(program.pid, port);
  let looks = 0;
  let looked_ms = 0;
  return () => {
    const now_ms = performance.now();
    if (now_ms - looked_ms < 30) return false;
    looked_ms = now_ms;
    looks = program.isRunning(basename(program.argv[0] ?? '')) && program.state() === 'S' ? looks + 1 : 0;
    return looks >= ASLEEP_LOOKS;
  };
}

const withoutNotice = (ended: Ended): Ended => ({
  ...ended,
  stdout: ended.stdout.replace(`${READY}\n`, ''),
});
