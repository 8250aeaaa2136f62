/** The subcommands as a user meets them: what they print, refuse and pass on. */

import { afterAll, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runIn } from '../../src/cli/main.ts';
import { commands } from '../../src/cli.ts';
import { Capture } from '../cli/fixture.ts';

const folder = mkdtempSync(join(tmpdir(), 'rdmakit-topo-'));
afterAll(() => rmSync(folder, { recursive: true }));

async function topo(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  const [out, err] = [new Capture(), new Capture()];
  const code = await runIn(commands, { argv: ['topo', ...argv], out, err, env: {} });
  return { code, out: out.text, err: err.text };
}

async function generated(name: string, ...argv: string[]): Promise<string> {
  const { code, out } = await topo('generate', ...argv, '--json');
  expect(code).toBe(0);
  const path = join(folder, name);
  writeFileSync(path, out);
  return path;
}

describe('generate', () => {
  test('without --json it counts', async () => {
    const { code, out } = await topo('generate', 'fat-tree', '--k', '8');
    expect(code).toBe(0);
    expect(out).toContain('fat-tree k=8: 208 nodes, 384 links');
  });

  test.each([
    [['generate', 'fat-tree', '--k', '7'], 'k is 7'],
    [['generate', 'fat-tree', '--spines', '7'], "fat-tree has no 'spines'"],
    [['generate', 'mesh'], "unknown kind 'mesh'"],
    [['generate', 'wan'], 'needs FILE'],
    [['generate', 'torus', '--dimensions', '4by4'], 'is not a size'],
    [['generate', 'leaf-spine', '--loss', '120%'], 'is not a share'],
    [['draw', '/nonexistent/t.json'], 'cannot open /nonexistent/t.json'],
    [['paths', '/nonexistent/t.json', '--src', 'a'], '--src and --dst are needed'],
    [['overlay', '-', '-'], 'cannot both be standard input'],
    [['up', '/dev/null', '--name', 'Not Good'], 'lower-case letters'],
    [['up', '/dev/null', '--delay-by', 'magic'], "'magic' is not one of auto, netem, relay"],
    [['probe', 'host1'], 'at least two HOSTs'],
    [['probe', 'host1', 'host2', '--name', 'lab'], 'exclude each other'],
  ])('%p is refused', async (argv, message) => {
    const { code, out, err } = await topo(...argv);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toContain(message);
  });
});

describe('one subcommand reads what another printed', () => {
  test('paths and balance give documents', async () => {
    const file = await generated('t.json', 'leaf-spine', '--spines', '4');
    const paths = await topo(
      'paths',
      file,
      '--src',
      'h0',
      '--dst',
      'h9',
      '--sport',
      '49152..49251',
      '--json',
    );
    const document = JSON.parse(paths.out);
    expect([document.schema, document.paths.length, document.distinct_paths]).toEqual([
      'rdmakit.topo-paths/1',
      100,
      4,
    ]);
    const load = await topo('balance', file, '--src', 'h0', '--dst', 'h9', '--choose', '--optimum', '--json');
    expect(JSON.parse(load.out)).toMatchObject({
      schema: 'rdmakit.topo-load/1',
      max_over_mean: 1,
      unplaced: 0,
    });
    const values = join(folder, 'load.json');
    writeFileSync(values, load.out);
    const picture = await topo('overlay', file, values, '--svg');
    expect(picture.out).toStartWith('<svg ');
    const svg = join(folder, 'load.svg');
    writeFileSync(svg, picture.out);
    const again = await topo('diff', file, svg);
    expect([again.code, again.err]).toEqual([0, 'no difference\n']);
  });

  test('--strict fails on polarised hashing', async () => {
    const file = await generated('f.json', 'fat-tree', '--k', '8');
    expect((await topo('balance', file, '--model', 'crc', '--strict', '--json')).code).toBe(1);
    expect((await topo('balance', file, '--per-switch-seeds', '--strict', '--json')).code).toBe(0);
  });

  test('diff exits with 1 and names the link', async () => {
    const [before, after] = [
      await generated('a.json', 'leaf-spine', '--spines', '4'),
      await generated('b.json', 'leaf-spine', '--spines', '3'),
    ];
    const { code, out } = await topo('diff', before, after, '--json');
    expect(code).toBe(1);
    expect(JSON.parse(out).changes).toContainEqual({
      what: 'link',
      id: 'l0--s3',
      change: 'removed',
      between: 'l0 - s3',
      fields: [],
    });
  });
});

test('a file of 100 MB is refused unread, a binary one by its encoding', async () => {
  const [large, binary] = [join(folder, 'large.json'), join(folder, 'binary.json')];
  writeFileSync(large, '{');
  truncateSync(large, 100 * 2 ** 20);
  writeFileSync(binary, Uint8Array.of(0x7b, 0xff, 0xfe, 0x00));
  expect((await topo('draw', large)).err).toContain('is larger than 64 MiB');
  expect((await topo('draw', binary)).err).toContain('is not UTF-8 text');
});
