/**
 * What sits where in a host: NUMA nodes, and the network cards and accelerators on their PCIe buses, read from sysfs. No
 * rights and no tools are needed; what a machine does not have is absent, not an error.
 */

import { existsSync, readdirSync, readFileSync, readlinkSync, realpathSync } from 'node:fs';
import { basename, join } from 'node:path';
import * as v from 'valibot';

const Device = v.object({
  /** PCIe address, or the name of another bus's device. */
  address: v.string(),
  kind: v.picklist(['network', 'accelerator']),
  vendor: v.nullable(v.string()),
  device: v.nullable(v.string()),
  driver: v.nullable(v.string()),
  /** null when the machine has one node only, or does not say. */
  numa_node: v.nullable(v.number()),
  /** PCIe addresses from the root port down to the device itself. */
  path: v.array(v.string()),
  /** `16.0 GT/s PCIe x16`, null for other buses. */
  pcie_link: v.nullable(v.string()),
  /** Whether the link runs below what the device can do. */
  pcie_degraded: v.boolean(),
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

function read(...path: string[]): string | undefined {
  try {
    return readFileSync(join(...path), 'utf8').trim();
  } catch {
    return undefined;
  }
}

function entries(...path: string[]): string[] {
  try {
    return readdirSync(join(...path)).sort();
  } catch {
    return [];
  }
}

function linkName(...path: string[]): string | null {
  try {
    return basename(readlinkSync(join(...path)));
  } catch {
    return null;
  }
}

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

function describe(folder: string, kind: HostDevice['kind']): HostDevice {
  const real = realpathSync(folder);
  const path = real.split('/').filter((part) => /^[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/.test(part));
  const numa = Number(read(real, 'numa_node') ?? -1);
  const [speed, width] = [read(real, 'current_link_speed'), read(real, 'current_link_width')];
  const [mostSpeed, mostWidth] = [read(real, 'max_link_speed'), read(real, 'max_link_width')];
  const known = speed !== undefined && width !== undefined && width !== '0' && !speed.startsWith('Unknown');
  return {
    address: basename(real),
    kind,
    vendor: read(real, 'vendor') ?? null,
    device: read(real, 'device') ?? null,
    driver: linkName(real, 'driver'),
    numa_node: numa >= 0 ? numa : null,
    path,
    pcie_link: known ? `${speed} x${width}` : null,
    pcie_degraded:
      known &&
      mostSpeed !== undefined &&
      mostWidth !== undefined &&
      (Number.parseFloat(speed) < Number.parseFloat(mostSpeed) || Number(width) < Number(mostWidth)),
    interfaces: interfacesOf(real),
    rdma: entries(real, 'infiniband'),
  };
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
    if (kind) devices.push(describe(folder, kind));
  }
  // Network cards on other buses (virtio behind PCI is found through its parent, virtio-mmio is not on PCI at all).
  const known = new Set(devices.flatMap(({ interfaces }) => interfaces.map(({ name }) => name)));
  for (const name of entries(sys, 'class/net')) {
    const folder = join(sys, 'class/net', name, 'device');
    if (known.has(name) || !existsSync(folder)) continue;
    const device = describe(folder, 'network');
    const parent = devices.find(({ address }) => address === device.path.at(-1));
    if (parent) parent.interfaces.push(...device.interfaces);
    else devices.push(device);
  }
  const hostname = read('/proc/sys/kernel/hostname') ?? 'host';
  return { hostname, numa_nodes: numaNodes(sys), devices };
}
