import { expect, test } from 'bun:test';
import { editDistance, suggest } from '../../src/cli/suggest.ts';

test.each([
  ['', '', 0],
  ['abc', '', 3],
  ['size', 'sise', 1],
  ['size', 'siez', 1],
  ['kitten', 'sitting', 3],
] as const)('distance of %p and %p is %p', (a, b, distance) => {
  expect(editDistance(a, b)).toBe(distance);
  expect(editDistance(b, a)).toBe(distance);
});

test.each([
  ['pingpng', 'pingpong'],
  ['ping', 'pingpong'],
  ['tpoo', 'topo'],
  ['verbsrun', 'verbs-run'],
  ['zzz', undefined],
  ['x', undefined],
] as const)('%p suggests %p', (word, meant) => {
  expect(suggest(word, ['topo', 'pingpong', 'verbs-run'])).toBe(meant as never);
});

test('an ambiguous beginning suggests nothing by prefix', () => {
  expect(suggest('--e', ['--events', '--expect'])).toBeUndefined();
});
