import { describe, expect, test } from 'bun:test';
import { paint } from '../../src/topo/draw/overlay.ts';
import { drawSvg } from '../../src/topo/draw/svg.ts';
import { overlayOfTable } from '../../src/topo/draw/values.ts';
import { leafSpine } from '../../src/topo/generate/tiered.ts';

const topology = leafSpine({ leaves: 2, spines: 2, hosts: 1, parallel: 1, rate_bps: 1e11 });

describe('values from a table', () => {
  test('by link or by ends, the larger of two wins, and links are painted', () => {
    const overlay = overlayOfTable('link,value\nh0--l0,5\ns1,l0,7\nl0,s1,2\n', topology);
    expect([...overlay.values]).toEqual([
      ['h0--l0', { value: 5, label: '5' }],
      ['l0--s1', { value: 7, label: '7' }],
    ]);
    const svg = drawSvg(topology, { overlay });
    expect(svg).toMatch(new RegExp(`id="link-l0--s1"[^>]*stroke:${paint(overlay, 7)}`));
    expect(svg).toMatch(/id="link-l1--s0" class="link unmeasured"/);
    expect(svg).toContain('class="legend"');
  });

  test('an unknown link and a wrong number are named with their line', () => {
    expect(() => overlayOfTable('h0--l0,5\nx--y,5\n', topology)).toThrow("no link 'x--y'");
    expect(() => overlayOfTable('h0--l0,5\nh0--l0,five\n', topology)).toThrow("'five' is not a number");
  });
});

test('colours run from the lowest to the highest and stay within', () => {
  const range = { low: 0, high: 10 };
  expect(paint(range, -5)).toBe(paint(range, 0));
  expect(paint(range, 50)).toBe(paint(range, 10));
  expect(new Set([0, 2.5, 5, 7.5, 10].map((value) => paint(range, value))).size).toBe(5);
});
