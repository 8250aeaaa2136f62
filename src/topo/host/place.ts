/** Where a device sits: PCIe and NUMA. For devices without hardware of their own, where the interface under them sits. */

import { basename, join } from 'node:path';
import * as v from 'valibot';
import { entries, linkName, read, real } from './sysfs.ts';

/** An address such as 0000:03:00.0. */
const PCI_ADDRESS = /^[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/;

export const Place = v.object({
  /** PCIe address, or the name of another bus's device. */
  address: v.string(),
  /** PCIe addresses from the root port down to the device itself; empty on other buses. */
  path: v.array(v.string()),
  driver: v.nullable(v.string()),
  /** null when the machine does not say, as most with one node do. */
  numa_node: v.nullable(v.number()),
  /** CPUs near the device, as the kernel lists them: `0-15,32-47`. */
  local_cpus: v.nullable(v.string()),
  /** `16.0 GT/s PCIe x16`, null for other buses. */
  pcie_link: v.nullable(v.string()),
  /** Whether the link runs below what the device can do. */
  pcie_degraded: v.boolean(),
});
export type Place = v.InferOutput<typeof Place>;

/** The place of the device at a folder of sysfs; undefined when there is none. A virtio device sits where its PCI function sits. */
export function placeAt(...path: string[]): Place | undefined {
  const folder = real(...path);
  if (folder === undefined) return undefined;
  const parts = folder.split('/');
  const last = parts.findLastIndex((part) => PCI_ADDRESS.test(part));
  const pci = last === -1 ? folder : parts.slice(0, last + 1).join('/');
  const numa = Number(read(folder, 'numa_node') ?? read(pci, 'numa_node') ?? -1);
  const [speed, width] = [read(pci, 'current_link_speed'), read(pci, 'current_link_width')];
  const [mostSpeed, mostWidth] = [read(pci, 'max_link_speed'), read(pci, 'max_link_width')];
  const known = speed !== undefined && width !== undefined && width !== '0' && !speed.startsWith('Unknown');
  return {
    address: basename(folder),
    path: parts.filter((part) => PCI_ADDRESS.test(part)),
    driver: linkName(folder, 'driver'),
    numa_node: numa >= 0 ? numa : null,
    local_cpus: read(pci, 'local_cpulist') || null,
    pcie_link: known ? `${speed} x${width}` : null,
    pcie_degraded:
      known &&
      mostSpeed !== undefined &&
      mostWidth !== undefined &&
      (Number.parseFloat(speed) < Number.parseFloat(mostSpeed) || Number(width) < Number(mostWidth)),
  };
}

/** A place and whose it is, or why there is none. */
export interface Found {
  place: Place | null;
  /** `of eth0`, `of eth0 under bond0`; or the reason: `lo is a virtual interface`. */
  why: string;
}

/** Place of a network interface. VLANs and bonds with one interface under them sit where that sits. */
export function placeOfInterface(name: string, sys = '/sys'): Found {
  let [current, depth] = [name, 0];
  for (; depth < 8; depth++) {
    const folder = join(sys, 'class/net', current);
    const place = placeAt(folder, 'device');
    if (place) return { place, why: current === name ? `of ${name}` : `of ${current} under ${name}` };
    const lower = entries(folder)
      .filter((entry) => entry.startsWith('lower_'))
      .map((entry) => entry.slice('lower_'.length));
    if (lower.length > 1)
      return { place: null, why: `${current} stands on several interfaces: ${lower.join(', ')}` };
    if (lower[0] === undefined) {
      const there = real(folder) !== undefined;
      return {
        place: null,
        why: there ? `${current} is a virtual interface` : `${current} is not visible here`,
      };
    }
    current = lower[0];
  }
  return { place: null, why: `${name} stands on itself` };
}

/** Place of an RDMA device of the kernel: its own, or for Soft-RoCE that of the interface it was made on. */
export function placeOfRdma(name: string, sys = '/sys'): Found | undefined {
  const folder = join(sys, 'class/infiniband', name);
  if (real(folder) === undefined) return undefined;
  const own = placeAt(folder, 'device');
  if (own) return { place: own, why: `of ${name}` };
  const parent = read(folder, 'parent');
  return parent ? placeOfInterface(parent, sys) : { place: null, why: `${name} has no device behind it` };
}
