/**
 * src/verbs between two processes and between two hosts: connection set-up over the side channel, every operation with
 * its data checked, and the device's events.
 */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { join } from 'node:path';
import { Network } from './lib/network.ts';
import { mustRun, Program, sleep } from './lib/process.ts';
import { makeRoad, ROAD_DOC, type RoadName } from './lib/roads.ts';

const PEER = join(import.meta.dir, '../verbs/peer.ts');
const EVENTS = join(import.meta.dir, '../verbs/event-log.ts');
const LIMIT_MS = 60_000;

let network: Network;
beforeAll(async () => {
  network = await Network.create();
});
afterAll(() => network?.remove());

/** Waits until a program has printed something that fits. */
async function printed(program: Program, pattern: RegExp): Promise<RegExpExecArray> {
  for (;;) {
    const match = pattern.exec(program.stdout);
    if (match !== null) return match;
    if (!program.alive)
      throw new Error(`it ended without printing ${pattern}: ${program.stdout}${program.stderr}`);
    await sleep(10);
  }
}

describe.each(Object.keys(ROAD_DOC) as RoadName[])('two processes, road %s', (name) => {
  test('connect and carry the right data in every operation', async () => {
    const road = await makeRoad(network, name);
    const options = { env: road.env, limit_ms: LIMIT_MS };
    const { server, client } = road;
    const listening = new Program([process.execPath, PEER, 'listen', server.device], {
      ...options,
      netns: server.netns,
    });
    const port = (await printed(listening, /"port":(\d+)/))[1] ?? '';
    const asking = new Program([process.execPath, PEER, 'connect', client.device, road.address, port], {
      ...options,
      netns: client.netns,
    });
    const [asked, listened] = await Promise.all([asking.ended, listening.ended]);
    expect({ code: asked.code, stderr: asked.stderr }).toEqual({ code: 0, stderr: '' });
    expect({ code: listened.code, stderr: listened.stderr }).toEqual({ code: 0, stderr: '' });
    const results = asked.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(results).toHaveLength(10);
    for (const result of results) {
      expect(result).toMatchObject({ done: true, message: '', mismatches: 0, lost: 0 });
      expect(result.completed).toBeGreaterThan(0);
      expect(result.verified).toBeGreaterThan(0);
    }
  });
});

test('a link that goes down and comes back is told as events and as port state', async () => {
  const { netns, netdev, device } = network.a;
  const log = new Program([process.execPath, EVENTS, device], {
    env: network.env(),
    netns,
    limit_ms: LIMIT_MS,
  });
  await printed(log, /watching ACTIVE/);
  await mustRun(['ip', 'link', 'set', netdev, 'down'], { netns });
  await printed(log, /IBV_EVENT_PORT_ERR port 1, now DOWN/);
  await mustRun(['ip', 'link', 'set', netdev, 'up'], { netns });
  await printed(log, /IBV_EVENT_PORT_ACTIVE port 1, now ACTIVE/);
  log.kill('SIGTERM');
  expect(await log.ended).toMatchObject({ code: 0, stderr: '' });
});
