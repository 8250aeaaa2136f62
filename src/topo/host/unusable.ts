/**
 * RDMA hardware that tools do not see: a card without its RDMA module, a kernel device without its userspace driver, a card
 * that no driver took. Each with what to do.
 */

import { join } from 'node:path';
import { entries, linkName, read, real } from './sysfs.ts';

export interface Unusable {
  /** Name of the kernel's RDMA device, or PCIe address. */
  name: string;
  what: string;
  cause: string;
  remedy: string;
}

/** Drivers of network cards, and the module that makes RDMA devices of them. */
const RDMA_MODULE: Record<string, string> = {
  mlx5_core: 'mlx5_ib',
  mlx4_core: 'mlx4_ib',
  ice: 'irdma',
  i40e: 'irdma',
  bnxt_en: 'bnxt_re',
  qede: 'qedr',
  cxgb4: 'iw_cxgb4',
  hns3: 'hns_roce_hw_v2',
  be2net: 'ocrdma',
  mana: 'mana_ib',
};

/** Makers of cards that are of little use without RDMA: PCI vendor, and what drives them. */
const VENDOR_DRIVER: Record<string, string> = { '0x15b3': 'mlx5_core' };

/** Where a card without RDMA module is worth a word: one whose maker also sells it without RDMA is not. */
const ALWAYS_RDMA = new Set(['mlx5_core', 'mlx4_core', 'bnxt_en', 'ice', 'qede', 'cxgb4', 'hns3', 'mana']);

/** `listed`: what libibverbs lists; undefined when the kernel's devices were not asked for through it. */
export function unusable(listed: readonly string[] | undefined, sys = '/sys'): Unusable[] {
  const found: Unusable[] = [];
  const kernel = entries(sys, 'class/infiniband');
  for (const name of kernel) {
    if (listed === undefined || listed.includes(name)) continue;
    const driver = linkName(sys, 'class/infiniband', name, 'device/driver');
    found.push({
      name,
      what: `the kernel has the RDMA device ${name}, but libibverbs does not list it`,
      cause: `its userspace driver${driver === null ? '' : ` for ${driver}`} is missing or does not load`,
      remedy:
        'apt-get install ibverbs-providers (rdma-core elsewhere); IBV_SHOW_WARNINGS=1 ibv_devices says what failed',
    });
  }
  for (const address of entries(sys, 'bus/pci/devices')) {
    const folder = join(sys, 'bus/pci/devices', address);
    if (!/^0x02/.test(read(folder, 'class') ?? '') || entries(folder, 'infiniband').length > 0) continue;
    const driver = linkName(folder, 'driver');
    const module = RDMA_MODULE[driver ?? ''];
    const wanted = VENDOR_DRIVER[read(folder, 'vendor') ?? ''];
    const names = entries(folder, 'net').join(', ');
    const card = `${address}${names === '' ? '' : ` (${names})`}`;
    if (driver !== null && module !== undefined && ALWAYS_RDMA.has(driver)) {
      const loaded = real(sys, 'module', module) !== undefined;
      found.push({
        name: address,
        what: `the network card ${card} has no RDMA device`,
        cause: loaded
          ? `${module} is loaded but made none: the card may not be able to, or has RDMA switched off`
          : `${driver} drives it, but the module ${module} is not loaded`,
        remedy: loaded
          ? `dmesg | grep -i ${module}; devlink dev param show pci/${address}`
          : `sudo modprobe ${module}`,
      });
    } else if (driver === null && wanted !== undefined) {
      found.push({
        name: address,
        what: `no driver took the network card ${card}`,
        cause: `${wanted} is not loaded or failed`,
        remedy: `sudo modprobe ${wanted}; dmesg | grep ${address}`,
      });
    }
  }
  return found;
}
