import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { onCircle } from '../../src/topo/draw/circle.ts';
import { curvesOf } from '../../src/topo/draw/curves.ts';
import { layOut } from '../../src/topo/draw/layout.ts';
import { toPng } from '../../src/topo/draw/png.ts';
import { drawSvg } from '../../src/topo/draw/svg.ts';
import { drawText } from '../../src/topo/draw/text.ts';
import { parseXml } from '../../src/topo/formats/xml.ts';
import { dragonfly, torus } from '../../src/topo/generate/direct.ts';
import { fatTree, leafSpine, railOptimised } from '../../src/topo/generate/tiered.ts';
import type { Link, Topology } from '../../src/topo/model/schema.ts';
import { topologies } from './arbitrary.ts';

const rate_bps = 100e9;
const SAMPLES = {
  'leaf-spine': leafSpine({ leaves: 2, spines: 2, hosts: 2, parallel: 2, rate_bps }),
  'fat-tree': fatTree({ k: 8, rate_bps }),
  rail: railOptimised({ groups: 2, hosts: 4, rails: 4, planes: 2, spines: 2, parallel: 1, rate_bps }),
  dragonfly: dragonfly({ routers: 4, globals: 2, hosts: 2, rate_bps }),
  torus: torus({ dimensions: [3, 4, 4], hosts: 1, rate_bps }),
};

test('the circle agrees with sine and cosine', () => {
  for (let i = 0; i <= 96; i++) {
    const angle = (i / 96) * 2 * Math.PI;
    const { x, y } = onCircle(i / 96);
    expect(x).toBeCloseTo(Math.sin(angle), 12);
    expect(y).toBeCloseTo(-Math.cos(angle), 12);
  }
});

describe.each(Object.entries(SAMPLES))('%s', (_, topology) => {
  test('no two nodes overlap, and all are inside the picture', () => {
    const { places, width, height } = layOut(topology);
    for (const [at, a] of places.entries()) {
      expect(a.x - a.width / 2).toBeGreaterThanOrEqual(0);
      expect(a.y - a.height / 2).toBeGreaterThanOrEqual(0);
      expect(a.x + a.width / 2).toBeLessThanOrEqual(width);
      expect(a.y + a.height / 2).toBeLessThanOrEqual(height);
      for (const b of places.slice(at + 1)) {
        const apart =
          Math.abs(a.x - b.x) >= (a.width + b.width) / 2 - 1e-6 ||
          Math.abs(a.y - b.y) >= (a.height + b.height) / 2 - 1e-6;
        expect(apart).toBe(true);
      }
    }
  });

  test('every node and link is an element with an id of its own', () => {
    const svg = drawSvg(topology);
    const ids = [...svg.matchAll(/ id="((?:node|link)-[^"]+)"/g)].map(([, id]) => id);
    expect(ids.length).toBe(topology.nodes.length + topology.links.length);
    expect(new Set(ids).size).toBe(ids.length);
  });
});

test('every line lies inside the picture', () => {
  for (const topology of Object.values(SAMPLES)) {
    const svg = drawSvg(topology);
    const [, width = 0, height = 0] = (svg.match(/viewBox="0 0 (\d+) (\d+)"/) ?? []).map(Number);
    for (const { at } of curvesOf(topology, layOut(topology))) {
      for (let i = 0; i <= 20; i++) {
        expect(at(i / 20).x).toBeLessThanOrEqual(width);
        expect(at(i / 20).y).toBeLessThanOrEqual(height);
      }
    }
  }
});

test('names in a torus keep off its lines', () => {
  const topology = torus({ dimensions: [4, 4], hosts: 1, rate_bps });
  const layout = layOut(topology);
  const svg = drawSvg(topology);
  const names = [
    ...svg.matchAll(
      /<text x="([\d.]+)" y="([\d.]+)" font-size="11" text-anchor="(\w+)">([^<]+)<\/text><\/g>/g,
    ),
  ];
  expect(names.length).toBe(32);
  for (const [, x, y, anchor = '', text = ''] of names) {
    const wide = text.length * 5;
    const left = Number(x) - (anchor === 'end' ? wide : anchor === 'middle' ? wide / 2 : 0);
    for (const { at } of curvesOf(topology, layout)) {
      for (let i = 0; i <= 200; i++) {
        const point = at(i / 200);
        const inside =
          point.x > left && point.x < left + wide && point.y > Number(y) - 8 && point.y < Number(y) - 1;
        expect(inside).toBe(false);
      }
    }
  }
});

test('an inferred link is dashed and says where it is from; idle links of an overlay have no label', () => {
  const topology = structuredClone(SAMPLES['leaf-spine']);
  const [first, second] = topology.links as [Link, Link];
  first.inferred_from = 'routes';
  const values = new Map([
    [first.id, { value: 0, label: 'nothing' }],
    [second.id, { value: 1, label: 'much' }],
  ]);
  const svg = drawSvg(topology, { overlay: { title: 'load', values, low: 0, high: 1, show: String } });
  expect(svg.match(/class="link inferred"/g)).toHaveLength(1);
  expect(svg).toContain('inferred from routes');
  expect(svg).toContain('.inferred{stroke-dasharray:');
  expect(svg.match(/class="link-label"[^>]*>(nothing|much)</g)).toHaveLength(1);
});

test('what there is one of is counted as one', () => {
  const one: Topology = {
    nodes: [
      { id: 'a', kind: 'host' },
      { id: 'b', kind: 'host' },
    ],
    links: [{ id: 'a-b', a: 'a', b: 'b' }],
  };
  expect(drawText(one, 80)).toContain('2 nodes, 1 link\n');
  expect(drawSvg(one)).toContain('>2 nodes, 1 link<');
});

test('any topology gives well-formed XML without NaN, twice the same', () => {
  fc.assert(
    fc.property(topologies({ awkward: true, full: true }), (topology) => {
      const svg = drawSvg(topology);
      expect(parseXml(svg).name).toBe('svg');
      expect(svg).not.toMatch(/="[^"]*(NaN|Infinity)/);
      expect(drawSvg(structuredClone(topology))).toBe(svg);
      expect(drawText(topology, 80).split('\n').length).toBeGreaterThan(1);
    }),
    { numRuns: 60 },
  );
});

test('the renderer makes a PNG', async () => {
  const png = await toPng(drawSvg(SAMPLES['leaf-spine']));
  expect([...png.slice(0, 4)]).toEqual([0x89, 0x50, 0x4e, 0x47]);
});
