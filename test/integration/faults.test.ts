/**
 * The network misbehaves: packets are lost, doubled, overtaken and damaged inside the receivers of both ends (RDMAKIT_FAULT),
 * on UDP between two namespaces. Reliable services deliver everything once, in order and right; unreliable ones may lose
 * messages but never deliver a wrong one.
 */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { Network } from './lib/network.ts';
import { compileOwn, type OwnPrograms, ownFlags, parseMessages, parseOnesided } from './lib/own.ts';
import { mustSucceed, pingpongFlags, runPair } from './lib/pair.ts';
import { parsePingpong } from './lib/parse.ts';
import { Report } from './lib/report.ts';
import { requireAll } from './lib/requirements.ts';
import { makeRoad, type Road } from './lib/roads.ts';

const FAULTS = [
  ...['loss=0.001', 'loss=0.01', 'loss=0.05', 'loss=0.1', 'dup=0.1', 'reorder=0.1', 'corrupt=0.05'],
  'loss=0.03,dup=0.03,reorder=0.05,corrupt=0.01',
];
const LIMIT_MS = 30_000;
const MESSAGES = 1024;

const report = new Report('faults (completed)', ['one-sided', 'RC SEND', 'UC SEND', 'UD SEND']);
let network: Network;
let road: Road;
let own: OwnPrograms;

beforeAll(async () => {
  requireAll(['gcc', 'ibv_devinfo', 'ibv_rc_pingpong']);
  network = await Network.create();
  road = await makeRoad(network, 'udp-veth');
  own = await compileOwn();
}, 60_000);

afterAll(() => {
  network?.remove();
  own?.remove();
  report.print();
});

describe.each(FAULTS)('%s', (fault) => {
  /** Different seeds, or both ends would lose the same packets. */
  const faulty = {
    flags: ownFlags,
    limit_ms: LIMIT_MS,
    serverEnv: { RDMAKIT_FAULT: `${fault},seed=11` },
    clientEnv: { RDMAKIT_FAULT: `${fault},seed=12` },
  };

  test(
    'WRITE, READ and atomics: every result as the model says',
    () =>
      report.note(fault, 'one-sided', async () => {
        const ended = await runPair(road, {
          ...faulty,
          program: own.onesided,
          args: ['-n', '1600', '-s', '30000'],
        });
        mustSucceed(ended);
        const result = parseOnesided(ended.client.stdout);
        expect(result).toEqual({ operations: 1600, mismatches: 0, sameHash: true });
        return `${result.operations}`;
      }),
    LIMIT_MS + 5000,
  );

  test(
    'RC: every message once, in order, intact',
    () =>
      report.note(fault, 'RC SEND', async () => {
        const args = ['-n', `${MESSAGES}`, '-s', '20000', '-c', 'RC'];
        const ended = await runPair(road, { ...faulty, program: own.messages, args });
        mustSucceed(ended);
        const result = parseMessages(ended.client.stdout);
        expect(result).toEqual({ sent: MESSAGES, received: MESSAGES, bad: 0, disordered: 0 });
        return `${result.received}`;
      }),
    LIMIT_MS + 5000,
  );

  test.each([
    { type: 'UC', size: 4000 },
    { type: 'UD', size: 1024 },
  ])(
    '$type: some messages, none of them wrong',
    ({ type, size }) =>
      report.note(fault, `${type} SEND`, async () => {
        const args = ['-n', `${MESSAGES}`, '-s', `${size}`, '-c', type];
        const ended = await runPair(road, { ...faulty, program: own.messages, args });
        mustSucceed(ended);
        const result = parseMessages(ended.client.stdout);
        expect(result.bad).toBe(0);
        // The worst fault here takes a tenth of the packets, and with one all the four of a message.
        expect(result.received).toBeGreaterThan(MESSAGES / 3);
        if (fault.startsWith('loss=') && !fault.includes(','))
          expect(result.received).toBeLessThanOrEqual(MESSAGES);
        return `${result.received}`;
      }),
    LIMIT_MS + 5000,
  );
});

test(
  'without faults unreliable services lose and reorder nothing at a pace that the receiver keeps',
  async () => {
    for (const type of ['UC', 'UD']) {
      const args = ['-n', `${MESSAGES}`, '-s', '1000', '-c', type];
      const ended = await runPair(road, { program: own.messages, flags: ownFlags, args, limit_ms: LIMIT_MS });
      mustSucceed(ended);
      const result = parseMessages(ended.client.stdout);
      expect(result).toEqual({ sent: MESSAGES, received: MESSAGES, bad: 0, disordered: 0 });
    }
  },
  LIMIT_MS + 5000,
);

test(
  'ibv_rc_pingpong -c with 1 % of the packets lost at its server',
  async () => {
    const args = ['-c', '-e', '-s', '50000', '-n', '100'];
    const env = { RDMAKIT_FAULT: 'loss=0.01,seed=5' };
    const spec = {
      program: 'ibv_rc_pingpong',
      args,
      flags: pingpongFlags,
      limit_ms: LIMIT_MS,
      serverEnv: env,
    };
    const ended = await runPair(road, spec);
    mustSucceed(ended);
    for (const { stdout, stderr } of [ended.client, ended.server]) {
      expect(parsePingpong(stdout + stderr).iterations).toBe(100);
    }
  },
  LIMIT_MS + 5000,
);
