/** Every function that ffi/ declares exists in the library it is declared for: a typing error shows here, not in use. */

import { describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const ffi = join(import.meta.dir, '../../ffi');

/** Names that a library lacks, found in a process of its own: the provider is chosen once. */
function missing(provider: string, module: string, table: string, opener: string): string[] {
  const program = `
    const load = await import(${JSON.stringify(join(ffi, 'load.ts'))});
    load.loadVerbs({ provider: ${JSON.stringify(provider)} });
    const handle = load.${opener}();
    const table = (await import(${JSON.stringify(ffi)} + '/${module}')).${table};
    const names = Object.keys(table).filter((name) => {
      try { (handle.handle ?? handle).symbol(name); return false; } catch { return true; }
    });
    console.log(JSON.stringify(names));`;
  const result = spawnSync(process.execPath, ['-e', program], { encoding: 'utf8' });
  if (result.status !== 0) throw new Error(result.stderr);
  return JSON.parse(result.stdout) as string[];
}

describe('declared functions exist', () => {
  const cases = [
    ['soft', 'libibverbs.ts', 'libibverbs', 'loadVerbs'],
    ['system', 'libibverbs.ts', 'libibverbs', 'loadVerbs'],
    ['soft', 'librdmacm.ts', 'librdmacm', 'loadRdmacm'],
    ['system', 'librdmacm.ts', 'librdmacm', 'loadRdmacm'],
    ['soft', 'softrdma.ts', 'softrdma', 'loadVerbs'],
    ['soft', 'datapath.ts', 'datapath', 'loadDatapathLibrary'],
    ['system', 'datapath.ts', 'datapath', 'loadDatapathLibrary'],
  ] as const;
  for (const [provider, module, table, opener] of cases) {
    test(`${table} of the ${provider} provider`, () => {
      expect(missing(provider, module, table, opener)).toEqual([]);
    });
  }

  test('the embedded connection manager opens and closes an event channel', () => {
    const program = `
      const { loadVerbs } = await import(${JSON.stringify(join(ffi, 'load.ts'))});
      const { librdmacm } = await import(${JSON.stringify(join(ffi, 'librdmacm.ts'))});
      loadVerbs({ provider: 'soft' });
      const channel = librdmacm.rdma_create_event_channel();
      console.log(JSON.stringify({ made: channel !== 0n }));
      librdmacm.rdma_destroy_event_channel(channel);`;
    const { stdout, status } = spawnSync(process.execPath, ['-e', program], { encoding: 'utf8' });
    expect(JSON.parse(stdout)).toEqual({ made: true });
    expect(status).toBe(0);
  });
});
