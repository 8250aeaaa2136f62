import { afterAll, describe, expect, test } from 'bun:test';
import * as v from 'valibot';
import { parseXml } from '../../src/topo/formats/xml.ts';
import { HostReport, inventory } from '../../src/topo/host/inventory.ts';
import { hostSvg, hostText } from '../../src/topo/host/picture.ts';
import { fakeSysfs } from './sysfs.ts';

const { sys, file, device, remove } = fakeSysfs();
afterAll(remove);

for (const node of [0, 1]) {
  file(`devices/system/node/node${node}/cpulist`, node === 0 ? '0-15' : '16-31');
  file(`devices/system/node/node${node}/meminfo`, `Node ${node} MemTotal:       67108864 kB`);
  file(`devices/system/node/node${node}/distance`, node === 0 ? '10 21' : '21 10');
}
device('pci0000:00/0000:00:01.0/0000:01:00.0', {
  class: '0x020000',
  vendor: '0x15b3',
  device: '0x1021',
  numa_node: '1',
  current_link_speed: '16.0 GT/s PCIe',
  current_link_width: '8',
  max_link_speed: '32.0 GT/s PCIe',
  max_link_width: '16',
  'net/ens1/operstate': 'up',
  'net/ens1/speed': '400000',
  'infiniband/mlx5_0/node_type': '1: CA',
});
device('pci0000:00/0000:02:00.0', { class: '0x030200', vendor: '0x10de', device: '0x2330', numa_node: '0' });
device('pci0000:00/0000:03:00.0', { class: '0x010802', vendor: '0x144d', device: '0xa80a' });

describe('a host with two NUMA nodes', () => {
  const report = inventory(sys);

  test('network cards and accelerators are found with their place; other devices are not listed', () => {
    expect(v.is(HostReport, report)).toBe(true);
    expect(report.numa_nodes.map(({ node, cpus, memory_bytes }) => [node, cpus, memory_bytes])).toEqual([
      [0, '0-15', 2 ** 36],
      [1, '16-31', 2 ** 36],
    ]);
    expect(report.devices.map(({ address, kind }) => `${kind} ${address}`)).toEqual([
      'network 0000:01:00.0',
      'accelerator 0000:02:00.0',
    ]);
    expect(report.devices[0]).toMatchObject({
      numa_node: 1,
      path: ['0000:00:01.0', '0000:01:00.0'],
      pcie_link: '16.0 GT/s PCIe x8',
      pcie_degraded: true,
      interfaces: [{ name: 'ens1', state: 'up', speed_bps: 400e9 }],
      rdma: ['mlx5_0'],
    });
  });

  test('text and SVG say the same', () => {
    const text = hostText(report);
    const svg = hostSvg(report);
    expect(parseXml(svg).name).toBe('svg');
    for (const words of [
      'NUMA node 1: CPUs 16-31, 64 GiB',
      'ens1 up 400Gbps',
      'RDMA: mlx5_0',
      'behind 0000:00:01.0',
    ]) {
      expect(text).toContain(words);
      expect(svg).toContain(words);
    }
    expect(text.indexOf('0000:02:00.0')).toBeLessThan(text.indexOf('NUMA node 1'));
    expect(svg).toContain('class="device network degraded"');
  });
});

test('a machine without sysfs is empty, not an error', () => {
  expect(inventory('/nonexistent')).toMatchObject({ numa_nodes: [], devices: [] });
});
