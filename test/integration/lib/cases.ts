/** The modes in which Debian's ibverbs-utils and perftest are run, a line a mode; each is run on every road. */

import { ROAD_PATH_MTU, type RoadName } from './roads.ts';

export interface Case {
  program: string;
  args: readonly string[];
  roads: readonly RoadName[];
  limit_ms?: number;
}

/** Shared memory and two namespaces. UDP within one namespace differs from the latter in its MTU only: a selection. */
const MAIN_ROADS: readonly RoadName[] = ['shm', 'udp-veth'];
const ALL_ROADS: readonly RoadName[] = ['shm', 'udp-loop', 'udp-veth'];

/** perftest measures the CPU clock anew for each of the 23 sizes of -a, which takes it up to half a second. */
const ALL_SIZES_LIMIT_MS = 60_000;

function each(program: string, modes: readonly string[], roads = MAIN_ROADS): Case[] {
  return modes.map((mode) => {
    const limit = mode.includes('-a ') ? { limit_ms: ALL_SIZES_LIMIT_MS } : {};
    return { program, args: mode === '' ? [] : mode.split(' '), roads, ...limit };
  });
}

/** -e sleeps on events, -c checks the data, -N posts through ibv_wr_*, -t takes completions with time stamps. */
export const PINGPONGS: readonly Case[] = [
  ...each('ibv_rc_pingpong', ['', '-m 4096 -s 100000 -c'], ALL_ROADS),
  ...each('ibv_rc_pingpong', [
    ...['-e', '-c', '-N', '-t', '-e -c -N', '-s 1', '-s 64 -c', '-s 65536 -c', '-s 1048576 -n 50 -c'],
    ...['-m 256 -c', '-m 512 -s 10000 -c', '-r 16 -n 200', '-l 3'],
  ]),
  ...each('ibv_uc_pingpong', [''], ALL_ROADS),
  ...each('ibv_uc_pingpong', ['-e', '-c', '-s 1', '-s 64 -c', '-s 30000 -c', '-m 256 -c', '-m 4096 -c']),
  ...each('ibv_ud_pingpong', ['-s 1024', '-s 1024 -e', '-s 1024 -c', '-s 1', '-s 64 -c -e']),
  ...each('ibv_srq_pingpong', [''], ALL_ROADS),
  ...each('ibv_srq_pingpong', ['-e', '-c', '-s 65536 -c', '-m 256 -c', '-q 1', '-q 4 -c', '-q 32 -n 100']),
];

/**
 * -a: all sizes to 8 MiB, -b both directions, -q QPs, -e events (not with writes), -I inline, -l lists, -Q one completion
 * for several. UC and UD bandwidth with no more messages than the receiver has posted receives (512): unreliable services
 * drop what meets an empty receive queue, perftest then waits for ever, and where cores are few the receiver often sleeps.
 */
export const PERFTESTS: readonly Case[] = [
  ...each('ib_send_bw', [''], ALL_ROADS),
  ...each('ib_send_bw', ['-b', '-q 16', '-e', '-s 64 -I 64', '-s 4096 -l 8', '-s 64 -Q 16']),
  ...each('ib_send_bw', ['-c UC -s 1024 -n 400', '-c UC -s 64 -I 64 -n 400', '-c UD -s 1024 -n 400']),
  ...each('ib_send_bw', ['-c UD -s 64 -I 64 -n 400', '-c UD -s 512 -q 16 -n 30']),
  ...each('ib_send_bw', ['-b -q 16 -e -n 200', '-s 1024 -r 256 --use-srq -q 4']),
  ...each('ib_write_bw', [''], ALL_ROADS),
  ...each('ib_write_bw', ['-b', '-q 16 -n 200', '-s 64 -I 64', '-s 4096 -l 8', '-c UC', '-m 256']),
  ...each('ib_read_bw', [''], ALL_ROADS),
  ...each('ib_read_bw', ['-b', '-q 16 -n 200', '-e', '-o 1', '-s 8']),
  ...each('ib_atomic_bw', [''], ALL_ROADS),
  ...each('ib_atomic_bw', ['-A CMP_AND_SWAP', '-b', '-q 16', '-e', '-o 1']),
  ...each('ib_send_lat', [''], ALL_ROADS),
  ...each('ib_send_lat', ['-e', '-s 64 -I 64', '-c UC', '-c UD -s 64', '-c UD -s 1024 -e']),
  ...each('ib_write_lat', [''], ALL_ROADS),
  ...each('ib_write_lat', ['-s 64 -I 64', '-c UC']),
  ...each('ib_read_lat', [''], ALL_ROADS),
  ...each('ib_read_lat', ['-e', '-o 1']),
  ...each('ib_atomic_lat', [''], ALL_ROADS),
  ...each('ib_atomic_lat', ['-A CMP_AND_SWAP', '-e']),
  // The slow ones: on one road each, some on either.
  ...each('ib_send_bw', ['-a -n 10'], ['udp-veth']),
  ...each('ib_write_bw', ['-a -n 10'], ['shm']),
  ...each('ib_read_bw', ['-a -n 10'], ['udp-veth']),
  ...each('ib_send_lat', ['-a -n 5'], ['udp-veth']),
  ...each('ib_read_lat', ['-a -n 5'], ['shm']),
];

/** Whether the case is for this road and its interfaces carry the path MTU it asks for. */
export function fits({ args, roads }: Case, road: RoadName): boolean {
  const mtu = args.includes('-m') ? Number(args[args.indexOf('-m') + 1]) : 0;
  return roads.includes(road) && mtu <= ROAD_PATH_MTU[road];
}
