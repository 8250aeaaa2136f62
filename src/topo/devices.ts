/**
 * Takes stock of this machine's RDMA devices: ports, addresses, limits, and which GID a
 * tool should send from.
 *
 * The report is plain data with a schema, so that `topo devices --json` and whoever
 * reads it agree. A device that cannot be asked is listed with its problem instead of
 * hiding the others.
 */

import * as v from 'valibot';
import { RdmakitError } from '../errors.ts';
import {
  type Context,
  chooseGid,
  type DeviceSummary,
  type GidEntry,
  listDevices,
  openDevice,
  openLibrary,
  type PortAttributes,
  type ProviderChoice,
  parseGid,
  VerbsError,
} from '../verbs/index.ts';
import { type Found, Place, placeOfInterface, placeOfRdma } from './host/place.ts';
import { unusable } from './host/unusable.ts';

const count = v.pipe(v.number(), v.integer(), v.minValue(0));

const GidReport = v.object({
  index: count,
  gid: v.string(),
  address: v.string(),
  type: v.picklist(['IB', 'RoCEv1', 'RoCEv2']),
  scope: v.picklist(['loopback', 'link-local', 'global']),
  /** null when the interface is not visible here (another network namespace). */
  interface: v.nullable(v.string()),
});

const PortReport = v.object({
  port: count,
  state: v.string(),
  physical_state: v.string(),
  link_layer: v.string(),
  active_mtu_bytes: count,
  max_mtu_bytes: count,
  /** Nominal; 0 when the port does not tell. */
  link_speed_bps: count,
  max_message_bytes: count,
  lid: count,
  gids: v.array(GidReport),
  /** The GID to send from, null when the port has none that fits. */
  use_gid: v.nullable(v.object({ index: count, reason: v.string() })),
});

const LimitsReport = v.object({
  max_qp: count,
  max_qp_wr: count,
  max_sge: count,
  max_cq: count,
  max_cqe: count,
  max_mr: count,
  /** Decimal text: it may be beyond 2^53. */
  max_mr_bytes: v.string(),
  max_pd: count,
  max_ah: count,
  max_srq: count,
  max_srq_wr: count,
  max_outstanding_reads_as_target: count,
  max_outstanding_reads_as_initiator: count,
  max_multicast_groups: count,
  atomics: v.picklist(['none', 'hca', 'global', 'unknown']),
});

const ProblemReport = v.object({
  what: v.string(),
  cause: v.nullable(v.string()),
  remedy: v.nullable(v.string()),
});

const DeviceReport = v.object({
  name: v.string(),
  node_guid: v.string(),
  node_type: v.string(),
  transport: v.string(),
  firmware: v.nullable(v.string()),
  limits: v.nullable(LimitsReport),
  ports: v.array(PortReport),
  /** NUMA and PCIe; for a device without hardware of its own, of the interface under it. null when there is none. */
  place: v.nullable(Place),
  /** Whose place it is, or why there is none. */
  place_reason: v.string(),
  /** Why the device could not be asked, null when it could. */
  problem: v.nullable(ProblemReport),
});

/** The whole answer of `topo devices`. */
export const DevicesReport = v.object({
  provider: v.picklist(['system', 'soft']),
  /** Why this provider answers. */
  provider_reason: v.string(),
  devices: v.array(DeviceReport),
  /** Hardware that could do RDMA but cannot be used, and why. */
  unusable: v.array(v.object({ name: v.string(), what: v.string(), cause: v.string(), remedy: v.string() })),
  /** The device that tools take when none is named, null when there is none. */
  default_device: v.nullable(v.string()),
});

export type DevicesReport = v.InferOutput<typeof DevicesReport>;
export type PortReport = v.InferOutput<typeof PortReport>;

/** What to look at. */
export interface DevicesOptions {
  readonly provider?: ProviderChoice;
  /** Only this device; an error when it does not exist. */
  readonly device?: string;
  /** Address of a far end: the GIDs that suit it are chosen. */
  readonly peer?: string;
  /** Where sysfs is. */
  readonly sys?: string;
}

/** Lists the devices and asks each. Throws only when the verbs library or a named device is missing. */
export function takeStock(options: DevicesOptions = {}): DevicesReport {
  // A bad address is the caller's mistake, not a problem of the devices.
  if (options.peer !== undefined) parseGid(options.peer);
  const { provider, reason } = openLibrary(options);
  const all = listDevices();
  const wanted = options.device;
  if (wanted !== undefined && !all.some(({ name }) => name === wanted))
    openDevice({ device: wanted }).close();
  const listed = wanted === undefined ? all : all.filter(({ name }) => name === wanted);
  return {
    provider,
    provider_reason: reason,
    devices: listed.map((summary) => askDevice(summary, options)),
    unusable: unusable(provider === 'system' ? all.map(({ name }) => name) : unlisted(reason), options.sys),
    default_device: all.length === 0 ? null : defaultDevice(),
  };
}

/** With the embedded device: none of the kernel's, when that is why it answers; otherwise nobody asked the system's library. */
function unlisted(reason: string): string[] | undefined {
  return reason.endsWith('lists no device') ? [] : undefined;
}

function defaultDevice(): string | null {
  try {
    const context = openDevice();
    const { name } = context;
    context.close();
    return name;
  } catch {
    // No device opens: each one's problem is in the list.
    return null;
  }
}

function askDevice(summary: DeviceSummary, { peer, sys }: DevicesOptions): DevicesReport['devices'][number] {
  const identity = {
    name: summary.name,
    node_guid: summary.guid,
    node_type: summary.nodeType,
    transport: summary.transport,
  };
  let context: Context | undefined;
  try {
    context = openDevice({ device: summary.name });
    const answers = askContext(context, peer);
    return { ...identity, ...answers, ...whereIs(summary.name, answers.ports, sys), problem: null };
  } catch (error) {
    if (!(error instanceof RdmakitError)) throw error;
    const problem = { what: error.message, cause: error.likelyCause ?? null, remedy: error.remedy ?? null };
    return {
      ...identity,
      firmware: null,
      limits: null,
      ports: [],
      ...whereIs(summary.name, [], sys),
      problem,
    };
  } finally {
    context?.close();
  }
}

/** The kernel's devices have a place of their own, the embedded ones that of their interface. */
export function whereIs(
  name: string,
  ports: readonly PortReport[],
  sys?: string,
): { place: Place | null; place_reason: string } {
  const device = placeOfRdma(name, sys);
  const below = ports.flatMap(({ gids }) => gids.map((gid) => gid.interface)).find((each) => each !== null);
  const found: Found =
    device ??
    (below == null ? { place: null, why: 'its interface is not known' } : placeOfInterface(below, sys));
  return { place: found.place, place_reason: found.why };
}

function askContext(
  context: Context,
  peer: string | undefined,
): Pick<DevicesReport['devices'][number], 'firmware' | 'limits' | 'ports'> {
  const device = context.queryDevice();
  const numbers = Array.from({ length: device.portCount }, (_, i) => i + 1);
  return {
    firmware: device.fwVersion === '' ? null : device.fwVersion,
    limits: {
      max_qp: device.maxQp,
      max_qp_wr: device.maxQpWr,
      max_sge: device.maxSge,
      max_cq: device.maxCq,
      max_cqe: device.maxCqe,
      max_mr: device.maxMr,
      max_mr_bytes: device.maxMrSize.toString(),
      max_pd: device.maxPd,
      max_ah: device.maxAh,
      max_srq: device.maxSrq,
      max_srq_wr: device.maxSrqWr,
      max_outstanding_reads_as_target: device.maxQpReadAtomic,
      max_outstanding_reads_as_initiator: device.maxQpInitReadAtomic,
      max_multicast_groups: device.maxMcastGroups,
      atomics: device.atomics,
    },
    ports: numbers.map((port) => portReport(context.queryPort(port), context.gids(port), peer)),
  };
}

/** One port in the report's terms; `peer` guides the choice of the GID. */
export function portReport(port: PortAttributes, gids: readonly GidEntry[], peer?: string): PortReport {
  return {
    port: port.port,
    state: port.state,
    physical_state: port.physicalState,
    link_layer: port.linkLayer,
    active_mtu_bytes: port.activeMtuBytes,
    max_mtu_bytes: port.maxMtuBytes,
    link_speed_bps: port.linkSpeedBps,
    max_message_bytes: port.maxMessageBytes,
    lid: port.lid,
    gids: gids.map(({ index, gid, address, type, scope, interfaceName }) => ({
      index,
      gid,
      address,
      type,
      scope,
      interface: interfaceName === '' ? null : interfaceName,
    })),
    use_gid: recommendation(gids, peer),
  };
}

function recommendation(gids: readonly GidEntry[], peer: string | undefined): PortReport['use_gid'] {
  try {
    const { entry, reason } = chooseGid(gids, peer === undefined ? {} : { peer });
    return { index: entry.index, reason };
  } catch (error) {
    if (error instanceof VerbsError && error.code === 'no-such-gid') return null;
    throw error;
  }
}
