import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { RdmakitError } from '../../src/errors.ts';
import { drawSvg } from '../../src/topo/draw/svg.ts';
import {
  type FormatName,
  formatOf,
  formatTopology,
  parseTopology,
  READABLE,
} from '../../src/topo/formats/index.ts';
import { compressNames, expandNames } from '../../src/topo/formats/slurm.ts';
import { fatTree, leafSpine } from '../../src/topo/generate/tiered.ts';
import { firstMistake } from '../../src/topo/model/check.ts';
import type { Topology } from '../../src/topo/model/schema.ts';
import { broken, topologies } from './arbitrary.ts';

const RUNS = { numRuns: 60 };

async function through(topology: Topology, format: FormatName): Promise<Topology> {
  return parseTopology(await formatTopology(topology, format), `x.${format}`, format);
}

/** Ends and qualities of the links, in order. */
function wires({ links }: Topology, keys: readonly string[]): unknown[] {
  return links.map((link) => Object.fromEntries(Object.entries(link).filter(([key]) => keys.includes(key))));
}

async function refusal(text: string, from?: FormatName): Promise<RdmakitError> {
  try {
    await parseTopology(text, 'file', from);
  } catch (error) {
    if (error instanceof RdmakitError) return error;
    throw error;
  }
  throw new Error('it was accepted');
}

describe('round trips', () => {
  test.each(['json', 'dot', 'graphml', 'drawio'] as const)('%s keeps everything', async (format) => {
    await fc.assert(
      fc.asyncProperty(topologies({ awkward: true, full: true }), async (topology) => {
        expect(await through(topology, format)).toEqual(topology);
      }),
      RUNS,
    );
  });

  test('containerlab keeps everything', async () => {
    await fc.assert(
      fc.asyncProperty(topologies({ awkward: true, full: true }), async (topology) => {
        expect(await through(topology, 'containerlab')).toEqual(topology);
      }),
      RUNS,
    );
  });

  test('the picture carries everything', async () => {
    await fc.assert(
      fc.asyncProperty(topologies({ awkward: true, full: true }), async (topology) => {
        expect(await parseTopology(drawSvg(topology), 'x.svg')).toEqual(topology);
      }),
      RUNS,
    );
  });

  test('mermaid keeps ids, kinds, parallel links, capacity, delay and loss', async () => {
    const keys = ['a', 'b', 'capacity_bps', 'delay_ns', 'loss_ratio'];
    await fc.assert(
      fc.asyncProperty(topologies({ awkward: true }), async (topology) => {
        const again = await through(topology, 'mermaid');
        expect(again.nodes).toEqual(topology.nodes);
        expect(wires(again, keys)).toEqual(wires(topology, keys));
      }),
      RUNS,
    );
  });

  test('names that look like syntax survive mermaid and dot', async () => {
    const ids = ['---', 'a-->b', 'x===y', '-.-', 'end', 'o', '"]', '%%', 'subgraph x', ':::host', '|l|'];
    const nodes = ids.map((id) => ({ id, kind: 'host' as const }));
    const links = ids.slice(1).map((b) => ({ id: `----${b}`, a: '---', b }));
    for (const format of ['mermaid', 'dot'] as const) {
      const again = await through({ nodes, links }, format);
      expect(again.nodes).toEqual(nodes);
      expect(wires(again, ['a', 'b'])).toEqual(wires({ nodes, links }, ['a', 'b']));
    }
  });

  test('ns3 keeps the graph with its parallel links, capacity, delay and loss', async () => {
    await fc.assert(
      fc.asyncProperty(topologies(), async (topology) => {
        const again = await through(topology, 'ns3');
        const number = new Map(topology.nodes.map(({ id }, at) => [id, `n${at}`]));
        const wanted = topology.links.map(({ a, b, capacity_bps = 100e9, delay_ns = 0, loss_ratio }) => ({
          a: number.get(a),
          b: number.get(b),
          capacity_bps,
          delay_ns,
          ...(loss_ratio ? { loss_ratio } : {}),
        }));
        expect(wires(again, ['a', 'b', 'capacity_bps', 'delay_ns', 'loss_ratio'])).toEqual(wanted as never);
        expect(again.nodes.map(({ kind }) => kind === 'host')).toEqual(
          topology.nodes.map(({ kind }) => kind === 'host'),
        );
      }),
      RUNS,
    );
  });

  test('slurm keeps the hierarchy, htsim the regular network, matrix the WAN', async () => {
    for (const topology of [
      fatTree({ k: 4, rate_bps: 1e11, delay_ns: 1000 }),
      leafSpine({ leaves: 3, spines: 2, hosts: 4, parallel: 1, rate_bps: 25e9, uplink_bps: 1e11 }),
    ]) {
      const ends = ({ links }: Topology) => links.map(({ a, b }) => `${a} ${b}`).sort();
      const slurm = await through(topology, 'slurm');
      expect(ends(slurm)).toEqual(ends(topology));
      expect(new Map(slurm.nodes.map(({ id, tier }) => [id, tier]))).toEqual(
        new Map(topology.nodes.map(({ id, tier }) => [id, tier])),
      );
      const htsim = await through(topology, 'htsim');
      const capacities = ({ links }: Topology) => links.map(({ capacity_bps }) => capacity_bps).sort();
      expect([htsim.nodes.length, capacities(htsim)]).toEqual([topology.nodes.length, capacities(topology)]);
    }
    const wan = await parseTopology(
      'name,A,B,C\nA,-,10Mbps/20ms/1%,5Mbps\nB,8Mbps/20ms/1%,-,2Gbps\nC,-,-,-\n',
      'm.csv',
    );
    expect(await through(wan, 'matrix')).toEqual(wan);
  });

  test('names of hosts are compressed and expanded', () => {
    expect(compressNames(['h0', 'h1', 'h2', 'h7', 'x'])).toBe('h[0-2,7],x');
    expect(expandNames('h[0-2,7],n[08-10]b')).toEqual(['h0', 'h1', 'h2', 'h7', 'n08b', 'n09b', 'n10b']);
  });
});

const ZOO_GML =
  'graph [\n  directed 0\n  label "Tiny"\n  node [ id 0 label "A&#233;" Longitude 1.5 Latitude -2 ]\n  node [ id 1 label "B" Longitude 2 Latitude 3 ]\n  edge [ source 0 target 1 LinkSpeed "10" LinkSpeedUnits "G" LinkSpeedRaw 10000000000.0 id "e1" ]\n  edge [ source 0 target 1 LinkLabel "10-20Gbps" id "e1" ]\n]\n';
const ZOO_GRAPHML =
  '<?xml version="1.0" encoding="utf-8"?><graphml xmlns="http://graphml.graphdrawing.org/xmlns"><key attr.name="label" attr.type="string" for="node" id="d1"/><key attr.name="Longitude" attr.type="double" for="node" id="d2"/><key attr.name="LinkSpeedRaw" attr.type="double" for="edge" id="d3"/><graph edgedefault="undirected"><node id="0"><data key="d1">X</data><data key="d2">4.5</data></node><node id="1"><data key="d1">Y</data></node><edge source="0" target="1"><data key="d3">1e9</data></edge></graph></graphml>';
const SNDLIB =
  '?SNDlib native format; type: network; version: 1.0\n# x\nNODES (\n  A ( 10.0 50.0 )\n  B ( 11.0 51.0 )\n)\nLINKS (\n  L1 ( A B ) 0.00 0.00 0.00 0.00 ( 40.00 1.00 160.00 2.00 )\n)\nDEMANDS (\n  D1 ( A B ) 1 12.50 UNLIMITED\n)\n';
const SNDLIB_XML =
  '<?xml version="1.0"?><network xmlns="http://sndlib.zib.de/network"><networkStructure><nodes coordinatesType="geographical"><node id="A"><coordinates><x>1</x><y>-2</y></coordinates></node><node id="B"/></nodes><links><link id="L1"><source>A</source><target>B</target><preInstalledModule><capacity>155.0</capacity><cost>1</cost></preInstalledModule></link></links></networkStructure><demands><demand id="D"><source>B</source><target>A</target><demandValue>3.0</demandValue></demand></demands></network>';

describe('files of others', () => {
  test('Topology Zoo GML: labels become ids, parallel links stay, speeds are read', async () => {
    const { nodes, links } = await parseTopology(ZOO_GML, 'tiny.gml');
    expect(nodes).toEqual([
      { id: 'Aé', kind: 'switch', x: 1.5, y: -2 },
      { id: 'B', kind: 'switch', x: 2, y: 3 },
    ]);
    expect(links).toEqual([
      { id: 'Aé--B', a: 'Aé', b: 'B', capacity_bps: 10e9 },
      { id: 'Aé--B#2', a: 'Aé', b: 'B' },
    ]);
  });

  test('Topology Zoo GraphML', async () => {
    const { nodes, links } = await parseTopology(ZOO_GRAPHML, 'tiny.graphml');
    expect(nodes).toEqual([
      { id: 'X', kind: 'switch', x: 4.5 },
      { id: 'Y', kind: 'switch' },
    ]);
    expect(links).toEqual([{ id: 'X--Y', a: 'X', b: 'Y', capacity_bps: 1e9 }]);
  });

  test('SNDlib native and XML', async () => {
    expect(await parseTopology(SNDLIB, 'a.txt')).toEqual({
      nodes: [
        { id: 'A', kind: 'site', x: 10, y: 50 },
        { id: 'B', kind: 'site', x: 11, y: 51 },
      ],
      links: [{ id: 'L1', a: 'A', b: 'B', capacity_bps: 160e6 }],
      demands: [{ from: 'A', to: 'B', rate_bps: 12.5e6 }],
    });
    expect(await parseTopology(SNDLIB_XML, 'a.xml')).toEqual({
      nodes: [
        { id: 'A', kind: 'site', x: 1, y: -2 },
        { id: 'B', kind: 'site' },
      ],
      links: [{ id: 'L1', a: 'A', b: 'B', capacity_bps: 155e6 }],
      demands: [{ from: 'B', to: 'A', rate_bps: 3e6 }],
    });
  });

  test('DOT with chains, subgraphs and defaults', async () => {
    const text =
      '// c\nstrict digraph "g" { node [kind=host]; a -> {b c} -> d [capacity_bps=5]; /* x */ subgraph s { e } d -> e:p1 }';
    const { nodes, links } = await parseTopology(text, 'a.dot');
    expect(nodes.map(({ id, kind }) => `${id} ${kind}`)).toEqual([
      'a host',
      'b host',
      'c host',
      'd host',
      'e host',
    ]);
    expect(links.map(({ a, b, capacity_bps, b_port }) => [a, b, capacity_bps, b_port])).toEqual([
      ['a', 'b', 5, undefined],
      ['a', 'c', 5, undefined],
      ['b', 'd', 5, undefined],
      ['c', 'd', 5, undefined],
      ['d', 'e', undefined, 'p1'],
    ] as never);
  });
});

describe('bad files get an error with the line', () => {
  const CASES: [string, string, string][] = [
    ['broken JSON', '{"schema":"rdmakit.topo/1",\n"nodes":[}\n', 'file:2'],
    [
      'a negative rate',
      '{"schema":"rdmakit.topo/1","nodes":[{"id":"a","kind":"host"},{"id":"b","kind":"host"}],\n"links":[\n{"id":"x","a":"a","b":"b","capacity_bps":-5}]}',
      'file:3: links[0].capacity_bps',
    ],
    [
      'a number beyond all numbers',
      '{"schema":"rdmakit.topo/1","nodes":[{"id":"a","kind":"host"},{"id":"b","kind":"host"}],\n"links":[\n{"id":"x","a":"a","b":"b","capacity_bps":1e400}]}',
      'file:3: links[0].capacity_bps',
    ],
    [
      'a rate that no link has',
      '{"schema":"rdmakit.topo/1","nodes":[{"id":"a","kind":"host"},{"id":"b","kind":"host"}],\n"links":[\n{"id":"x","a":"a","b":"b","capacity_bps":1e308}]}',
      'file:3: links[0].capacity_bps',
    ],
    [
      'a duplicate name',
      '{"schema":"rdmakit.topo/1","nodes":[{"id":"a","kind":"host"},\n{"id":"a","kind":"host"}],"links":[]}',
      'file:2: nodes[1].id',
    ],
    [
      'an unknown field',
      '{"schema":"rdmakit.topo/1","nodes":[{"id":"a","kind":"host",\n"colour":1}],"links":[]}',
      'file:2: nodes[0].colour',
    ],
    ['a name that stands twice', '{"schema":"rdmakit.topo/1",\n"nodes":[],"nodes":[],"links":[]}', 'file:2'],
    ['a link to itself', 'graph {\na;\na -- a }', "file:3: link 'a--a' joins 'a' to itself"],
    ['a cycle in a hierarchy', 'SwitchName=a Switches=b\nSwitchName=b Switches=a\n', 'file:2: switch'],
    ['a negative matrix cell', 'name,A,B\nA,-,-5Mbps\nB,-,-\n', 'file:2'],
    [
      'an entity bomb',
      '<?xml version="1.0"?>\n<!DOCTYPE g [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>\n<graphml>&b;</graphml>',
      'file:2',
    ],
    [
      'an external entity',
      '<!DOCTYPE g [<!ENTITY a SYSTEM "file:///etc/passwd">]><graphml><graph>&a;</graph></graphml>',
      'file:1',
    ],
    ['an unknown entity', '<graphml>\n<graph>&nbsp;</graph></graphml>', 'file:2'],
    ['YAML aliases', 'name: x\ntopology:\n  nodes: &a\n    h0: {kind: linux}\n  links: *a\n', 'file:5'],
    ['a YAML syntax error', 'name: x\ntopology:\n  nodes: {a: [}\n', 'file:3'],
    ['deep XML', `<graphml>${'<a>'.repeat(100)}`, 'file:1'],
    ['deep DOT', `graph ${'{'.repeat(100)}`, 'file:1'],
    ['deep GML', `graph [ ${'a [ '.repeat(100)}`, 'file:1'],
    ['deep JSON', `{"schema":${'['.repeat(5000)}`, 'file:1'],
    ['an ns-3 list that ends early', '3 1 2\n2\n0 2 100Gbps 0.001ms 0\n', 'file:3'],
    ['too many nodes announced', '999999999 1 2\n', 'file:1'],
    [
      'htsim that does not divide',
      'Nodes 10\nTiers 2\nPodsize 10\nTier 0\nRadix_Down 3\nRadix_Up 3\nDownlink_speed_Gbps 1\nTier 1\nRadix_Down 4\nDownlink_speed_Gbps 1\n',
      'file:4',
    ],
    [
      'a picture whose document was edited',
      '<svg xmlns="x">\n<metadata id="topology"><![CDATA[{"schema":"rdmakit.topo/1",\n"nodes":7,"links":[]}]]></metadata></svg>',
      'file:3: nodes',
    ],
    ['a range of names without end', 'SwitchName=a Nodes=h[0-999999999]\n', 'file:1'],
  ];
  test.each(CASES)('%s', async (_, text, place) => {
    const error = await refusal(text);
    expect(error.message).toStartWith(place);
    expect(error.exitCode).toBe(2);
  });

  test('an empty file and an unknown format', async () => {
    expect((await refusal('')).message).toBe('file is empty');
    expect((await refusal('hello')).message).toContain('in no format');
  });
});

describe('importers survive anything', () => {
  test.each(READABLE.map((name) => [name]))(
    '%s: broken files are read or refused, nothing else',
    async (format) => {
      const topology = fatTree({ k: 2, rate_bps: 1e11, delay_ns: 1000 });
      const samples: Partial<Record<FormatName, string>> = {
        gml: ZOO_GML,
        'sndlib-xml': SNDLIB_XML,
        sndlib: SNDLIB,
        svg: drawSvg(topology),
        ibnetdiscover:
          'switchguid=0x1(1)\nSwitch\t36 "S-1"\t# "leaf" base port 0 lid 1 lmc 0\n[1]\t"H-1"[1](2)\t# "n1" lid 4 4xEDR\n\nCa\t1 "H-1"\t# "n1"\n[1](2)\t"S-1"[1]\t# lid 4 lmc 0 "leaf" lid 1 4xEDR\n',
        matrix: 'name,A,B,C\nA,-,10Mbps/20ms/1%,5Mbps\nB,8Mbps/20ms/1%,-,2Gbps\nC,-,-,-\n',
      };
      const sample = samples[format] ?? (await formatTopology(topology, format));
      expect(formatOf(sample)).toBe(format);
      const texts = format === 'graphml' ? [sample, ZOO_GRAPHML] : [sample];
      await fc.assert(
        fc.asyncProperty(fc.oneof(broken(texts), fc.string({ maxLength: 60 })), async (text) => {
          try {
            const read = await parseTopology(text, 'file', format);
            expect(firstMistake(read)).toBeUndefined();
          } catch (error) {
            if (!(error instanceof RdmakitError)) throw error;
            expect(error.kind).toBe('usage');
            expect(error.message).toMatch(/^file(:[1-9]| is empty)/);
          }
        }),
        { numRuns: 150 },
      );
    },
  );
});
