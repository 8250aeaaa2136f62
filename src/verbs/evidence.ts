/**
 * Reads the facts that explain RDMA errors: limits, device nodes, modules, memory.
 *
 * Every fact is one sentence for people plus the numbers behind it. The machine is
 * reached through {@link Machine}, so that tests can describe any machine. Reading
 * never fails: a fact that cannot be read is left out.
 */

import { accessSync, constants, readdirSync, readFileSync, statfsSync } from 'node:fs';

/** The few questions that evidence asks of the machine. */
export interface Machine {
  /** Text of a file, undefined when it cannot be read. */
  read(path: string): string | undefined;
  /** Names in a folder, undefined when it cannot be listed. */
  list(path: string): string[] | undefined;
  /** Whether this user may open a file for reading and writing. */
  mayOpen(path: string): boolean;
  /** Free bytes of the file system at a path. */
  freeBytes(path: string): number | undefined;
  readonly uid: number;
}

/** The machine that this process runs on. */
export const thisMachine: Machine = {
  read(path) {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      return undefined;
    }
  },
  list(path) {
    try {
      return readdirSync(path);
    } catch {
      return undefined;
    }
  },
  mayOpen(path) {
    try {
      accessSync(path, constants.R_OK | constants.W_OK);
      return true;
    } catch {
      return false;
    }
  },
  freeBytes(path) {
    try {
      const fs = statfsSync(path);
      return fs.bavail * fs.bsize;
    } catch {
      return undefined;
    }
  },
  uid: process.getuid?.() ?? -1,
};

/** A fact: the sentence to show, and a number or verdict that rules may test. */
export interface Fact {
  readonly text: string;
  readonly value: number;
}

/** Names of the facts that can be asked for. */
export type FactName =
  | 'memlock'
  | 'deviceNodes'
  | 'modules'
  | 'memory'
  | 'hugePages'
  | 'sharedMemory'
  | 'openFiles'
  | 'interfaces'
  | 'mapCount'
  | 'rxe';

const MIB = 1 << 20;

function mebibytes(bytes: number): string {
  if (bytes === Number.POSITIVE_INFINITY) return 'unlimited';
  return bytes < MIB ? `${Math.round(bytes / 1024)} KiB` : `${Math.round(bytes / MIB)} MiB`;
}

/** Soft limit of one line of /proc/self/limits. */
function limit(machine: Machine, name: string): { soft: number; hard: number } | undefined {
  const line = machine
    .read('/proc/self/limits')
    ?.split('\n')
    .find((row) => row.startsWith(name));
  const [soft, hard] = line?.slice(26).trim().split(/\s+/) ?? [];
  if (soft === undefined || hard === undefined) return undefined;
  const parse = (text: string): number => (text === 'unlimited' ? Number.POSITIVE_INFINITY : Number(text));
  return { soft: parse(soft), hard: parse(hard) };
}

function meminfo(machine: Machine, key: string): number | undefined {
  const match = new RegExp(`^${key}: *(\\d+)`, 'm').exec(machine.read('/proc/meminfo') ?? '');
  return match === null ? undefined : Number(match[1]);
}

/** How each fact is read; `value` is what rules compare. */
const READERS: Record<FactName, (machine: Machine) => Fact | undefined> = {
  /** Bytes that this process may lock. */
  memlock(machine) {
    const found = limit(machine, 'Max locked memory');
    if (found === undefined) return undefined;
    return {
      text: `the locked-memory limit (ulimit -l) is ${mebibytes(found.soft)}, hard limit ${mebibytes(found.hard)}`,
      value: found.soft,
    };
  },

  /** Number of uverbs nodes that this user may open. */
  deviceNodes(machine) {
    const nodes = machine.list('/dev/infiniband')?.filter((name) => name.startsWith('uverbs'));
    if (nodes === undefined) return { text: '/dev/infiniband does not exist', value: 0 };
    if (nodes.length === 0) return { text: '/dev/infiniband has no uverbs device', value: 0 };
    const usable = nodes.filter((name) => machine.mayOpen(`/dev/infiniband/${name}`));
    const closed = nodes.filter((name) => !usable.includes(name));
    const text =
      closed.length === 0
        ? `/dev/infiniband has ${usable.join(', ')}, open to this user`
        : `/dev/infiniband has ${closed.join(', ')}, closed to uid ${machine.uid}`;
    return { text, value: usable.length };
  },

  /** Number of loaded modules that matter to RDMA. */
  modules(machine) {
    const text = machine.read('/proc/modules');
    if (text === undefined) return undefined;
    const names = text.split('\n').map((line) => line.split(' ')[0] ?? '');
    const relevant = names.filter((name) =>
      /^(ib_|rdma|mlx|siw$|irdma|bnxt_re|efa$|hns_roce|cxgb|erdma)/.test(name),
    );
    return {
      text:
        relevant.length === 0 ? 'no RDMA kernel module is loaded' : `loaded modules: ${relevant.join(', ')}`,
      value: relevant.length,
    };
  },

  /** Available memory in bytes. */
  memory(machine) {
    const kib = meminfo(machine, 'MemAvailable');
    return kib === undefined
      ? undefined
      : { text: `${mebibytes(kib * 1024)} of memory available`, value: kib * 1024 };
  },

  /** Free huge pages. */
  hugePages(machine) {
    const free = meminfo(machine, 'HugePages_Free');
    const total = meminfo(machine, 'HugePages_Total');
    if (free === undefined) return undefined;
    return { text: `${free} of ${total ?? 0} huge pages are free (vm.nr_hugepages)`, value: free };
  },

  /** Free bytes in /dev/shm. */
  sharedMemory(machine) {
    const free = machine.freeBytes('/dev/shm');
    return free === undefined ? undefined : { text: `/dev/shm has ${mebibytes(free)} free`, value: free };
  },

  /** Descriptors that this process may still open. */
  openFiles(machine) {
    const found = limit(machine, 'Max open files');
    const open = machine.list('/proc/self/fd')?.length;
    if (found === undefined || open === undefined) return undefined;
    return {
      text: `${open} of ${found.soft} file descriptors are open (ulimit -n)`,
      value: found.soft - open,
    };
  },

  /** Number of network interfaces that are up. */
  interfaces(machine) {
    const names = machine.list('/sys/class/net');
    if (names === undefined) return undefined;
    const states = names.map((name) => ({
      name,
      state: machine.read(`/sys/class/net/${name}/operstate`)?.trim() ?? 'unknown',
    }));
    // The loopback interface reports "unknown" while it works.
    const up = states.filter(({ state }) => state === 'up' || state === 'unknown');
    return {
      text: `interfaces: ${states.map(({ name, state }) => `${name} ${state}`).join(', ')}`,
      value: up.length,
    };
  },

  /** Mappings that this process may still make. */
  mapCount(machine) {
    const most = Number(machine.read('/proc/sys/vm/max_map_count') ?? Number.NaN);
    const used = machine.read('/proc/self/maps')?.split('\n').length;
    if (Number.isNaN(most) || used === undefined) return undefined;
    return { text: `${used} of ${most} memory mappings are used (vm.max_map_count)`, value: most - used };
  },

  /** 1 when the kernel's Soft-RoCE holds UDP port 4791. */
  rxe(machine) {
    const loaded = /^rdma_rxe /m.test(machine.read('/proc/modules') ?? '');
    return {
      text: loaded ? 'the kernel module rdma_rxe is loaded and owns UDP port 4791' : 'rdma_rxe is not loaded',
      value: loaded ? 1 : 0,
    };
  },
};

/** Every fact name, for tests and documentation. */
export const FACT_NAMES = Object.keys(READERS) as readonly FactName[];

/** Reads facts on demand and remembers them: one reading per diagnosis. */
export class Evidence {
  readonly #machine: Machine;
  readonly #read = new Map<FactName, Fact | undefined>();

  constructor(machine: Machine = thisMachine) {
    this.#machine = machine;
  }

  /** The fact, or undefined where this machine does not tell. */
  fact(name: FactName): Fact | undefined {
    if (!this.#read.has(name)) this.#read.set(name, READERS[name](this.#machine));
    return this.#read.get(name);
  }

  /** Sentences of several facts, those that could be read. */
  sentences(names: readonly FactName[]): string[] {
    return names.map((name) => this.fact(name)?.text).filter((text) => text !== undefined);
  }
}
