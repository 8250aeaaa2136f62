/**
 * The embedded device against the Linux kernel's own Soft-RoCE in a virtual machine: programs that nobody here wrote, on either
 * side as server and client, over IPv4 and IPv6, with frames of 1500 and of 9000 bytes.
 */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { mustSucceed, perftestFlags, pingpongFlags } from './lib/pair.ts';
import { parsePerftest, parsePingpong } from './lib/parse.ts';
import { Report } from './lib/report.ts';
import { requireAll } from './lib/requirements.ts';
import { BOOT_LIMIT_MS, type IpVersion, KERNELS, RxeVm, type Server, whyNoVm } from './lib/rxe-vm.ts';

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
/** Once a direction: what differs is in neither addresses nor frame sizes. */
const VARIANTS = [
  ...['ib_send_bw -c UC -s 1024 -n 60', 'ib_send_bw -c UD -s 1024 -n 60', 'ib_send_lat -c UD -s 64 -n 40'],
  ...['ib_write_bw -c UC -n 60', 'ib_write_bw -q 8 -n 10', 'ib_write_bw -b -n 40', 'ib_send_bw -b -e -n 40'],
  ...['ib_read_bw -o 1 -n 40', 'ib_atomic_lat -A CMP_AND_SWAP -n 40', 'ib_write_lat -s 64 -I 64 -n 40'],
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
const isSelected = ({ ip, mtu }: Way): boolean => (ip === 'IPv4') === (mtu === 1500);

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
  const rows = parsePerftest(ended.client.stdout);
  expect(rows).toHaveLength(1);
  expect(rows[0]?.bytes).toBeGreaterThan(0);
  return 'ok';
}

describe.skipIf(why !== undefined).each(KERNELS)('$name', ({ name, linesOf }) => {
  const isAll = linesOf === 'all';
  const columns = MTUS.flatMap(ways).filter((way) => isAll || isSelected(way));
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

  describe.each(MTUS)('MTU %d', (mtu) => {
    beforeAll(() => vm.setMtu(mtu));
    for (const way of columns.filter((each) => each.mtu === mtu)) {
      const isFirst = way.ip === 'IPv4' && mtu === 1500;
      const lines = [...PINGPONGS, ...PERFTESTS, ...(isFirst ? VARIANTS : [])];
      for (const line of lines.filter((each) => isAll || SELECTION.has(each))) {
        test(
          `${way.ip}, server ${way.server}: ${line}`,
          () => report.note(line, nameOf(way), () => run(vm, way, line)),
          TEST_LIMIT_MS,
        );
      }
    }
  });
});
