/**
 * Verbs programs of our own with one end on the kernel's Soft-RoCE in a virtual machine: random operations against a model, errors
 * as they are raised at both ends, much data over a network that loses, doubles and reorders frames, and one group of processes
 * on both kinds of devices.
 */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { netemLines } from '../../src/topo/emulate/netem.ts';
import type { Quality } from '../../src/topo/model/schema.ts';
import { type Compiled, compile, ownFlags, parseMessages, parseOnesided } from './lib/own.ts';
import { freshPort, mustSucceed, type PairEnded } from './lib/pair.ts';
import { describeEnd } from './lib/process.ts';
import { requireAll } from './lib/requirements.ts';
import {
  BOOT_LIMIT_MS,
  type IpVersion,
  isExhaustive,
  isUsualWay,
  KERNELS,
  RxeVm,
  type Server,
  whyNoVm,
} from './lib/rxe-vm.ts';

const LIMIT_MS = 60_000;
const TEST_LIMIT_MS = 150_000;
const PROGRAMS = ['onesided', 'messages', 'verdicts', 'bulk', 'ring'] as const;
type ProgramName = (typeof PROGRAMS)[number];

/**
 * Exponents of the acknowledgement timeout. rxe must not time out without need: when an acknowledgement meets its retry, it sends a
 * message that was acknowledged already once more, empty and under the next one's PSN. Where frames are lost its timer is the only
 * way to repair a lost READ response, so it cannot be that long.
 */
const PATIENT = '18';
const LOSSY = '14';
const SERVERS: readonly Server[] = ['ours', 'rxe'];

/** enum ibv_wc_status */
const WC = {
  ok: 0,
  localLength: 1,
  localOperation: 2,
  flushed: 5,
  invalidRequest: 9,
  access: 10,
  operation: 11,
  retries: 12,
  rnr: 13,
};
/** enum ibv_qp_state */
const QPS = { rts: 3, err: 6 };
const NONE = -1;

interface Verdict {
  /** What the requester is told of the request; `behind`, of the SEND posted behind it. */
  request: number;
  behind: number;
  requesterState: number;
  /** Of the responder's receive, and its queue pair. */
  receive: number;
  responderState: number;
  changed: boolean;
}

const refused = (request: number): Verdict => ({
  request,
  behind: WC.flushed,
  requesterState: QPS.err,
  receive: WC.flushed,
  responderState: QPS.err,
  changed: false,
});
const granted: Verdict = {
  ...{ request: WC.ok, behind: WC.ok, requesterState: QPS.rts, receive: WC.ok, responderState: QPS.rts },
  changed: true,
};

/** What is expected of either responder; the two differ where the specification leaves it open or rxe does as it likes. */
const VERDICTS: Record<string, Verdict | Record<Server, Verdict>> = {
  granted,
  'late-receive': granted,
  'no-receive': { ...refused(WC.rnr), receive: NONE, responderState: QPS.rts },
  vanished: { ...refused(WC.retries), receive: NONE, responderState: NONE },
  'write-bad-key': refused(WC.access),
  'write-past-end': refused(WC.access),
  'write-before-start': refused(WC.access),
  'write-mr-forbids': refused(WC.access),
  'write-qp-forbids': refused(WC.invalidRequest),
  'read-bad-key': refused(WC.access),
  'read-past-end': refused(WC.access),
  'read-mr-forbids': refused(WC.access),
  'read-qp-forbids': refused(WC.invalidRequest),
  'atomic-bad-key': refused(WC.access),
  'atomic-past-end': refused(WC.access),
  'atomic-mr-forbids': refused(WC.access),
  'atomic-qp-forbids': refused(WC.invalidRequest),
  // A receive that is too small: an invalid request by the specification (IBA 9.7.5.2.8); rxe says remote operational error.
  'send-too-long': {
    ours: { ...refused(WC.invalidRequest), receive: WC.localLength },
    rxe: { ...refused(WC.operation), receive: WC.localOperation },
  },
  // The first packets of the message fit, and are there.
  'send-too-long-multi': {
    ours: { ...refused(WC.invalidRequest), receive: WC.localLength, changed: true },
    rxe: { ...refused(WC.operation), receive: WC.localOperation, changed: true },
  },
};

function parseVerdict({ client, server }: PairEnded): Verdict {
  const requester = client.stdout.match(/^requester first (\d+) second (\d+) state (\d+)$/m)?.slice(1);
  const responder = server.stdout
    .match(/^responder receive (-?\d+) state (-?\d+) changed ([01])$/m)
    ?.slice(1);
  if (!requester || !responder)
    throw new Error(`no verdict: requester ${describeEnd(client)}\nresponder ${describeEnd(server)}`);
  const [request = 0, behind = 0, requesterState = 0] = requester.map(Number);
  const [receive = 0, responderState = 0, changed = 0] = responder.map(Number);
  return { request, behind, requesterState, receive, responderState, changed: changed === 1 };
}

const why = whyNoVm();
if (why) console.error(`NOT RUN: nothing here is compared with the kernel's Soft-RoCE, because ${why}.`);

describe.skipIf(why !== undefined)('against rxe', () => {
  let vm: RxeVm;
  let own: Compiled<ProgramName>;

  beforeAll(async () => {
    requireAll(['gcc', 'ibv_devinfo']);
    own = await compile(PROGRAMS);
    vm = await RxeVm.start(KERNELS[0].name);
  }, BOOT_LIMIT_MS);

  afterAll(() => {
    vm?.stop();
    own?.remove();
  });

  const pair = (
    program: ProgramName,
    server: Server,
    ip: IpVersion,
    args: readonly string[],
    timeout = PATIENT,
  ): Promise<PairEnded> =>
    vm.runPair({
      ...{ program: own[program], server, ip, flags: ownFlags, limit_ms: LIMIT_MS },
      args: ['-t', timeout, ...args],
    });

  describe.each([1500, 9000])('MTU %d', (mtu) => {
    beforeAll(() => vm.setMtu(mtu));

    for (const server of SERVERS) {
      for (const ip of (['IPv4', 'IPv6'] as const).filter((each) => isUsualWay(each, mtu))) {
        test(
          `${ip}, responder ${server}: random WRITEs, READs and atomics do what the model says`,
          async () => {
            const fences = server === 'ours' ? 'wait' : 'sleep';
            const ended = await pair('onesided', server, ip, ['-n', '640', '-s', '20000', '-m', fences]);
            mustSucceed(ended);
            expect(parseOnesided(ended.client.stdout)).toEqual({
              ...{ operations: 640, mismatches: 0, sameHash: true },
            });
          },
          TEST_LIMIT_MS,
        );

        test.each(['RC', 'UC', 'UD'])(
          `${ip}, receiver ${server}: messages of random lengths with immediate data over %s`,
          async (type) => {
            const args = [
              '-n',
              '512',
              '-s',
              type === 'RC' ? '12000' : type === 'UC' ? '3000' : '1024',
              '-c',
              type,
            ];
            const ended = await pair('messages', server, ip, args);
            mustSucceed(ended);
            const result = parseMessages(ended.client.stdout);
            expect(result).toMatchObject({ sent: 512, bad: 0, disordered: 0 });
            // An unreliable service may lose what a slow guest has no receive for.
            if (type === 'RC') expect(result.received).toBe(512);
            else expect(result.received).toBeGreaterThan(256);
          },
          TEST_LIMIT_MS,
        );
      }
    }
  });

  describe('what is refused, and what the ends are told', () => {
    beforeAll(() => vm.setMtu(1500));

    for (const [scenario, expected] of Object.entries(VERDICTS)) {
      test.each(SERVERS)(
        `${scenario}: responder %s`,
        async (server) => {
          // Seven retries are without end for rxe.
          const retries = scenario === 'vanished' ? '3' : '7';
          const ended = await pair('verdicts', server, 'IPv4', ['-m', scenario, '-y', retries], LOSSY);
          expect(parseVerdict(ended)).toEqual('request' in expected ? expected : expected[server]);
        },
        TEST_LIMIT_MS,
      );
    }
  });

  describe('64 MiB written, read and sent', () => {
    const FATE = { delay_ns: 300_000, loss_ppm: 2000, duplicate_ppm: 5000, reorder_ppm: 5000 };
    const all = (n: string): string => `done ${n} write same read same send same`;

    /** Frames of 1500 bytes carry an eighth: rxe waits for its timer after nearly every loss. */
    const CASES = [
      { mtu: 9000, mib: '64', faulty: false },
      { mtu: 9000, mib: '64', faulty: true },
      { mtu: 1500, mib: '8', faulty: true },
    ];
    for (const { mtu, mib, faulty } of CASES.filter((each) => each.faulty || isExhaustive)) {
      test.each(SERVERS)(
        `MTU ${mtu}, ${faulty ? 'frames lost, doubled and reordered' : 'nothing lost'}, responder %s`,
        async (server) => {
          await vm.setMtu(mtu);
          await vm.setFate(faulty ? FATE : undefined);
          try {
            const ended = await pair(
              'bulk',
              server,
              'IPv4',
              ['-n', mib, '-s', '1048576'],
              faulty ? LOSSY : PATIENT,
            );
            mustSucceed(ended);
            expect(ended.client.stdout).toContain(all(mib));
          } finally {
            const counts = await vm.setFate();
            if (faulty)
              for (const each of ['lost', 'duplicated', 'reordered'] as const)
                expect(counts[each]).toBeGreaterThan(0);
          }
        },
        TEST_LIMIT_MS,
      );
    }
  });

  test(
    'an allreduce over a ring of three processes: ours, rxe, ours',
    async () => {
      await vm.setMtu(1500);
      const port = freshPort() + 10_000;
      const argv = (side: Server, rank: number, next: string): string[] => [
        own.ring,
        ...ownFlags(vm.end(side, 'IPv4'), port),
        ...['-t', PATIENT, '-n', '3', '-s', '120000', '-m', `${rank}`, next],
      ];
      // Rank 1 in the guest; ranks 0 and 2 share a host, so their way is shared memory while the others' are RoCE.
      const ranks = [
        vm.guestProgram(argv('rxe', 1, RxeVm.HOST_IPV4), LIMIT_MS),
        vm.ourProgram(argv('ours', 2, RxeVm.HOST_IPV4), LIMIT_MS),
        vm.ourProgram(argv('ours', 0, RxeVm.GUEST_IPV4), LIMIT_MS),
      ];
      for (const { ended } of ranks) {
        const end = await ended;
        expect({ code: end.code, stdout: end.stdout, stderr: end.stderr }).toEqual({
          ...{ code: 0, stdout: 'done 20 wrong 0\n', stderr: '' },
        });
      }
    },
    TEST_LIMIT_MS,
  );

  test(
    "netem: the guest's tc(8) takes the lines of an emulated link, and its kernel does what they say",
    async () => {
      // As the plan of an emulation has it: two hosts, and the halves of their link in a namespace between them.
      const link = (forth: Quality, back: Quality): string =>
        [
          'modprobe -a veth sch_netem sch_ingress cls_matchall act_mirred',
          'for n in a b mid; do ip netns del $n 2>/dev/null; ip netns add $n; done',
          'for n in a b; do ip -n $n link add eth0 type veth peer name $n netns mid; ip -n mid link set dev $n up; ip -n $n link set dev eth0 up; done',
          'ip -n a addr add 10.1.0.1/24 dev eth0; ip -n b addr add 10.1.0.2/24 dev eth0',
          "cat > /tmp/lines << 'LINES'",
          // Debian's tc(8) is older than the seed.
          ...[...netemLines('a', 'b', forth, 1e9, 7), ...netemLines('b', 'a', back, 1e9, 8)].map((line) =>
            line.replace(/ seed \d+$/, ''),
          ),
          'LINES',
          'ip netns exec mid tc -batch /tmp/lines || exit 1',
          // Who is there is asked once, and on a lossy link perhaps not at the first attempt.
          'ip netns exec a busybox ping -c 20 -i 0.1 -W 5 10.1.0.2 > /tmp/first',
        ].join('\n');
      const ping = async (count: number): Promise<{ received: number; rttMin_ms: number }> => {
        const text = await vm.guest(
          `ip netns exec a busybox ping -c ${count} -i 0.02 -W 2 10.1.0.2 || true`,
          60_000,
        );
        const received = Number(text.match(/(\d+) packets received/)?.[1]);
        return { received, rttMin_ms: Number(text.match(/= ([\d.]+)\//)?.[1]) };
      };

      await vm.guest(link({ delay_ns: 30e6 }, { delay_ns: 10.5e6 }));
      const steady = await ping(20);
      expect(steady.received).toBe(20);
      expect(steady.rttMin_ms).toBeGreaterThanOrEqual(40.5);
      expect(steady.rttMin_ms).toBeLessThan(46); // an emulated processor takes its time

      const chance = {
        delay_ns: 5e6,
        jitter_ns: 1e6,
        loss_ratio: 0.2,
        duplicate_ratio: 0.1,
        reorder_ratio: 0.05,
      };
      await vm.guest(link(chance, { delay_ns: 1e6 }));
      const lossy = await ping(200);
      // 160 are expected, give or take five standard deviations.
      expect(Math.abs(lossy.received - 160)).toBeLessThanOrEqual(28);
    },
    TEST_LIMIT_MS,
  );
});
