import { describe, expect, test } from 'bun:test';
import { type Netem, netemHere } from '../../src/topo/emulate/netem.ts';
import { type EmulationOptions, planEmulation } from '../../src/topo/emulate/plan.ts';
import { readMatrix } from '../../src/topo/formats/matrix.ts';
import { leafSpine } from '../../src/topo/generate/tiered.ts';
import type { Topology } from '../../src/topo/model/schema.ts';

const options: EmulationOptions = {
  name: 'x',
  scale: 1,
  mtu_bytes: 1500,
  seed: 3,
  perSwitchSeeds: false,
  queue_ns: 50e6,
  netem: 'none',
};

describe('the plan of an emulation', () => {
  test('a link without delay is one veth pair, and rates are shaped at both ends', () => {
    const plan = planEmulation(leafSpine({ leaves: 1, spines: 1, hosts: 1, parallel: 2, rate_bps: 1e9 }), {
      ...options,
      scale: 0.5,
    });
    expect(plan.relay).toBeUndefined();
    expect(plan.create).toContain(
      'link add p1 netns rk-x-h0 address 02:72:6b:00:00:00 mtu 1500 type veth peer p1 netns rk-x-l0 address 02:72:6b:00:00:01 mtu 1500',
    );
    expect(plan.create.match(/netns add/g)?.length).toBe(3);
    const leaf = plan.spaces.find(({ node }) => node === 'l0')?.script ?? '';
    expect(leaf.match(/tbf rate 500000000bit/g)?.length).toBe(3);
    expect(leaf).toContain('echo 1 > /proc/sys/net/ipv4/ip_forward');
    expect(leaf).toContain('echo 3 > /proc/sys/net/ipv4/fib_multipath_hash_seed');
    expect(leaf).toContain('echo 1 > /proc/sys/net/ipv4/conf/all/ignore_routes_with_linkdown');
    // Two parallel links to the spine are two next hops.
    expect(leaf).toMatch(
      /route add \S+ src 10\.0\.0\.2 nexthop via 100\.64\.0\.3 dev p2 nexthop via 100\.64\.0\.5 dev p3/,
    );
    expect(plan.spaces.find(({ node }) => node === 'h0')?.script).toContain(
      'echo 0 > /proc/sys/net/ipv4/ip_forward',
    );
  });

  test('delay and loss go through the relay, each direction with its own numbers and seed', () => {
    const plan = planEmulation(readMatrix('name,A,B\nA,-,10Mbps/20ms/1%\nB,5Mbps/20ms,-\n'), options);
    expect(plan.relay?.rules).toBe(
      'r0a r0b 10000000 0 10000 0 0 3000009\nr0b r0a 10000000 0 0 0 0 3000010\n',
    );
    expect(plan.create).toContain('netns add rk-x+relay');
    expect(plan.create).toContain('type veth peer r0a netns rk-x+relay');
  });

  describe('with netem', () => {
    const topology: Topology = {
      nodes: ['A', 'B'].map((id) => ({ id, kind: 'host' })),
      links: [
        { id: 'steady', a: 'A', b: 'B', capacity_bps: 1e8, delay_ns: 1_000_500, back: { delay_ns: 2e6 } },
        {
          id: 'chance',
          a: 'A',
          b: 'B',
          delay_ns: 5e6,
          jitter_ns: 1e6,
          loss_ratio: 0.001,
          duplicate_ratio: 0.02,
          reorder_ratio: 0.05,
          back: { loss_ratio: 0, jitter_ns: 0, duplicate_ratio: 0, reorder_ratio: 0 },
        },
      ],
    };
    const made = (netem: Netem) => {
      const { relay } = planEmulation(topology, { ...options, netem });
      return {
        tc: relay?.script.split('\n').filter((line) => /^(qdisc|filter)/.test(line)),
        rules: relay?.rules,
      };
    };
    const STEADY = [
      'qdisc add dev r0b root netem limit 1126 delay 1000.5us',
      'qdisc add dev r0a ingress',
      'filter add dev r0a parent ffff: matchall action mirred egress redirect dev r0b',
      'qdisc add dev r0a root netem limit 1250 delay 2000us',
      'qdisc add dev r0b ingress',
      'filter add dev r0b parent ffff: matchall action mirred egress redirect dev r0a',
    ];

    test('without a seed only links without chance are left to it, in both directions', () => {
      const { tc, rules } = made('steady');
      expect(tc).toEqual(STEADY);
      expect(rules).toBe(
        'r1a r1b 5000000 1000000 1000 20000 50000 3000011\nr1b r1a 5000000 0 0 0 0 3000012\n',
      );
    });

    test('with a seed all links are, and no relay is needed', () => {
      const { tc, rules } = made('seeded');
      expect(rules).toBe('');
      expect(tc?.slice(0, 6)).toEqual(STEADY);
      expect(tc?.[6]).toBe(
        'qdisc add dev r1b root netem limit 200000 delay 5000us 1000us rate 1000gbit loss random 0.1% duplicate 2% reorder 5% seed 3000011',
      );
      expect(tc?.[9]).toBe('qdisc add dev r1a root netem limit 200000 delay 5000us');
    });

    test('the trial leaves nothing behind and says one of three', () => {
      expect(['none', 'steady', 'seeded']).toContain(netemHere());
    });
  });

  test('links faster than one machine are not shaped', () => {
    const plan = planEmulation(
      leafSpine({ leaves: 1, spines: 1, hosts: 1, parallel: 1, rate_bps: 100e9 }),
      options,
    );
    for (const { script } of plan.spaces) expect(script).not.toContain('tbf');
  });

  test('ids of any kind become names of namespaces, each its own', () => {
    const plan = planEmulation(readMatrix('name,A b,A_b,A/b\nA b,-,1Mbps,1Mbps\n'), options);
    expect(plan.spaces.map(({ name }) => name)).toEqual(['rk-x-A_b_2', 'rk-x-A_b', 'rk-x-A_b_3']);
  });
});
