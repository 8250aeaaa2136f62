/** `topo` as users pipe it, on the runtime under test; the picture must be the same bytes on all of them. */

import { expect, setDefaultTimeout, test } from 'bun:test';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { drawSvg } from '../../src/topo/draw/svg.ts';
import { readTopology } from '../../src/topo/formats/index.ts';
import { dragonfly } from '../../src/topo/generate/direct.ts';
import { entryFor, finish, runtime, start } from './start.ts';

setDefaultTimeout(60_000);
const entry = entryFor('src/cli.ts');

test(`${runtime}: a dragonfly is generated and drawn, byte for byte as on Bun`, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'rdmakit-topo-'));
  try {
    const made = await finish(start(entry, ['topo', 'generate', 'dragonfly', '--json']));
    expect({ code: made.code, err: made.err }).toEqual({ code: 0, err: '' });
    const file = join(folder, 't.json');
    writeFileSync(file, made.out);
    const drawn = await finish(start(entry, ['topo', 'draw', file, '--svg']));
    expect({ code: drawn.code, err: drawn.err }).toEqual({ code: 0, err: '' });
    const here = drawSvg(dragonfly({ routers: 4, globals: 2, hosts: 2, rate_bps: 100e9 }));
    const digest = (text: string): string => createHash('sha256').update(text).digest('hex');
    expect(digest(drawn.out)).toBe(digest(here));
    // A graph without places: its layout is arithmetic through and through.
    const bare = join(folder, 'bare.dot');
    const ring = Array.from(
      { length: 40 },
      (_, i) => `n${i} -- n${(i * 7 + 3) % 40}; n${i} -- n${(i + 1) % 40};`,
    );
    writeFileSync(bare, `graph { ${ring.filter((text) => !/n(\d+) -- n\1;/.test(text)).join(' ')} }`);
    const unfolded = await finish(start(entry, ['topo', 'draw', bare, '--svg']));
    expect({ code: unfolded.code, err: unfolded.err }).toEqual({ code: 0, err: '' });
    expect(digest(unfolded.out)).toBe(digest(drawSvg(await readTopology(bare))));
    for (const format of ['graphml', 'containerlab']) {
      const { code, err } = await finish(start(entry, ['topo', 'convert', file, '--to', format]));
      expect({ code, err }).toEqual({ code: 0, err: '' });
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
