/** `topo host`: what sits where in this host. */

import { defineCommand } from '../../cli/command.ts';
import { defineDocument } from '../../cli/documents.ts';
import { HostReport, inventory } from '../../topo/host/inventory.ts';
import { hostSvg, hostText } from '../../topo/host/picture.ts';
import { pictureOptions, writePicture } from './draw.ts';

const Host = defineDocument('topo-host', 1, HostReport);

export const hostSpec = defineCommand({
  name: 'host',
  summary: 'show NUMA nodes, PCIe, network cards and accelerators of this host',
  description: [
    'Reads sysfs: which network cards (with their interfaces and RDMA devices) and accelerators are on which NUMA node, ' +
      'behind which PCIe bridges, and whether a PCIe link runs below what its device can do.',
  ],
  options: pictureOptions,
  documents: true,
  examples: [
    { command: 'rdmakit topo host', does: 'draws the host as text' },
    { command: 'rdmakit topo host --svg > host.svg', does: 'draws it as SVG' },
  ],
  async run({ options }, io) {
    const report = inventory();
    io.result(Host, report);
    if (!io.human) return;
    if (!(await writePicture(() => hostSvg(report), options, io))) io.raw(hostText(report));
  },
});
