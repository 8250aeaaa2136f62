/** The variables that verbs-run sets. */

import { describe, expect, test } from 'bun:test';
import { parseFault, verbsEnvironment } from '../../src/verbs-run/environment.ts';

const wishes = { softFolder: '/opt/soft', road: 'auto' } as const;

describe('verbsEnvironment', () => {
  test.each([
    [undefined, '/opt/soft'],
    ['', '/opt/soft'],
    ['/a:/b', '/opt/soft:/a:/b'],
    ['/a:/opt/soft', '/opt/soft:/a'],
    [':/a:', '/opt/soft:/a'],
  ])('LD_LIBRARY_PATH=%p becomes %p', (before, after) => {
    expect(verbsEnvironment(wishes, { LD_LIBRARY_PATH: before })).toEqual({ LD_LIBRARY_PATH: after });
  });

  test('road and faults', () => {
    expect(verbsEnvironment({ ...wishes, road: 'wire', fault: 'loss=0.01' }, {})).toEqual({
      LD_LIBRARY_PATH: '/opt/soft',
      RDMAKIT_ROAD: 'wire',
      RDMAKIT_FAULT: 'loss=0.01',
    });
  });

  test.each([
    [undefined, '/opt/sysfs.so'],
    ['/x.so /y.so:/z.so', '/opt/sysfs.so:/x.so:/y.so:/z.so'],
    ['/x.so:/opt/sysfs.so', '/opt/sysfs.so:/x.so'],
  ])('LD_PRELOAD=%p becomes %p', (before, after) => {
    const set = verbsEnvironment({ ...wishes, sysfsLibrary: '/opt/sysfs.so' }, { LD_PRELOAD: before });
    expect(set.LD_PRELOAD).toBe(after);
  });

  test('folders that the loader cannot name', () => {
    expect(() => verbsEnvironment({ ...wishes, softFolder: '/a:b' }, {})).toThrow(/colon/);
    expect(() => verbsEnvironment({ ...wishes, sysfsLibrary: '/a b/sysfs.so' }, {})).toThrow(/blank/);
  });
});

describe('parseFault', () => {
  test.each([
    ['loss=1%', 'loss=0.01'],
    ['loss=0.5,seed=7', 'loss=0.5,seed=7'],
    ['dup=100%,reorder=0,corrupt=0.1%', 'dup=1,reorder=0,corrupt=0.001'],
  ])('%p is %p', (text, fault) => {
    expect(parseFault(text)).toEqual({ fault });
  });

  test.each([
    '',
    'loss',
    'loss=',
    'loss=1.1',
    'loss=200%',
    'lost=1%',
    'seed=1.5',
    'seed=1%',
    'loss=-1%',
    'loss=1%,',
  ])('%p is refused', (text) => {
    expect(parseFault(text)).toHaveProperty('reason');
  });
});
