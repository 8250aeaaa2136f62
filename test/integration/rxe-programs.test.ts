/**
 * The embedded device against the Linux kernel's own Soft-RoCE in a virtual machine: programs that nobody here wrote, on either
 * side as server and client, over IPv4 and IPv6, with frames of 1500 and of 9000 bytes.
 */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { join } from 'node:path';
import * as v from 'valibot';
import { Report as PingpongReport } from '../../src/pingpong/report.ts';
import { freshPort, mustSucceed, perftestFlags, pingpongFlags } from './lib/pair.ts';
import { parsePerftest, parsePingpong } from './lib/parse.ts';
import { type Ended, type Program, until } from './lib/process.ts';
import { Report } from './lib/report.ts';
import { ROOT, requireAll } from './lib/requirements.ts';
import type { End } from './lib/roads.ts';
import {
  BOOT_LIMIT_MS,
  type Fate,
  type IpVersion,
  isExhaustive,
  isUsualWay,
  KERNELS,
  RxeVm,
  type Server,
  whyNoVm,
} from './lib/rxe-vm.ts';

/** What a guest on an emulated processor takes when the machine has other work, too. */
const LIMIT_MS = 40_000;
const TEST_LIMIT_MS = 90_000;

/** Few iterations: an emulated guest takes a millisecond for each. */
const PINGPONGS = [
  ...['ibv_rc_pingpong -c -n 100', 'ibv_rc_pingpong -e -c -s 65536 -n 20'],
  ...['ibv_uc_pingpong -c -n 100', 'ibv_uc_pingpong -e -c -n 50'],
  ...['ibv_ud_pingpong -c -s 1024 -n 100', 'ibv_ud_pingpong -e -c -s 1024 -n 50'],
  ...['ibv_srq_pingpong -c -n 200', 'ibv_srq_pingpong -e -c -n 100'],
];
const PERFTESTS = [
  ...['ib_send_bw -n 60', 'ib_write_bw -n 60', 'ib_read_bw -n 60', 'ib_atomic_bw -n 60'],
  ...['ib_send_lat -n 40', 'ib_write_lat -n 40', 'ib_read_lat -n 40', 'ib_atomic_lat -n 40'],
];
/** Once a direction, when asked for: what differs is in neither addresses nor frame sizes. */
const VARIANTS = [
  ...['ib_send_bw -c UC -s 1024 -n 60', 'ib_send_bw -c UD -s 1024 -n 60', 'ib_send_lat -c UD -s 64 -n 40'],
  ...['ib_write_bw -c UC -n 60', 'ib_write_bw -q 8 -n 10', 'ib_write_bw -b -n 40', 'ib_send_bw -b -e -n 40'],
  ...['ib_read_bw -o 1 -n 40', 'ib_atomic_lat -A CMP_AND_SWAP -n 40', 'ib_write_lat -s 64 -I 64 -n 40'],
];

/** A program over rdma_cm: `SELF`, `PEER` and `PORT` stand for the addresses of its end and the other, and for the port. */
interface CmCase {
  name: string;
  server: string;
  /** All of the client's command line but its `-s PEER` or the like is that of the server. */
  client: string;
  ip: IpVersion;
  /** What both ends, or the client alone, print when all went well, besides exit code 0. */
  prints?: RegExp;
  endless?: boolean;
  /** Also on the newer kernel. */
  selected?: boolean;
  fate?: Fate;
}

const perftestCm = (program: string, more = ''): CmCase => ({
  ...{ name: `${program} -R${more}`, ip: 'IPv4', selected: program === 'ib_write_bw' },
  server: `${program} -R -F -d DEVICE -n 40 -p PORT${more}`,
  client: `${program} -R -F -d DEVICE -n 40 -p PORT${more} PEER`,
});
const rping = (ip: IpVersion, more: string, fate?: Fate): CmCase => ({
  ...{
    name: `rping ${more}${fate ? ', lossy' : ''}`,
    ip,
    selected: true,
    prints: /(?:ping data: rdma-ping[\s\S]*?){15}/,
  },
  server: `rping -s -a SELF -p PORT -v -V ${more}`,
  client: `rping -c -a PEER -p PORT -v -V ${more}`,
  ...(fate && { fate }),
});

const STATUS_0 = /return status 0$/m;
const CM_CASES: readonly CmCase[] = [
  rping('IPv4', '-C 15 -S 1000'),
  rping('IPv6', '-C 15 -S 60000'),
  // Retries of the connection manager against those of the kernel's.
  rping('IPv4', '-C 15 -S 1000', {
    delay_ns: 300_000,
    loss_ppm: 20_000,
    duplicate_ppm: 50_000,
    reorder_ppm: 50_000,
  }),
  ...(['IPv4', 'IPv6'] as const).flatMap((ip): CmCase[] => [
    {
      ...{ name: 'ucmatose -c 3', ip, selected: true, prints: STATUS_0 },
      server: 'ucmatose -b SELF -p PORT -c 3 -C 10 -S 2000',
      client: 'ucmatose -s PEER -p PORT -c 3 -C 10 -S 2000',
    },
    {
      ...{ name: 'udaddy -c 3', ip, selected: true, prints: STATUS_0 },
      server: 'udaddy -b SELF -c 3 -C 10 -S 512',
      client: 'udaddy -s PEER -c 3 -C 10 -S 512',
    },
    {
      ...{ name: 'cmtime -c 20', ip, endless: true, prints: /^disconnect\s*:\s*[\d.]+/m },
      server: 'cmtime -b SELF -p PORT -c 20',
      client: 'cmtime -s PEER -p PORT -c 20',
    },
  ]),
  {
    ...{ name: 'rdma_client', ip: 'IPv4', prints: /rdma_client: end 0|rdma_server: end 0/ },
    server: 'rdma_server -p PORT',
    client: 'rdma_client -s PEER -p PORT',
  },
  {
    ...{ name: 'rdma_xclient', ip: 'IPv4', prints: /rdma_xclient: end 0|rdma_xserver: end 0/ },
    server: 'rdma_xserver -p PORT',
    client: 'rdma_xclient -s PEER -p PORT',
  },
  {
    ...{ name: 'mckey', ip: 'IPv4', prints: STATUS_0 },
    server: 'mckey -m 239.7.7.7 -b SELF -c 1 -C 10 -S 500',
    client: 'mckey -s -m 239.7.7.7 -b SELF -c 1 -C 10 -S 500',
  },
  ...[
    'ib_send_bw',
    'ib_write_bw',
    'ib_read_bw',
    'ib_atomic_bw',
    'ib_send_lat',
    'ib_write_lat',
    'ib_read_lat',
  ].map((program) => perftestCm(program)),
  ...[perftestCm('ib_send_lat', ' -c UD -s 64'), perftestCm('ib_write_bw', ' -q 4')],
];

interface Way {
  ip: IpVersion;
  mtu: number;
  server: Server;
}

const SERVERS: readonly Server[] = ['ours', 'rxe'];
const MTUS = [1500, 9000];
const ways = (mtu: number): Way[] =>
  (['IPv4', 'IPv6'] as const).flatMap((ip) => SERVERS.map((server) => ({ ip, mtu, server })));
const nameOf = ({ ip, mtu, server }: Way): string => `${ip} ${mtu} ${server}`;

/** The newer kernel: a selection, because most of what is compared here did not change. */
const SELECTION = new Set(
  [...PINGPONGS, ...PERFTESTS].filter((line) => !line.includes('_lat') && !line.includes('-e')),
);

const why = whyNoVm();
if (why) console.error(`NOT RUN: nothing here is compared with the kernel's Soft-RoCE, because ${why}.`);

async function run(vm: RxeVm, { ip, server }: Way, line: string): Promise<string> {
  const [program = '', ...args] = line.split(' ');
  const isPingpong = program.startsWith('ibv_');
  const flags = isPingpong ? pingpongFlags : perftestFlags;
  const ended = await vm.runPair({ program, args, flags, server, ip, limit_ms: LIMIT_MS });
  mustSucceed(ended);
  if (isPingpong) {
    const iterations = Number(args[args.indexOf('-n') + 1]);
    const ends = [ended.server, ended.client].map(({ stdout, stderr }) => parsePingpong(stdout + stderr));
    for (const end of ends) expect(end.iterations).toBe(iterations);
    return `${ends[1]?.usecPerIteration}`;
  }
  // Speeds and times of an emulated processor, whose clocks differ from core to core, mean nothing: the rows only have to be there.
  const rows = parsePerftest(ended.client.stdout, true);
  expect(rows).toHaveLength(1);
  expect(rows[0]?.bytes).toBeGreaterThan(0);
  return 'ok';
}

async function runCm(
  vm: RxeVm,
  { server: serverLine, client, ip, prints, endless, fate }: CmCase,
  server: Server,
): Promise<string> {
  const words = (line: string, side: Server, port: number): string[] => {
    const values: Record<string, string> = {
      SELF: RxeVm.addressOf(side, ip),
      PEER: RxeVm.addressOf(side === 'ours' ? 'rxe' : 'ours', ip),
      PORT: `${port}`,
      DEVICE: vm.end(side, ip).device,
    };
    return line.split(' ').map((word) => values[word] ?? word);
  };
  const [program = ''] = serverLine.split(' ');
  const [clientProgram = ''] = client.split(' ');
  const flags = (end: End, port: number): string[] => {
    const side = end.device === vm.end('ours', ip).device ? 'ours' : 'rxe';
    return words(side === server ? serverLine : client, side, port).slice(1);
  };
  if (fate) await vm.setFate(fate);
  try {
    const ended = await vm.runPair({
      ...{ program, clientProgram, args: [], clientArgs: [], flags, server, ip, limit_ms: LIMIT_MS },
      ...{ ready: 'asleep', endless: endless === true },
    });
    if (!endless) mustSucceed(ended);
    expect(ended.client.code).toBe(0);
    // Not toMatch(): a failure would print all of it.
    for (const { stdout, stderr } of endless ? [ended.client] : [ended.client, ended.server])
      expect((prints ?? /./).test(stdout + stderr)).toBe(true);
  } finally {
    if (fate) expect((await vm.setFate()).lost).toBeGreaterThan(0);
  }
  return 'ok';
}

describe.skipIf(why !== undefined).each(KERNELS)('$name', ({ name, linesOf }) => {
  const isAll = linesOf === 'all';
  const columns = MTUS.flatMap(ways).filter(
    ({ ip, mtu }) => isUsualWay(ip, mtu) && (isAll || isExhaustive || mtu === 1500),
  );
  const report = new Report(`${name}: server (us/iteration)`, columns.map(nameOf));
  let vm: RxeVm;

  beforeAll(async () => {
    requireAll([
      'ibv_devinfo',
      ...['rc', 'uc', 'ud', 'srq'].map((type) => `ibv_${type}_pingpong`),
      'ib_write_bw',
    ]);
    vm = await RxeVm.start(name);
  }, BOOT_LIMIT_MS);

  afterAll(() => {
    vm?.stop();
    report.print();
  });

  describe('rdma_cm', () => {
    const cmReport = new Report(
      `${name}: rdma_cm, server`,
      ['IPv4', 'IPv6'].flatMap((ip) => SERVERS.map((server) => `${ip} ${server}`)),
    );
    beforeAll(async () => {
      await vm.setMtu(1500);
      for (const command of [vm.guest.bind(vm), vm.host.bind(vm)])
        await command('ip route replace 239.0.0.0/8 dev eth0');
    });
    afterAll(() => cmReport.print());
    for (const each of CM_CASES.filter(({ selected }) => isAll || selected)) {
      test.each(SERVERS)(
        `${each.ip}, server %s: ${each.name}`,
        (server) => cmReport.note(each.name, `${each.ip} ${server}`, () => runCm(vm, each, server)),
        TEST_LIMIT_MS,
      );
    }
  });

  if (isAll)
    describe('pingpong --cm', () => {
      const OURS = [process.execPath, join(ROOT, 'src', 'cli.ts'), 'pingpong', '--provider', 'soft', '--cm'];
      const measure = (port: number, address: string): string[] => [
        ...['--json', '--verify', '-n', '30', '-p', `${port}`, address],
      ];
      /** A client's document: one row, all of it answered and as it was sent. */
      const check = ({ code, stdout, stderr }: Ended): void => {
        if (code !== 0) throw new Error(stdout + stderr);
        const { rows } = v.parse(PingpongReport, JSON.parse(stdout));
        expect(rows).toHaveLength(1);
        expect(rows[0]).toMatchObject({ operation: 'rping', answered: 30, mismatches: 0 });
      };
      const listening = async (program: Program): Promise<void> =>
        until(
          'it listens',
          () =>
            !program.alive || program.stderr.includes('listening') || program.stdout.includes('listening'),
          30_000,
        );
      let guest: string[] = [];

      beforeAll(async () => {
        await vm.setMtu(1500);
        guest = [...vm.shareRdmakit(), 'pingpong', '--provider', 'system', '--cm'];
      });

      test.each(['IPv4', 'IPv6'] as const)(
        '%s: rping of the kernel to us',
        async (ip) => {
          const port = freshPort();
          const server = vm.ourProgram([...OURS, '--listen', '-p', `${port}`], LIMIT_MS);
          try {
            await listening(server);
            const words = [
              '-c',
              '-a',
              RxeVm.addressOf('ours', ip),
              '-p',
              `${port}`,
              '-V',
              '-v',
              '-C',
              '15',
              '-S',
              '3000',
            ];
            const { code, stdout } = await vm.guestProgram(['rping', ...words], LIMIT_MS).ended;
            expect({ code, pings: stdout.match(/ping data: rdma-ping-/g)?.length }).toEqual({
              code: 0,
              pings: 15,
            });
          } finally {
            server.kill('SIGKILL');
          }
        },
        TEST_LIMIT_MS,
      );

      test.each(['IPv4', 'IPv6'] as const)(
        '%s: we to rping of the kernel',
        async (ip) => {
          const port = freshPort();
          const address = RxeVm.addressOf('rxe', ip);
          const server = vm.guestProgram(
            ['rping', '-s', '-a', address, '-p', `${port}`],
            LIMIT_MS,
            'sleep 1;',
          );
          await until('rping listens', () => !server.alive || server.stdout.includes('__ready'), 30_000);
          check(await vm.ourProgram([...OURS, ...measure(port, address)], LIMIT_MS).ended);
          await server.ended;
        },
        TEST_LIMIT_MS,
      );

      test(
        'ourselves on rxe, to ourselves on the embedded device, and back',
        async () => {
          const [here, there] = [freshPort(), freshPort()];
          const ours = vm.ourProgram([...OURS, '--listen', '-p', `${here}`], 2 * LIMIT_MS);
          const theirs = vm.guestProgram([...guest, '--listen', '-p', `${there}`], 2 * LIMIT_MS);
          try {
            await listening(ours);
            check(await vm.guestProgram([...guest, ...measure(here, RxeVm.HOST_IPV4)], LIMIT_MS).ended);
            await listening(theirs);
            check(await vm.ourProgram([...OURS, ...measure(there, RxeVm.GUEST_IPV4)], LIMIT_MS).ended);
          } finally {
            ours.kill('SIGKILL');
            await vm.guest('killall -9 bun || true');
            theirs.kill('SIGKILL');
          }
        },
        TEST_LIMIT_MS,
      );
    });

  describe.each(MTUS)('MTU %d', (mtu) => {
    beforeAll(() => vm.setMtu(mtu));
    for (const way of columns.filter((each) => each.mtu === mtu)) {
      const isFirst = way.ip === 'IPv4' && mtu === 1500;
      const isWhole = isAll && (isFirst || isExhaustive);
      const lines = [...PINGPONGS, ...PERFTESTS, ...(isFirst && isExhaustive ? VARIANTS : [])];
      for (const line of lines.filter((each) => isWhole || SELECTION.has(each))) {
        test(
          `${way.ip}, server ${way.server}: ${line}`,
          () => report.note(line, nameOf(way), () => run(vm, way, line)),
          TEST_LIMIT_MS,
        );
      }
    }
  });
});
