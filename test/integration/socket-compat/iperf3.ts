/** iperf3: bulk over several connections, in both directions, from files and by datagrams. */

import type { Bench } from './bench.ts';
import { mustSay, type Row } from './row.ts';

export const NEEDED = ['iperf3'];

interface Result {
  end: { sum_sent: { bytes: number }; sum_received: { bytes: number }; sum?: { bytes: number } };
}

/** Both ends count what they got, and the client is told by the server. */
async function iperf3(bench: Bench, ...args: string[]): Promise<Result['end']> {
  const port = bench.port();
  const server = await bench.server(['iperf3', '-s', '-1', '-p', `${port}`], { port });
  const text = await bench.client(['iperf3', '-c', bench.address, '-p', `${port}`, '-J', ...args]);
  await bench.ends(server);
  return (JSON.parse(text) as Result).end;
}

const tcp = (...args: string[]): Pick<Row, 'from' | 'program' | 'run'> => ({
  from: 'iperf3',
  program: ['iperf3', ...args].join(' '),
  async run(bench) {
    // Small messages take long.
    const megabytes = args.includes('-l') ? 16 : 64;
    const { sum_sent, sum_received } = await iperf3(bench, '-n', `${megabytes}M`, ...args);
    if (sum_received.bytes < megabytes << 20 && sum_sent.bytes < megabytes << 20)
      throw new Error('not all was sent');
  },
});

export const ROWS: Row[] = [
  tcp(),
  tcp('-P', '4'),
  tcp('-R'),
  tcp('--zerocopy'),
  tcp('-l', '100'),
  {
    from: 'iperf3',
    program: 'iperf3 -u',
    note: 'the verdict is of its TCP connection, which controls the test; the datagrams are counted',
    async run(bench) {
      const { sum } = await iperf3(bench, '-u', '-b', '100M', '-n', '2M');
      mustSay(`${sum?.bytes}`, /^[1-9]\d{6,}$/);
    },
  },
];
