/** The inventory of a host as text and as SVG: a block a NUMA node, its PCIe devices inside, each under its bus. */

import { escapeXml } from '../formats/xml-escape.ts';
import { shortRate } from '../quantity.ts';
import type { HostDevice, HostReport } from './inventory.ts';

interface Block {
  title: string;
  devices: HostDevice[];
}

function gigabytes(bytes: number): string {
  return `${Number((bytes / 2 ** 30).toPrecision(3))} GiB`;
}

/** Devices by NUMA node; a machine with one node has all of them there. */
function blocks({ numa_nodes, devices }: HostReport): Block[] {
  const only = numa_nodes.length === 1 ? numa_nodes[0]?.node : undefined;
  const of = (device: HostDevice): number | undefined => device.numa_node ?? only;
  const list: Block[] = numa_nodes.map(({ node, cpus, memory_bytes }) => ({
    title: `NUMA node ${node}: CPUs ${cpus || 'none'}, ${gigabytes(memory_bytes)}`,
    devices: devices.filter((device) => of(device) === node),
  }));
  const known = new Set(numa_nodes.map(({ node }) => node));
  const rest = devices.filter((device) => !known.has(of(device) ?? -1));
  if (rest.length > 0) list.push({ title: 'node not known', devices: rest });
  return list;
}

function lines(device: HostDevice): string[] {
  const id = [device.vendor, device.device]
    .filter(Boolean)
    .map((text) => text?.replace('0x', ''))
    .join(':');
  const head = [device.kind === 'network' ? 'NIC' : 'GPU', device.address, id, device.driver ?? 'no driver']
    .filter(Boolean)
    .join('  ');
  const link =
    device.pcie_link === null
      ? []
      : [`${device.pcie_link}${device.pcie_degraded ? ' (below what the device can do)' : ''}`];
  const ports = device.interfaces.map(
    ({ name, state, speed_bps }) => `${name} ${state}${speed_bps === null ? '' : ` ${shortRate(speed_bps)}`}`,
  );
  return [head, ...link, ...ports, ...(device.rdma.length > 0 ? [`RDMA: ${device.rdma.join(', ')}`] : [])];
}

/** Above the device itself: its bridges, from the root. */
function bus(device: HostDevice): string {
  const above = device.path.slice(0, -1);
  return above.length === 0 ? '' : `behind ${above.join(' > ')}`;
}

export function hostText(report: HostReport): string {
  const out = [report.hostname];
  const list = blocks(report);
  for (const [at, { title, devices }] of list.entries()) {
    const last = at === list.length - 1;
    out.push(`${last ? '└─' : '├─'} ${title}`);
    const side = last ? '   ' : '│  ';
    if (devices.length === 0) out.push(`${side}   no network card, no accelerator`);
    for (const [i, device] of devices.entries()) {
      const [head = '', ...more] = [...lines(device), bus(device)].filter(Boolean);
      const end = i === devices.length - 1;
      out.push(`${side}${end ? '└─' : '├─'} ${head}`);
      for (const line of more) out.push(`${side}${end ? '   ' : '│  '}   ${line}`);
    }
  }
  return `${out.join('\n')}\n`;
}

const CARD = 300;
const LINE = 15;

export function hostSvg(report: HostReport): string {
  const list = blocks(report);
  const parts: string[] = [];
  let y = 48;
  let width = 360;
  for (const [number, { title, devices }] of list.entries()) {
    const columns = Math.min(3, Math.max(1, devices.length));
    const texts = devices.map((device) => [...lines(device), bus(device)].filter(Boolean));
    const tall = texts.reduce((most, text) => Math.max(most, text.length), 1) * LINE + 18;
    const rows = Math.max(1, Math.ceil(devices.length / columns));
    const blockWidth = Math.max(columns * (CARD + 12) + 12, title.length * 8 + 24);
    const height = 34 + rows * (tall + 12);
    parts.push(
      `<g id="numa-${number}" class="numa"><rect x="16" y="${y}" width="${blockWidth}" height="${height}" rx="6" fill="#f5f7fa" stroke="#c3ccd6"/>`,
    );
    parts.push(`<text x="28" y="${y + 21}" font-size="13" font-weight="600">${escapeXml(title)}</text>`);
    for (const [at, device] of devices.entries()) {
      const [left, top] = [
        28 + (at % columns) * (CARD + 12),
        y + 32 + Math.floor(at / columns) * (tall + 12),
      ];
      const fill = device.kind === 'network' ? '#e3edfb' : '#dff3e4';
      parts.push(
        `<g id="device-${escapeXml(device.address.replace(/[^\w.-]/g, '_'))}" class="device ${device.kind}${device.pcie_degraded ? ' degraded' : ''}">`,
      );
      parts.push(
        `<rect x="${left}" y="${top}" width="${CARD}" height="${tall}" rx="4" fill="${fill}" stroke="${device.pcie_degraded ? '#c2410c' : '#7b8794'}"/>`,
      );
      for (const [i, text] of (texts[at] ?? []).entries()) {
        const shown = text.length > 46 ? `${text.slice(0, 45)}…` : text;
        parts.push(
          `<text x="${left + 8}" y="${top + 18 + i * LINE}" font-size="11"${i === 0 ? ' font-weight="600"' : ''}>${escapeXml(shown)}</text>`,
        );
      }
      parts.push('</g>');
    }
    parts.push('</g>');
    y += height + 12;
    width = Math.max(width, blockWidth + 32);
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y + 8}" viewBox="0 0 ${width} ${y + 8}" font-family="DejaVu Sans, Verdana, Helvetica, Arial, sans-serif" fill="#1f2933">`,
    `<rect width="${width}" height="${y + 8}" fill="#fff"/>`,
    `<text x="16" y="30" font-size="16" font-weight="600">${escapeXml(report.hostname)}</text>`,
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}
