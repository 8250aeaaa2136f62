import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { diff } from '../../src/topo/diff.ts';
import { ask } from '../../src/topo/discover/ask.ts';
import { type Facts, readFacts } from '../../src/topo/discover/facts.ts';
import { mergeFacts, mergeTopologies } from '../../src/topo/discover/merge.ts';
import { parseTopology } from '../../src/topo/formats/index.ts';
import { fatTree, leafSpine } from '../../src/topo/generate/tiered.ts';
import { firstMistake } from '../../src/topo/model/check.ts';
import type { Link } from '../../src/topo/model/schema.ts';
import { topologies } from './arbitrary.ts';
import { factsOf } from './facts.ts';

describe('diff', () => {
  const base = fatTree({ k: 4, rate_bps: 1e11 });

  test('every single-link change is found, and only it', () => {
    for (const [at, link] of base.links.entries()) {
      const without = { ...base, links: base.links.filter((each) => each !== link) };
      expect(diff(base, without).changes).toEqual([
        { what: 'link', id: link.id, change: 'removed', between: `${link.a} - ${link.b}`, fields: [] },
      ]);
      const slower = {
        ...base,
        links: base.links.map((each, i) => (i === at ? { ...each, capacity_bps: 1 } : each)),
      };
      expect(diff(base, slower).changes).toEqual([
        {
          what: 'link',
          id: link.id,
          change: 'changed',
          between: `${link.a} - ${link.b}`,
          fields: [{ name: 'capacity_bps', before: '100000000000', after: '1' }],
        },
      ]);
      const moved = {
        ...base,
        links: base.links.map(
          (each, i): Link => (i === at ? { ...each, b: each.b === 'c0' ? 'c1' : 'c0' } : each),
        ),
      };
      expect(diff(base, moved).same).toBe(false);
    }
  });

  test('order, ids and the end from which a cable is written do not matter', () => {
    fc.assert(
      fc.property(topologies({ full: true }), (topology) => {
        expect(diff(topology, topology).same).toBe(true);
        const turned = topology.links.map(({ a, b, a_port, b_port, back, ...rest }, at): Link => {
          const forth = Object.fromEntries(
            Object.keys(back ?? {}).map((key) => [key, rest[key as 'delay_ns']]),
          );
          return {
            ...rest,
            ...back,
            id: `other${at}`,
            a: b,
            b: a,
            a_port: b_port,
            b_port: a_port,
            ...(back ? { back: forth } : {}),
          } as Link;
        });
        expect(diff(topology, { ...topology, links: turned.toReversed() }).changes).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });

  test('nodes that came, went and changed', () => {
    const before = {
      nodes: [
        { id: 'a', kind: 'host' as const },
        { id: 'b', kind: 'host' as const },
      ],
      links: [],
    };
    const after = {
      nodes: [
        { id: 'a', kind: 'switch' as const },
        { id: 'c', kind: 'host' as const },
      ],
      links: [],
    };
    expect(diff(before, after).changes.map(({ id, change }) => `${id} ${change}`)).toEqual([
      'a changed',
      'c added',
      'b removed',
    ]);
  });
});

const FABRIC = `#
# Topology file: generated on Sat Nov 21 03:00:00 2026
#
vendid=0x2c9
devid=0xbd36
sysimgguid=0x2c902400a2b8b
switchguid=0x2c902400a2b88(2c902400a2b88)
Switch	36 "S-0002c902400a2b88"		# "leaf1" enhanced port 0 lid 1 lmc 0
[1]	"H-0002c9030009fb1e"[1](2c9030009fb1f) 		# "node1 HCA-1" lid 4 4xEDR
[2]	"H-0002c9030009aaaa"[1](2c9030009aaab) 		# "MT4115" lid 5 4xEDR
[17][ext 3]	"S-0002c902400b0000"[5]		# "spine1" lid 2 4xHDR

switchguid=0x2c902400b0000(2c902400b0000)
Switch	36 "S-0002c902400b0000"		# "spine1" base port 0 lid 2 lmc 0
[5]	"S-0002c902400a2b88"[17][ext 3]		# "leaf1" lid 1 4xHDR

caguid=0x2c9030009fb1e
Ca	1 "H-0002c9030009fb1e"		# "node1 HCA-1"
[1](2c9030009fb1f) 	"S-0002c902400a2b88"[1]		# lid 4 lmc 0 "leaf1" lid 1 4xEDR

caguid=0x2c9030009aaaa
Ca	1 "H-0002c9030009aaaa"		# "MT4115"
[1](2c9030009aaab) 	"S-0002c902400a2b88"[2]		# lid 5 lmc 0 "leaf1" lid 1 4xEDR
`;

describe('ibnetdiscover', () => {
  test('a cable printed at both ends is one link, with ports and data rate', async () => {
    const { nodes, links } = await parseTopology(FABRIC, 'fabric.txt');
    expect(nodes.map(({ id, kind }) => `${id} ${kind}`)).toEqual([
      'leaf1 switch',
      'spine1 switch',
      'node1 HCA-1 host',
      'MT4115 host',
    ]);
    expect(
      links.map(({ a, a_port, b, b_port, capacity_bps }) => [a, a_port, b, b_port, capacity_bps]),
    ).toEqual([
      ['leaf1', '1', 'node1 HCA-1', '1', 100e9],
      ['leaf1', '2', 'MT4115', '1', 100e9],
      ['leaf1', '17', 'spine1', '5', 200e9],
    ] as never);
  });

  test('broken lines are named', async () => {
    await expect(parseTopology(`${FABRIC}[x] nonsense\n`, 'f')).rejects.toThrow(
      `f:${FABRIC.split('\n').length}: '[x] nonsense'`,
    );
    await expect(parseTopology('Switch 1 "S-1" # "a"\n[1] "S-2"[1] # "b"\n', 'f')).rejects.toThrow(
      "f:2: the port leads to 'S-2'",
    );
  });
});

function answer(hostname: string, address: string, lldp = ''): string {
  const addresses = [
    {
      ifname: 'lo',
      link_type: 'loopback',
      addr_info: [{ family: 'inet', local: '127.0.0.1', prefixlen: 8 }],
    },
    { ifname: 'eth0', link_type: 'ether', addr_info: [{ family: 'inet', local: address, prefixlen: 24 }] },
  ];
  const neighbours = [
    { dst: '10.1.0.254', dev: 'eth0', lladdr: '02:00:00:00:00:01', state: ['REACHABLE'] },
    { dst: '10.1.0.77', dev: 'eth0', state: ['FAILED'] },
  ];
  const parts: [string, string][] = [
    ['hostname', hostname],
    ['addresses', JSON.stringify(addresses)],
    ['neighbours', JSON.stringify(neighbours)],
    ['routes', '[]'],
    ['speeds', 'eth0 25000\nlo -1'],
    ['rdma', 'eth0 mlx5_0'],
    ['lldp', lldp],
    ['end', ''],
  ];
  return parts.map(([name, text]) => `=== rdmakit ${name}\n${text}\n`).join('');
}

describe('discover', () => {
  test('hosts of a subnet meet; a neighbour that failed is not one', () => {
    const made = mergeFacts([readFacts(answer('n1', '10.1.0.1')), readFacts(answer('n2', '10.1.0.2'))]);
    expect(firstMistake(made)).toBeUndefined();
    expect(made.nodes.map(({ id }) => id).sort()).toEqual(['10.1.0.0/24', '10.1.0.254', 'n1', 'n2']);
    expect(made.links.map(({ a, a_port, b, capacity_bps }) => [a, a_port, b, capacity_bps])).toEqual([
      ['n1', 'eth0', '10.1.0.0/24', 25e9],
      ['n2', 'eth0', '10.1.0.0/24', 25e9],
      ['10.1.0.254', undefined, '10.1.0.0/24', undefined],
    ] as never);
    expect(made.nodes[0]?.label).toBe('mlx5_0 on eth0');
  });

  test('LLDP names the switch and its port', () => {
    const lldp = JSON.stringify({
      lldp: [
        {
          interface: [
            {
              name: 'eth0',
              chassis: [{ name: [{ value: 'leaf7' }] }],
              port: [{ id: [{ type: 'ifname', value: 'Ethernet12' }] }],
            },
          ],
        },
      ],
    });
    const made = mergeFacts([readFacts(answer('n1', '10.1.0.1', lldp))]);
    expect(made.links).toMatchObject([{ a: 'n1', a_port: 'eth0', b: 'leaf7', b_port: 'Ethernet12' }]);
  });

  test('a neighbour is recognised by its MAC address, whatever it calls itself and its port', () => {
    const b = factsOf('b', { eth0: '10.1.0.2/24' });
    const mac = b.interfaces[0]?.address ?? '';
    const neighbour = {
      device: 'eth0',
      name: 'b.example.net',
      port: 'uplink',
      port_mac: mac,
      aliases: [mac],
    };
    const a = factsOf('a', { eth0: '10.1.0.1/24' }, { lldp: [neighbour] });
    expect(mergeFacts([a, b]).links).toMatchObject([{ a: 'a', a_port: 'eth0', b: 'b', b_port: 'eth0' }]);
    expect(mergeFacts([a]).links).toMatchObject([{ b: 'b.example.net', b_port: 'uplink' }]);
  });

  test('a next hop behind the switch of LLDP is joined to it, marked as inferred', () => {
    const lldp = [{ device: 'eth0', name: 'leaf7', port: 'e1', aliases: [] }];
    const routes = [{ dst: 'default', gateway: '10.1.0.254', dev: 'eth0' }];
    const made = mergeFacts([factsOf('a', { eth0: '10.1.0.1/24' }, { lldp, routes })]);
    expect(made.links).toMatchObject([
      { a: 'a', b: 'leaf7' },
      { a: 'leaf7', b: '10.1.0.254', inferred_from: 'routes' },
    ]);
    // Who answers ARP with the MAC address of the switch is the switch.
    const known = [{ ...lldp[0], aliases: ['02:aa:00:00:00:01'] }] as Facts['lldp'];
    const neighbours = [{ dst: '10.1.0.254', dev: 'eth0', lladdr: '02:aa:00:00:00:01' }];
    const merged = mergeFacts([factsOf('a', { eth0: '10.1.0.1/24' }, { lldp: known, routes, neighbours })]);
    expect(merged.nodes.map(({ id, label }) => [id, label])).toEqual([
      ['a', undefined],
      ['leaf7', 'router'],
    ]);
  });

  const nodes = (facts: Facts[]) =>
    mergeFacts(facts).nodes.map(({ id, kind, label }) =>
      [id, kind, ...(label === undefined ? [] : [label])].join(' '),
    );
  const links = (facts: Facts[]) =>
    mergeFacts(facts).links.map(({ a, b, label }) =>
      [a, b, ...(label === undefined ? [] : [label])].join(' | '),
    );

  test('next hops are routers; routers on both sides of a routed way are joined', () => {
    const route = (gateway: string): Partial<Facts> => ({
      routes: [
        { dst: '10.3.0.0/24', gateway: '10.1.0.9', dev: 'eth7' },
        { dst: 'default', gateway, dev: 'eth0' },
      ],
    });
    const a = factsOf('a', { eth0: '10.1.0.1/24' }, route('10.1.0.254'));
    const b = factsOf('b', { eth0: '10.2.0.1/24' }, route('10.2.0.254'));
    expect(nodes([a, b])).toEqual([
      'a host',
      'b host',
      '10.1.0.9 switch router',
      '10.1.0.254 switch router',
      '10.2.0.254 switch router',
      '10.1.0.0/24 switch subnet',
      '10.2.0.0/24 switch subnet',
    ]);
    expect(links([a, b])).toContain('10.1.0.254 | 10.2.0.254 | routed');
    // Only this link is a guess, and it says so.
    expect(mergeFacts([a, b]).links.flatMap(({ label, inferred_from }) => inferred_from && [label])).toEqual([
      'routed',
    ] as never);
    expect(firstMistake(mergeFacts([a, b]))).toBeUndefined();
  });

  test('a host that is the next hop of others is a router; the destination itself is not', () => {
    const via = (dst: string, gateway: string): Facts['routes'][number] => ({ dst, gateway, dev: 'p1' });
    const a = factsOf(
      'a',
      { p1: '10.0.0.0/31' },
      { routes: [via('10.9.0.2', '10.0.0.1'), via('10.9.0.3', '10.0.0.1')] },
    );
    const b = factsOf('b', { p1: '10.0.0.1/31', p2: '10.0.0.2/31', lo1: '10.9.0.2/32' });
    const c = factsOf('c', { p1: '10.0.0.3/31' }, { routes: [via('10.9.0.2', '10.0.0.2')] });
    expect(nodes([a, b, c])).toEqual(['a host', 'b switch router', 'c host']);
    // Two hosts of a /31 are joined by a cable; it has a port at each end.
    expect(mergeFacts([a, b, c]).links).toMatchObject([
      { a: 'a', a_port: 'p1', b: 'b', b_port: 'p1' },
      { a: 'b', a_port: 'p2', b: 'c', b_port: 'p1' },
    ]);
    expect(nodes([a, b]).includes('b switch router')).toBe(true);
    expect(nodes([c, b])).toEqual(['c host', 'b host', '10.0.0.0/31 switch subnet']);
  });

  test('a machine seen by ARP and ND is one; IPv6 subnets count where there is no other', () => {
    const neighbours = [
      { dst: 'fe80::77', dev: 'eth0', lladdr: '02:aa:00:00:00:77', state: ['STALE'] },
      { dst: '10.1.0.77', dev: 'eth0', lladdr: '02:aa:00:00:00:77', state: ['REACHABLE'] },
      { dst: 'fe80::99', dev: 'eth0', lladdr: '02:aa:00:00:00:99', state: ['REACHABLE'] },
      { dst: 'fe80::b', dev: 'eth0', lladdr: '02:00:00:00:62:00', state: ['REACHABLE'] },
      { dst: 'ff02::1', dev: 'eth0', lladdr: '33:33:00:00:00:01', state: ['NOARP'] },
    ];
    const a = factsOf('a', { eth0: '10.1.0.1/24' }, { neighbours });
    const b = factsOf('b', { eth0: '10.1.0.2/24' });
    expect(nodes([a, b])).toEqual([
      'a host',
      'b host',
      '10.1.0.77 host',
      'fe80::99 host',
      '10.1.0.0/24 switch subnet',
    ]);
    const six = ['c', 'd'].map((name, at) => factsOf(name, { eth0: `2001:db8:0:7::${at + 1}/64` }));
    expect(links(six)).toEqual(['c | 2001:db8:0:7::/64', 'd | 2001:db8:0:7::/64']);
  });

  test('an interface without a carrier leads nowhere', () => {
    const a = factsOf('a', { eth0: '10.1.0.1/24', eth1: '10.2.0.1/24' });
    for (const each of a.interfaces) if (each.ifname === 'eth1') each.operstate = 'DOWN';
    expect(links([a])).toEqual(['a | 10.1.0.0/24']);
  });

  test('any answers give a valid graph', () => {
    const word = fc.constantFrom(
      '10.0.0.1',
      '10.0.0.2',
      '10.0.0.0/8',
      'default',
      'fe80::1',
      'x',
      '',
      '10.0.0.1/99',
      '999.1.1.1',
    );
    const device = fc.constantFrom('eth0', 'eth1', '');
    const some = <T>(each: fc.Arbitrary<T>) => fc.array(each, { maxLength: 4 });
    const host = fc
      .record({
        interfaces: some(
          fc.record({
            ifname: device,
            address: fc.constantFrom('02:00:00:00:00:01', '02:00:00:00:00:02'),
            addr_info: some(
              fc.record({
                family: fc.constantFrom('inet', 'inet6', ''),
                local: word,
                prefixlen: fc.integer({ min: -1, max: 129 }),
              }),
            ),
          }),
        ),
        neighbours: some(
          fc.record({ dst: word, dev: device, lladdr: fc.constantFrom('02:00:00:00:00:01', '') }),
        ),
        routes: some(fc.record({ dst: word, dev: device, gateway: word })),
        name: fc.constantFrom('h', 'x'.repeat(130), '\u0007\u200b', ' b ', '10.0.0.1', '10.0.0.0/8'),
      })
      .map(({ name, interfaces, neighbours, routes }) =>
        [
          `hostname\n${name}`,
          `rdma\neth0 ${name}`,
          `lldp\n${JSON.stringify({ lldp: { interface: [{ name: 'eth1', chassis: { name: { value: name } }, port: { id: { value: name } } }] } })}`,
          `addresses\n${JSON.stringify(interfaces)}`,
          `neighbours\n${JSON.stringify(neighbours)}`,
          `routes\n${JSON.stringify(routes)}`,
          'end\n',
        ]
          .map((part) => `=== rdmakit ${part}\n`)
          .join(''),
      );
    fc.assert(
      fc.property(fc.array(host, { minLength: 1, maxLength: 3 }), (answers) => {
        expect(firstMistake(mergeFacts(answers.map(readFacts)))).toBeUndefined();
      }),
      { numRuns: 300 },
    );
  });

  test('this host answers', async () => {
    const made = mergeFacts([await ask(undefined)]);
    expect(firstMistake(made)).toBeUndefined();
    expect(made.nodes[0]?.kind).toBe('host');
  });

  test('an answer that was cut is refused', () => {
    expect(() => readFacts('=== rdmakit hostname\nx\n')).toThrow('not answered to their end');
  });

  test('merging twice adds nothing', () => {
    const one = leafSpine({ leaves: 2, spines: 2, hosts: 1, parallel: 2, rate_bps: 1e9 });
    expect(diff(one, mergeTopologies(one, one)).same).toBe(true);
  });
});
