import { afterAll, describe, expect, test } from 'bun:test';
import { whereIs } from '../../src/topo/devices.ts';
import { placeOfInterface, placeOfRdma } from '../../src/topo/host/place.ts';
import { unusable } from '../../src/topo/host/unusable.ts';
import { fakeSysfs } from './sysfs.ts';

const { sys, file, link, device, remove } = fakeSysfs();
afterAll(remove);

const CARD = 'pci0000:00/0000:00:01.0/0000:01:00.0';
device(CARD, {
  class: '0x020000',
  vendor: '0x15b3',
  numa_node: '1',
  local_cpulist: '16-31',
  current_link_speed: '16.0 GT/s PCIe',
  current_link_width: '8',
  max_link_speed: '16.0 GT/s PCIe',
  max_link_width: '8',
  'infiniband/mlx5_0/node_type': '1: CA',
});
link(`devices/${CARD}/driver`, 'bus/pci/drivers/mlx5_core');
link('class/infiniband/mlx5_0', `devices/${CARD}/infiniband/mlx5_0`);
link(`devices/${CARD}/infiniband/mlx5_0/device`, `devices/${CARD}`);
link('class/net/ens1', `devices/${CARD}/net/ens1`);
link(`devices/${CARD}/net/ens1/device`, `devices/${CARD}`);
// virtio sits below its PCI function and says nothing of NUMA itself.
const VIRTIO = 'pci0000:00/0000:00:03.0/virtio2';
file('devices/pci0000:00/0000:00:03.0/numa_node', '0');
link('class/net/eth0', `devices/${VIRTIO}/net/eth0`);
link(`devices/${VIRTIO}/net/eth0/device`, `devices/${VIRTIO}`);
for (const [name, lower] of [
  ['vlan7', ['ens1']],
  ['bond0', ['ens1', 'eth0']],
  ['lo', []],
] as const) {
  file(`devices/virtual/net/${name}/operstate`, 'up');
  link(`class/net/${name}`, `devices/virtual/net/${name}`);
  for (const each of lower) link(`devices/virtual/net/${name}/lower_${each}`, `class/net/${each}`);
}
file('devices/virtual/infiniband/rxe0/parent', 'vlan7');
link('class/infiniband/rxe0', 'devices/virtual/infiniband/rxe0');

describe('the place of a device', () => {
  test('a card of the kernel has its own', () => {
    expect(placeOfRdma('mlx5_0', sys)).toEqual({
      place: {
        address: '0000:01:00.0',
        path: ['0000:00:01.0', '0000:01:00.0'],
        driver: 'mlx5_core',
        numa_node: 1,
        local_cpus: '16-31',
        pcie_link: '16.0 GT/s PCIe x8',
        pcie_degraded: false,
      },
      why: 'of mlx5_0',
    });
  });

  test('Soft-RoCE and VLANs have that of the card under them', () => {
    expect(placeOfRdma('rxe0', sys)).toMatchObject({ place: { numa_node: 1 }, why: 'of ens1 under vlan7' });
    expect(placeOfInterface('eth0', sys)).toMatchObject({
      place: { address: 'virtio2', numa_node: 0, path: ['0000:00:03.0'] },
    });
  });

  test('what has none says why', () => {
    const why = (name: string): unknown => placeOfInterface(name, sys);
    expect(why('lo')).toEqual({ place: null, why: 'lo is a virtual interface' });
    expect(why('bond0')).toEqual({ place: null, why: 'bond0 stands on several interfaces: ens1, eth0' });
    expect(why('gone')).toEqual({ place: null, why: 'gone is not visible here' });
    expect(placeOfRdma('gone', sys)).toBeUndefined();
  });

  test('an embedded device has that of its interface', () => {
    const port = { gids: [{ interface: null }, { interface: 'ens1' }] } as never;
    expect(whereIs('rk_ens1', [port], sys)).toMatchObject({
      place: { numa_node: 1 },
      place_reason: 'of ens1',
    });
    expect(whereIs('rk_x', [], sys)).toEqual({ place: null, place_reason: 'its interface is not known' });
  });
});

describe('hardware that cannot be used is named', () => {
  test('a kernel device without its userspace driver', () => {
    const found = unusable(['mlx5_0'], sys);
    expect(found.map(({ name, what }) => [name, what])).toEqual([
      ['rxe0', 'the kernel has the RDMA device rxe0, but libibverbs does not list it'],
    ]);
    expect(found[0]?.remedy).toContain('apt-get install ibverbs-providers');
    expect(unusable(undefined, sys)).toEqual([]);
  });

  test('a card without its RDMA module, with a module that made nothing, and without any driver', () => {
    const bare = fakeSysfs();
    const card = (path: string, driver?: string): void => {
      bare.device(path, { class: '0x020000', vendor: '0x15b3', 'net/ens9/operstate': 'up' });
      if (driver !== undefined) bare.link(`devices/${path}/driver`, `bus/pci/drivers/${driver}`);
    };
    card('pci0000:00/0000:05:00.0', 'mlx5_core');
    card('pci0000:00/0000:06:00.0', 'bnxt_en');
    card('pci0000:00/0000:07:00.0');
    card('pci0000:00/0000:08:00.0', 'virtio-pci');
    bare.file('module/bnxt_re/refcnt', '0');
    const found = unusable([], bare.sys);
    bare.remove();
    expect(found.map(({ cause, remedy }) => `${cause} | ${remedy}`)).toEqual([
      'mlx5_core drives it, but the module mlx5_ib is not loaded | sudo modprobe mlx5_ib',
      'bnxt_re is loaded but made none: the card may not be able to, or has RDMA switched off | dmesg | grep -i bnxt_re; devlink dev param show pci/0000:06:00.0',
      'mlx5_core is not loaded or failed | sudo modprobe mlx5_core; dmesg | grep 0000:07:00.0',
    ]);
  });
});
