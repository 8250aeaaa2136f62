/** Random topologies and broken texts for the property tests. */

import fc from 'fast-check';
import { TopologyBuilder } from '../../src/topo/model/build.ts';
import type { Quality, Topology } from '../../src/topo/model/schema.ts';

/** Ids with spaces, quotes, markup and letters of other scripts, as found in real files. */
const awkward = fc
  .stringMatching(/^[A-Za-z0-9 ._<>&"'\\äß東#|;:,{}[\]()=*/-]{1,12}$/)
  .map((text) => text.trim())
  .filter((text) => text !== '');
const plain = fc.stringMatching(/^[a-z][a-z0-9]{0,6}$/);

const quality = fc.record(
  {
    capacity_bps: fc.integer({ min: 1, max: 4e11 }),
    delay_ns: fc.integer({ min: 0, max: 1e9 }),
    loss_ratio: fc.integer({ min: 1, max: 1000 }).map((ppm) => ppm / 1e6),
  },
  { requiredKeys: [] },
) as fc.Arbitrary<Quality>;

export interface Shape {
  /** Ids with any character. */
  awkward?: boolean;
  /** Everything the model knows, not only what all formats have. */
  full?: boolean;
}

/** A valid topology of up to 8 nodes, with parallel links. */
export function topologies({ awkward: odd = false, full = false }: Shape = {}): fc.Arbitrary<Topology> {
  const ids = fc.uniqueArray(odd ? awkward : plain, { minLength: 2, maxLength: 8 });
  return ids.chain((names) =>
    fc
      .record({
        kinds: fc.array(fc.constantFrom('host', 'switch', 'site'), {
          minLength: names.length,
          maxLength: names.length,
        }),
        extras: fc.array(
          fc.record(
            {
              tier: fc.integer({ min: 0, max: 3 }),
              group: odd ? awkward : plain,
              label: fc.constantFrom('a "label"', '<b>&amp;', 'two  spaces', '\\n'),
              address: fc.constant('10.0.0.1'),
              x: fc.double({ min: -180, max: 180, noNaN: true }).map((value) => value + 0),
              plane: fc.integer({ min: 0, max: 3 }),
            },
            { requiredKeys: [] },
          ),
          { minLength: names.length, maxLength: names.length },
        ),
        links: fc.array(
          fc.tuple(fc.nat(names.length - 1), fc.nat(names.length - 1), quality, quality, fc.boolean()),
          { maxLength: 12 },
        ),
      })
      .map(({ kinds, extras, links }) => {
        const builder = new TopologyBuilder({ numberPorts: full });
        for (const [at, id] of names.entries()) {
          builder.node({ id, kind: kinds[at] as 'host', ...(full ? extras[at] : {}) });
        }
        for (const [a, b, forth, back, asymmetric] of links) {
          if (a === b) continue;
          const reverse = full && asymmetric && Object.keys(back).length > 0 ? { back } : {};
          const inferred = full && asymmetric ? { inferred_from: 'routes' as const } : {};
          builder.link({ a: names[a] ?? '', b: names[b] ?? '', ...forth, ...reverse, ...inferred });
        }
        return builder.build({
          name: odd ? 'a "random" <name> & k=4' : 'random',
          ...(full ? { made_by: 'fat-tree k=4' } : {}),
        });
      }),
  );
}

/** A text with pieces cut out, doubled, replaced by markup or numbers that hurt. */
export function broken(texts: readonly string[]): fc.Arbitrary<string> {
  const poison = fc.constantFrom(
    '',
    '"',
    '<',
    '>',
    '[',
    ']',
    '{',
    '}',
    '-1',
    '1e999',
    '\0',
    '&x;',
    ':',
    ',',
    '\n',
    'NaN',
    '*a',
    '<!DOCTYPE a [<!ENTITY b "c">]>',
  );
  return fc
    .tuple(
      fc.constantFrom(...texts),
      fc.array(fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.nat(12), poison), {
        minLength: 1,
        maxLength: 4,
      }),
    )
    .map(([text, cuts]) =>
      cuts.reduce((now, [share, length, piece]) => {
        const at = Math.floor(share * now.length);
        return now.slice(0, at) + piece + now.slice(at + length);
      }, text),
    );
}
