/**
 * Inside one virtual machine, the kernel's Soft-RoCE against the embedded device: both ends in the guest, and for either the shortest
 * way it has: rxe hands packets back inside the kernel before they reach the network; the embedded device is measured through shared
 * memory, as it runs there by itself, and forced to RoCE over UDP on the loopback interface. It has a network namespace of its own,
 * because rxe keeps UDP port 4791 of its namespace. The processor is emulated: only ratios mean something.
 */

import { copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { parsePingpong } from '../integration/lib/parse.ts';
import { SOFT_DIR } from '../integration/lib/requirements.ts';
import { KERNELS, RxeVm, whyNoVm } from '../integration/lib/rxe-vm.ts';
import type { Effort, Plan, Probe, Target } from './harness.ts';
import { compilePerfPrograms, namedNumbers, type PerfPrograms } from './tools.ts';

const MIB = 1 << 20;
const MTUS = [1500, 9000];
const LIMIT_MS = 60_000;
/** Where in the guest the embedded libraries are. */
const GUEST_SOFT_DIR = '/share/softrdma';

interface Provider {
  name: 'rxe' | 'soft' | 'soft-wire';
  device: string;
  netdev: string;
  address: string;
  /** Shell words in front of a command, in its namespace, and in front of a program. */
  inside: string;
  env: string;
}

const SOFT_ENV = `env LD_LIBRARY_PATH=${GUEST_SOFT_DIR} RDMAKIT_RUNTIME_DIR=/tmp/rdmakit`;
const SOFT = { device: 'rk_lo', netdev: 'lo', address: '127.0.0.1', inside: 'ip netns exec soft' };
const PROVIDERS: readonly Provider[] = [
  { name: 'rxe', device: 'rxe0', netdev: 'eth0', address: RxeVm.GUEST_IPV4, inside: '', env: '' },
  { ...SOFT, name: 'soft', env: SOFT_ENV },
  { ...SOFT, name: 'soft-wire', env: `${SOFT_ENV} RDMAKIT_ROAD=wire` },
];

export function plan({ rounds, duration_ms, scale }: Effort): Plan {
  let vm: RxeVm;
  let programs: PerfPrograms;
  let port = 22_000;

  const gidIndexOf = async ({ device, address, inside, env }: Provider): Promise<number> => {
    const text = await vm.guest(`${inside} ${env} ibv_devinfo -v -d ${device}`);
    const index = text.match(new RegExp(`GID\\[\\s*(\\d+)\\]:\\s+::ffff:${address},`))?.[1];
    if (index === undefined) throw new Error(`${device} has no GID of ${address}:\n${text}`);
    return Number(index);
  };
  /** Both ends of a program in the guest; what the client printed. */
  const both = async ({ inside, env, address }: Provider, common: string): Promise<string> => {
    const listens = `grep -qi ':${port.toString(16).padStart(4, '0')} .* 0A ' /proc/$p/net/tcp /proc/$p/net/tcp6`;
    const server = `${inside} ${env} ${common} >/tmp/server.out 2>&1 & p=$!`;
    const wait = `until ${listens} || ! kill -0 $p 2>&-; do sleep 0.02; done`;
    const client = `${inside} ${env} timeout -s KILL ${LIMIT_MS / 1000} ${common} ${address} || { cat /tmp/server.out; exit 1; }`;
    return vm.guest(`${server}; ${wait}; ${client}; wait $p`, LIMIT_MS);
  };
  const place = async (provider: Provider, gidFlag: string): Promise<string> =>
    `-d ${provider.device} ${gidFlag} ${await gidIndexOf(provider)} -p ${++port}`;

  const write = async (provider: Provider, mtu: number): Promise<number> => {
    await vm.guest(`${provider.inside} ip link set ${provider.netdev} mtu ${mtu}`);
    const where = await place(provider, '-g');
    const text = await both(provider, `${vm.inGuest(programs.stream)} ${where} -s ${MIB} -n ${duration_ms}`);
    return (namedNumbers(text).write_bytes_per_s ?? Number.NaN) / 1e9;
  };
  const send = async (provider: Provider): Promise<number> => {
    const where = await place(provider, '-g');
    const iterations = Math.max(100, Math.round(2000 * scale));
    return parsePingpong(await both(provider, `ibv_rc_pingpong ${where} -s 64 -n ${iterations}`))
      .usecPerIteration;
  };
  const probes = PROVIDERS.flatMap((provider): Probe[] => [
    ...MTUS.map((mtu) => ({
      ...{ name: `write-1MiB-mtu${mtu}-${provider.name}`, unit: 'GB/s' },
      sample: () => write(provider, mtu),
    })),
    { name: `send-64-${provider.name}`, unit: 'us', sample: () => send(provider) },
  ]);

  return {
    title: "inside one emulated virtual machine, the kernel's Soft-RoCE and the embedded device",
    rounds,
    probes,
    setUp: async () => {
      const why = whyNoVm();
      if (why) throw new Error(why);
      programs = await compilePerfPrograms();
      vm = await RxeVm.start(KERNELS[0].name);
      mkdirSync(join(vm.share, 'softrdma'));
      for (const name of ['libibverbs.so.1', 'librdmacm.so.1'])
        copyFileSync(join(SOFT_DIR, name), join(vm.share, 'softrdma', name));
      await vm.guest(
        'mkdir -m 700 /tmp/rdmakit; mkdir -p /var/run; ip netns add soft && ip netns exec soft ip link set lo up',
      );
    },
    tearDown: async () => {
      vm?.stop();
      programs?.remove();
    },
    targets: (['soft', 'soft-wire'] as const).flatMap((name): Target[] => [
      ...MTUS.map((mtu): Target => {
        const probe = `write-1MiB-mtu${mtu}`;
        return { probe: `${probe}-${name}`, comparison: '>=', limit: 2, of: `${probe}-rxe` };
      }),
      { probe: `send-64-${name}`, comparison: '<=', limit: 1, of: 'send-64-rxe' },
    ]),
  };
}
