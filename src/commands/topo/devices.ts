/** `topo devices`: what RDMA hardware, links and addresses there are. */

import { defineCommand } from '../../cli/command.ts';
import { defineDocument } from '../../cli/documents.ts';
import type { Io } from '../../cli/io.ts';
import { choice, text } from '../../cli/options.ts';
import { formatRate } from '../../cli/units.ts';
import { ExitCode } from '../../errors.ts';
import { DevicesReport, type PortReport, takeStock } from '../../topo/devices.ts';
import { diagnose } from '../../verbs/index.ts';

const Devices = defineDocument('topo-devices', 1, DevicesReport);

const HEAD = ['device', 'port', 'state', 'mtu', 'speed', 'gid', 'address', 'type', 'interface'];

/** `eth0: PCIe 0000:03:00.0 (behind 0000:00:01.0), 16.0 GT/s PCIe x8, NUMA node 1, CPUs 16-31, driver mlx5_core` */
function placeText({ place, place_reason }: DevicesReport['devices'][number]): string {
  if (place === null) return `no place in the machine, ${place_reason}`;
  const { address, path, pcie_link, pcie_degraded, numa_node, local_cpus, driver } = place;
  const above = path.filter((part) => part !== address);
  return [
    `${path.length > 0 ? 'PCIe ' : ''}${address}${above.length > 0 ? ` (behind ${above.join(' > ')})` : ''}`,
    pcie_link === null ? '' : `${pcie_link}${pcie_degraded ? ' (below what the device can do)' : ''}`,
    numa_node === null ? 'NUMA node not said' : `NUMA node ${numa_node}`,
    local_cpus === null ? '' : `CPUs ${local_cpus}`,
    driver === null ? 'no driver' : `driver ${driver}`,
    place_reason,
  ]
    .filter(Boolean)
    .join(', ');
}

/** One row a GID; device and port only in the first row of theirs. `*` marks the GID to use. */
function portRows(name: string, port: PortReport): string[][] {
  const speed = port.link_speed_bps === 0 ? '-' : formatRate(port.link_speed_bps);
  const lead = [name, `${port.port}`, port.state, `${port.active_mtu_bytes}`, speed];
  if (port.gids.length === 0) return [[...lead, '-', '-', '-', '-']];
  return port.gids.map((gid, i) => {
    const mark = gid.index === port.use_gid?.index ? '*' : '';
    const row = [`${gid.index}${mark}`, gid.address, gid.type, gid.interface ?? '-'];
    return [...(i === 0 ? lead : ['', '', '', '', '']), ...row];
  });
}

function printDevices(report: DevicesReport, io: Io): void {
  const rows = report.devices.flatMap((device) =>
    device.ports.flatMap((port) => portRows(device.name, port)),
  );
  if (rows.length > 0) {
    io.table({ head: HEAD, rows, align: ['left', 'right', 'left', 'right', 'right', 'left'] });
    io.line('');
  }
  for (const device of report.devices) {
    const { name, ports } = device;
    io.line(`${name}: ${placeText(device)}`);
    for (const { port, use_gid } of ports) {
      if (use_gid !== null) io.line(`${name} port ${port}: use GID ${use_gid.index}, ${use_gid.reason}`);
    }
  }
  const chosen =
    report.default_device === null ? '' : `, tools use ${report.default_device} unless told otherwise`;
  io.line(`provider ${report.provider} (${report.provider_reason})${chosen}`);
}

export const devicesSpec = defineCommand({
  name: 'devices',
  summary: 'list RDMA devices, their ports and GIDs, and which GID to use',
  description: [
    'Lists the devices of the verbs library: ports with state, path MTU and nominal speed, and the GID table with the ' +
      'address, type and network interface behind each GID.',
    'The GID marked with * is the one a tool should send from; the lines below the table say why. With --peer the ' +
      'choice is made for that far end.',
    'Each device is shown with its place: PCIe address and link, NUMA node and the CPUs near it. An embedded device, or ' +
      'Soft-RoCE, has the place of its interface; a virtual interface has none.',
    'Cards that could do RDMA but have no driver, module or userspace library for it are named with what to do.',
    'On a machine without RDMA hardware the embedded device answers: one device for each network interface.',
  ],
  options: {
    provider: choice(['auto', 'system', 'soft'], { doc: 'which verbs library answers', default: 'auto' }),
    device: text({ short: 'd', value: 'NAME', doc: 'show only this device' }),
    peer: text({ value: 'ADDRESS', doc: 'choose the GIDs for this far end (IPv4 or IPv6 address)' }),
  },
  documents: true,
  examples: [
    { command: 'rdmakit topo devices', does: 'shows all devices' },
    { command: 'rdmakit topo devices --peer 192.0.2.7', does: 'says which GID reaches that host' },
    {
      command: "rdmakit topo devices --json | jq -r '.devices[].name'",
      does: 'lists the device names for a script',
    },
  ],
  exits: [{ code: ExitCode.environment, when: 'there is no RDMA device, or none that this user may open' }],
  async run({ options }, io) {
    const { provider, device, peer } = options;
    const report = takeStock({
      provider,
      ...(device === undefined ? {} : { device }),
      ...(peer === undefined ? {} : { peer }),
    });
    io.result(Devices, report);
    printDevices(report, io);
    for (const { what, cause, remedy } of report.unusable) io.warn(`${what}; ${cause}; try: ${remedy}`);
    for (const { problem } of report.devices) {
      if (problem !== null) io.warn(`${problem.what}; ${problem.cause ?? ''}; try: ${problem.remedy ?? ''}`);
    }
    if (report.devices.some(({ problem }) => problem === null)) return ExitCode.done;
    if (report.devices.length === 0) {
      const { cause, evidence, remedy } = diagnose({ call: 'list', code: 'no-device' });
      io.warn(`no RDMA device: ${cause} (${evidence.join('; ')}); try: ${remedy}`);
    }
    return ExitCode.environment;
  },
});
