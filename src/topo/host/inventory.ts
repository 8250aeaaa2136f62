/**
 * What sits where in a host: NUMA nodes, and the network cards and accelerators on their PCIe buses, read from sysfs. No
 * rights and no tools are needed; what a machine does not have is absent, not an error.
 */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { Place, placeAt } from './place.ts';
import { entries, read } from './sysfs.ts';

const Device = v.object({
  ...Place.entries,
  kind: v.picklist(['network', 'accelerator']),
  vendor: v.nullable(v.string()),
  device: v.nullable(v.string()),
  interfaces: v.array(v.object({ name: v.string(), state: v.string(), speed_bps: v.nullable(v.number()) })),
  rdma: v.array(v.string()),
});

export const HostReport = v.object({
  hostname: v.string(),
  numa_nodes: v.array(
    v.object({
      node: v.number(),
      cpus: v.string(),
      memory_bytes: v.number(),
      distances: v.array(v.number()),
    }),
  ),
  devices: v.array(Device),
});
export type HostReport = v.InferOutput<typeof HostReport>;
export type HostDevice = HostReport['devices'][number];

function numaNodes(sys: string): HostReport['numa_nodes'] {
  return entries(sys, 'devices/system/node')
    .filter((name) => /^node\d+$/.test(name))
    .map((name) => {
      const folder = join(sys, 'devices/system/node', name);
      const memory = /MemTotal:\s+(\d+) kB/.exec(read(folder, 'meminfo') ?? '');
      return {
        node: Number(name.slice(4)),
        cpus: read(folder, 'cpulist') ?? '',
        memory_bytes: Number(memory?.[1] ?? 0) * 1024,
        distances: (read(folder, 'distance') ?? '').split(/\s+/).filter(Boolean).map(Number),
      };
    })
    .sort((a, b) => a.node - b.node);
}

function interfacesOf(folder: string): HostDevice['interfaces'] {
  return entries(folder, 'net').map((name) => {
    const mbps = Number(read(folder, 'net', name, 'speed') ?? 0);
    return {
      name,
      state: read(folder, 'net', name, 'operstate') ?? 'unknown',
      speed_bps: mbps > 0 ? mbps * 1e6 : null,
    };
  });
}

function describe(folder: string, kind: HostDevice['kind']): HostDevice | undefined {
  const place = placeAt(folder);
  return (
    place && {
      ...place,
      kind,
      vendor: read(folder, 'vendor') ?? null,
      device: read(folder, 'device') ?? null,
      interfaces: interfacesOf(folder),
      rdma: entries(folder, 'infiniband'),
    }
  );
}

/** Kind of a PCI class code: 0x02 is network, 0x03 display, 0x12 processing accelerators. */
function kindOf(pciClass: string): HostDevice['kind'] | undefined {
  if (/^0x02/.test(pciClass)) return 'network';
  return /^0x(03|12)/.test(pciClass) ? 'accelerator' : undefined;
}

/** Takes stock. `sys` is where sysfs is. */
export function inventory(sys = '/sys'): HostReport {
  const devices: HostDevice[] = [];
  for (const name of entries(sys, 'bus/pci/devices')) {
    const folder = join(sys, 'bus/pci/devices', name);
    const kind = kindOf(read(folder, 'class') ?? '');
    const device = kind && describe(folder, kind);
    if (device) devices.push(device);
  }
  // Network cards on other buses (virtio behind PCI is found through its parent, virtio-mmio is not on PCI at all).
  const known = new Set(devices.flatMap(({ interfaces }) => interfaces.map(({ name }) => name)));
  for (const name of entries(sys, 'class/net')) {
    const folder = join(sys, 'class/net', name, 'device');
    if (known.has(name) || !existsSync(folder)) continue;
    const device = describe(folder, 'network');
    if (!device) continue;
    const parent = devices.find(({ address }) => address === device.path.at(-1));
    if (parent) parent.interfaces.push(...device.interfaces);
    else devices.push(device);
  }
  const hostname = read('/proc/sys/kernel/hostname') ?? 'host';
  return { hostname, numa_nodes: numaNodes(sys), devices };
}
