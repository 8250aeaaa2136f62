/** The modes in which Debian's ibverbs-utils and perftest are run, a line a mode; each is run on every road. */

export interface Case {
  program: string;
  args: readonly string[];
  limit_ms?: number;
}

const each = (program: string, modes: readonly string[]): Case[] =>
  modes.map((mode) => ({ program, args: mode === '' ? [] : mode.split(' ') }));

/** -e sleeps on events, -c checks the data, -N posts through ibv_wr_*, -t takes completions with time stamps. */
export const PINGPONGS: readonly Case[] = [
  ...each('ibv_rc_pingpong', [
    ...['', '-e', '-c', '-N', '-t', '-e -c -N', '-s 1', '-s 64 -c', '-s 65536 -c', '-s 1048576 -n 50 -c'],
    ...['-m 256 -c', '-m 512 -s 10000 -c', '-m 4096 -s 100000 -c', '-r 16 -n 200', '-l 3'],
  ]),
  ...each('ibv_uc_pingpong', ['', '-e', '-c', '-s 1', '-s 64 -c', '-s 30000 -c', '-m 256 -c', '-m 4096 -c']),
  ...each('ibv_ud_pingpong', ['-s 1024', '-s 1024 -e', '-s 1024 -c', '-s 1', '-s 64 -c -e']),
  ...each('ibv_srq_pingpong', [
    '',
    '-e',
    '-c',
    '-s 65536 -c',
    '-m 256 -c',
    '-q 1',
    '-q 4 -c',
    '-q 32 -n 100',
  ]),
];

/**
 * -a: all sizes to 8 MiB, -b both directions, -q QPs, -e events (not with writes), -I inline, -l lists, -Q one completion
 * for several. UD bandwidth only with as many messages as the receiver has posted receives (512): UD drops what meets an
 * empty receive queue, perftest then waits for ever, and on a machine with few cores the receiver is not always running.
 */
export const PERFTESTS: readonly Case[] = [
  ...each('ib_send_bw', ['', '-a -n 20', '-b', '-q 16', '-e', '-s 64 -I 64', '-s 4096 -l 8', '-s 64 -Q 16']),
  ...each('ib_send_bw', [
    '-c UC',
    '-c UC -s 64 -I 64',
    '-c UD -s 1024',
    '-c UD -s 64 -I 64',
    '-c UD -s 512 -q 16',
  ]),
  ...each('ib_send_bw', ['-b -q 16 -e', '-s 1024 -r 256 --use-srq -q 4']),
  ...each('ib_write_bw', [
    '',
    '-a -n 20',
    '-b',
    '-q 16',
    '-e',
    '-s 64 -I 64',
    '-s 4096 -l 8',
    '-c UC',
    '-m 256',
  ]),
  ...each('ib_read_bw', ['', '-a -n 20', '-b', '-q 16', '-e', '-o 1', '-s 8']),
  ...each('ib_atomic_bw', ['', '-A CMP_AND_SWAP', '-b', '-q 16', '-e', '-o 1']),
  ...each('ib_send_lat', ['', '-a -n 20', '-e', '-s 64 -I 64', '-c UC', '-c UD -s 64', '-c UD -s 1024 -e']),
  ...each('ib_write_lat', ['', '-a -n 20', '-s 64 -I 64', '-c UC']),
  ...each('ib_read_lat', ['', '-a -n 20', '-e', '-o 1']),
  ...each('ib_atomic_lat', ['', '-A CMP_AND_SWAP', '-e']),
];

/** Whether a road whose interfaces carry this path MTU in bytes can run the case. */
export function fits({ args }: Case, maxMtu: number): boolean {
  const mtu = args.includes('-m') ? Number(args[args.indexOf('-m') + 1]) : 0;
  return mtu <= maxMtu;
}
