import { describe, expect, test } from 'bun:test';
import { type EmulationOptions, planEmulation } from '../../src/topo/emulate/plan.ts';
import { readMatrix } from '../../src/topo/formats/matrix.ts';
import { leafSpine } from '../../src/topo/generate/tiered.ts';

const options: EmulationOptions = {
  name: 'x',
  scale: 1,
  mtu_bytes: 1500,
  seed: 3,
  perSwitchSeeds: false,
  queue_ns: 50e6,
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
