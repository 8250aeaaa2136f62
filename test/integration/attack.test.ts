/**
 * A hostile neighbour on the wire: while two ends talk, packets with a right ICRC arrive for their queue pairs, from a stranger's
 * address and from the peers' own. Nothing of the transfer changes; what is dropped is counted.
 */

import { afterAll, beforeAll, expect, test } from 'bun:test';
import { Network } from './lib/network.ts';
import { type Compiled, compile } from './lib/own.ts';
import { freshPort, pingpongFlags } from './lib/pair.ts';
import { parsePingpong } from './lib/parse.ts';
import { describeEnd, type Ended, listensOn, mustRun, Program, until } from './lib/process.ts';
import { requireAll } from './lib/requirements.ts';
import { makeRoad, type Road } from './lib/roads.ts';

const LIMIT_MS = 60_000;
const STRANGER = '10.77.0.3';
const ATTACK_S = 2;
/** As long as the attack lasts, and more. */
const ITERATIONS = 60_000;
const COUNTERS = [
  'rx_wrong_peer',
  'rx_icrc_encapsulated',
  'rx_malformed',
  'rx_unknown_opcode',
  'rx_no_qp',
  'rx_pkey_mismatch',
];

let network: Network;
let road: Road;
let own: Compiled<'attacker'>;

beforeAll(async () => {
  requireAll(['gcc', 'ibv_devinfo', 'ibv_rc_pingpong', 'stdbuf']);
  network = await Network.create();
  await mustRun(['ip', '-n', network.b.netns, 'address', 'add', `${STRANGER}/24`, 'dev', network.b.netdev]);
  road = await makeRoad(network, 'udp-veth');
  own = await compile(['attacker']);
}, 60_000);

afterAll(() => {
  network?.remove();
  own?.remove();
});

const counter = ({ stderr }: Ended, name: string): number =>
  Number(stderr.match(new RegExp(` ${name} (\\d+)$`, 'm'))?.[1] ?? 0);

test(
  'a transfer goes on, byte for byte, and the counters say what was dropped',
  async () => {
    const port = freshPort();
    const env = { ...road.env, RDMAKIT_REPORT: '1' };
    const programs: Program[] = [];
    const start = (argv: string[], netns: string, more: Record<string, string> = {}): Program => {
      const program = new Program(argv, { netns, env: more, limit_ms: LIMIT_MS });
      programs.push(program);
      return program;
    };
    const pingpong = (end: Road['server'], ...more: string[]): Program =>
      start(
        [
          'stdbuf',
          '-oL',
          'ibv_rc_pingpong',
          ...pingpongFlags(end, port),
          '-c',
          '-s',
          '20000',
          '-n',
          `${ITERATIONS}`,
          ...more,
        ],
        end.netns,
        env,
      );
    try {
      const server = pingpong(road.server);
      await until('the server listens', () => !server.alive || listensOn(server.pid, port));
      const client = pingpong(road.client, road.address);
      const number = (whose: string): string =>
        client.stdout.match(new RegExp(`${whose} address:.* QPN (0x[0-9a-f]+)`))?.[1] ?? '';
      await until('the ends know each other', () => !client.alive || number('remote') !== '');
      const [clientQpn, serverQpn] = [number('local'), number('remote')];
      const { a, b } = network;
      const attackers = [
        start([own.attacker, b.ipv4, a.ipv4, serverQpn, `${ATTACK_S}`, '1'], b.netns),
        start([own.attacker, STRANGER, a.ipv4, serverQpn, `${ATTACK_S}`, '2'], b.netns),
        start([own.attacker, a.ipv4, b.ipv4, clientQpn, `${ATTACK_S}`, '3'], a.netns),
      ];
      for (const attacker of attackers) {
        const ended = await attacker.ended;
        if (ended.code !== 0) throw new Error(describeEnd(ended));
        expect(Number(ended.stdout.match(/sent (\d+)/)?.[1])).toBeGreaterThan(1000);
      }
      for (const each of [client, server]) {
        const ended = await each.ended;
        if (ended.code !== 0) throw new Error(describeEnd(ended));
        expect(parsePingpong(ended.stdout).iterations).toBe(ITERATIONS);
        for (const name of COUNTERS)
          expect({ name, more: counter(ended, name) > 0 }).toEqual({ name, more: true });
      }
    } finally {
      for (const program of programs) if (program.alive) program.kill('SIGKILL');
    }
  },
  LIMIT_MS + 5000,
);
