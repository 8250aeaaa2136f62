/**
 * Devices: listing them, opening one, asking it and its ports, and making the first
 * objects in it.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { lastErrno } from '../../ffi/bind.ts';
import { libc } from '../../ffi/libc.ts';
import { libibverbs } from '../../ffi/libibverbs.ts';
import { type LoadOptions, loadVerbs } from '../../ffi/load.ts';
import { readNative, readPointer, Struct, sizeOf } from '../../ffi/struct.ts';
import { requireInteger } from './check.ts';
import { CompletionChannel, CompletionQueue } from './completion.ts';
import { type Counters, readCounters } from './counters.ts';
import { deviceAttributes, guidText, portAttributes } from './device-attributes.ts';
import { callFailure, failure } from './doctor.ts';
import { chooseGid, formatGid, type GidWishes, gidAddress, gidScope } from './gid.ts';
import { eventName, gidTypeName, nodeTypeName, transportName } from './names.ts';
import { ProtectionDomain } from './protection-domain.ts';
import { Resource } from './resource.ts';
import type {
  ChosenGid,
  CqOptions,
  DeviceAttributes,
  DeviceSummary,
  GidEntry,
  Handle,
  PortAttributes,
  Provider,
} from './types.ts';

/** Which device to open, of which library. */
export interface OpenOptions extends LoadOptions {
  /** Device name; without one, the first that can talk to other machines. */
  readonly device?: string;
}

/** A message from the device about a port, queue pair or queue. */
export interface AsyncEvent {
  /** Name of `enum ibv_event_type`, such as `IBV_EVENT_PORT_ERR`. */
  readonly type: string;
  /** What the library calls it. */
  readonly description: string;
  /** Port number, for events of a port. */
  readonly port?: number;
}

/** Rows of a GID table that rdmakit reads at most. */
const MOST_GIDS = 4096;
/** A pool thread waits no longer than this at a time, so that others get their turn. */
const WAIT_SLICE_MS = 50;
const POLLIN = 1;
const POINTER_BYTES = 8n;

/** Calls `visit` with every device pointer of the list; they are valid only meanwhile. */
function withDeviceList<T>(visit: (devices: readonly Handle[]) => T): T {
  const count = new Int32Array(new ArrayBuffer(4));
  const list = libibverbs.ibv_get_device_list(count);
  if (list === 0n) {
    const errno = lastErrno();
    // The system's library says ENOSYS when the kernel has no RDMA: an empty list in plain words.
    if (errno === 0 || errno === constants.errno.ENOSYS) return visit([]);
    throw callFailure('ibv_get_device_list', errno, { attempt: 'list RDMA devices' });
  }
  try {
    const devices = Array.from({ length: count[0] ?? 0 }, (_, i) =>
      readPointer(list + BigInt(i) * POINTER_BYTES),
    );
    return visit(devices);
  } finally {
    libibverbs.ibv_free_device_list(list);
  }
}

function summarize(device: Handle, provider: Provider): DeviceSummary {
  return {
    name: libibverbs.ibv_get_device_name(device) ?? '',
    // The library gives the GUID in network byte order.
    guid: guidText(swapBytes(libibverbs.ibv_get_device_guid(device))),
    nodeType: nodeTypeName(readNative('ibv_device', device, 'node_type')),
    transport: transportName(readNative('ibv_device', device, 'transport_type')),
    provider,
  };
}

function swapBytes(value: bigint): bigint {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, value, true);
  return view.getBigUint64(0, false);
}

/** Opens the verbs library, or names the one that is open: which provider, and why it. */
export function openLibrary(options: LoadOptions = {}): {
  readonly provider: Provider;
  readonly reason: string;
} {
  const { provider, reason } = loadVerbs(options);
  return { provider, reason };
}

/** The devices of the chosen verbs library; an empty list when it has none. */
export function listDevices(options: LoadOptions = {}): DeviceSummary[] {
  const { provider } = loadVerbs(options);
  return withDeviceList((devices) => devices.map((device) => summarize(device, provider)));
}

/**
 * Opens a device. Without a name it is the first with an active port and an address
 * that other machines reach, then the first with an active port, then the first.
 */
export function openDevice(options: OpenOptions = {}): Context {
  const { provider, reason } = loadVerbs(options);
  return withDeviceList((devices) => {
    const summaries = devices.map((device) => summarize(device, provider));
    if (options.device !== undefined) {
      const index = summaries.findIndex(({ name }) => name === options.device);
      const [device, summary] = [devices[index], summaries[index]];
      if (device !== undefined && summary !== undefined) return Context.open(device, summary);
      const names = summaries.map(({ name }) => name).join(', ');
      throw failure({
        call: 'ibv_open_device',
        code: 'no-such-device',
        attempt: `open device ${options.device}`,
        details: [names === '' ? 'there is no device' : `devices here: ${names}`],
      });
    }
    if (devices.length === 0) {
      const details = [`${provider} provider, ${reason}`];
      throw failure({ call: 'ibv_open_device', code: 'no-device', attempt: 'open an RDMA device', details });
    }
    return openBest(devices, summaries);
  });
}

/** Opens all devices, keeps the most useful one and closes the rest. */
function openBest(devices: readonly Handle[], summaries: readonly DeviceSummary[]): Context {
  const opened: Context[] = [];
  let firstError: unknown;
  devices.forEach((device, i) => {
    const summary = summaries[i];
    if (summary === undefined) return;
    try {
      opened.push(Context.open(device, summary));
    } catch (error) {
      firstError ??= error;
    }
  });
  if (opened.length === 0) throw firstError;
  const marks = opened.map(usefulness);
  const best = opened[marks.indexOf(Math.max(...marks))];
  for (const context of opened) if (context !== best) context.close();
  if (best === undefined) throw firstError;
  return best;
}

function usefulness(context: Context): number {
  try {
    if (context.queryPort(1).state !== 'ACTIVE') return 0;
    return context.gids(1).some(({ scope }) => scope === 'global') ? 2 : 1;
  } catch {
    return 0;
  }
}

/** An open device. */
export class Context extends Resource {
  protected readonly destroyCall = 'ibv_close_device';
  readonly summary: DeviceSummary;
  readonly name: string;
  readonly provider: Provider;

  /** Attributes of a device never change while it is open. */
  #attributes: DeviceAttributes | undefined;

  private constructor(handle: Handle, summary: DeviceSummary) {
    super(`device ${summary.name}`, handle, []);
    this.summary = summary;
    this.name = summary.name;
    this.provider = summary.provider;
  }

  /** Opens a device of a list that is still alive; use {@link openDevice}. */
  static open(device: Handle, summary: DeviceSummary): Context {
    const handle = libibverbs.ibv_open_device(device);
    if (handle === 0n) {
      throw callFailure('ibv_open_device', lastErrno(), { attempt: `open device ${summary.name}` });
    }
    return new Context(handle, summary);
  }

  queryDevice(): DeviceAttributes {
    if (this.#attributes !== undefined && !this.closed) return this.#attributes;
    const attributes = new Struct('ibv_device_attr');
    const errno = libibverbs.ibv_query_device(this.handle, attributes.bytes);
    if (errno !== 0) throw callFailure('ibv_query_device', errno, { attempt: `query ${this.label}` });
    this.#attributes = deviceAttributes(attributes);
    return this.#attributes;
  }

  queryPort(port = 1): PortAttributes {
    requireInteger('the port', port, 1, 255);
    const attributes = new Struct('ibv_port_attr');
    const errno = libibverbs.ibv_query_port(this.handle, port, attributes.bytes);
    if (errno !== 0)
      throw callFailure('ibv_query_port', errno, { attempt: `query port ${port} of ${this.label}` });
    return portAttributes(port, attributes);
  }

  /** The used rows of a port's GID table, in order of their index. */
  gids(port = 1): GidEntry[] {
    const attributes = this.queryPort(port);
    const size = sizeOf('ibv_gid_entry');
    // The call returns the rows of all ports; devices give each of them a table of one length.
    const rows = Math.min(MOST_GIDS, Math.max(1, attributes.gidTableLength) * this.queryDevice().portCount);
    const bytes = new Uint8Array(new ArrayBuffer(rows * size));
    const found = Number(libibverbs._ibv_query_gid_table(this.handle, bytes, BigInt(rows), 0, BigInt(size)));
    if (found < 0) {
      throw callFailure('_ibv_query_gid_table', found, { attempt: `read the GID table of ${this.label}` });
    }
    const entries: GidEntry[] = [];
    for (let i = 0; i < Math.min(found, rows); i++) {
      const row = new Struct('ibv_gid_entry', bytes.subarray(i * size, (i + 1) * size));
      if (row.num('port_num') === port) entries.push(gidEntry(row));
    }
    return entries.sort((a, b) => a.index - b.index);
  }

  /** One row of a port's GID table, undefined when it is not in use. */
  gid(port: number, index: number): GidEntry | undefined {
    requireInteger('the port', port, 1, 255);
    requireInteger('the GID index', index, 0, MOST_GIDS - 1);
    const row = new Struct('ibv_gid_entry');
    const size = BigInt(sizeOf('ibv_gid_entry'));
    const errno = libibverbs._ibv_query_gid_ex(this.handle, port, index, row.bytes, 0, size);
    return errno === 0 ? gidEntry(row) : undefined;
  }

  /** The GID to send from, and why. */
  chooseGid(port = 1, wishes: GidWishes = {}): ChosenGid {
    // One row is cheaper than the table; the table is for the choice, and for the error that shows it.
    const row =
      wishes.index === undefined
        ? undefined
        : this.gid(port, requireInteger('the GID index', wishes.index, 0, MOST_GIDS - 1));
    if (row !== undefined) return chooseGid([row], wishes);
    return chooseGid(this.gids(port), wishes);
  }

  /** What the device has counted on a port so far. */
  counters(port = 1): Counters {
    return readCounters(this, port);
  }

  allocPd(): ProtectionDomain {
    return ProtectionDomain.allocate(this);
  }

  createCompletionChannel(): CompletionChannel {
    return CompletionChannel.create(this);
  }

  createCq(options: CqOptions & { readonly channel?: CompletionChannel | undefined }): CompletionQueue {
    return CompletionQueue.create(this, options);
  }

  /** Waits for an asynchronous event; undefined when none came in time or `signal` was raised. */
  async asyncEvent(options: {
    readonly timeoutMs: number;
    readonly signal?: AbortSignal;
  }): Promise<AsyncEvent | undefined> {
    const timeoutMs = requireInteger('the timeout', options.timeoutMs, 0, 2 ** 31 - 1);
    const end = performance.now() + timeoutMs;
    // struct pollfd: the descriptor, then events and revents of 16 bits each.
    const pollfd = new Int32Array(new ArrayBuffer(8));
    pollfd[0] = readNative('ibv_context', this.handle, 'async_fd');
    pollfd[1] = POLLIN;
    for (;;) {
      const left = Math.max(0, Math.ceil(end - performance.now()));
      const { result } = await libc.poll.later(pollfd, 1n, Math.min(left, WAIT_SLICE_MS));
      if (this.closed || options.signal?.aborted === true) return undefined;
      if (result > 0) return this.#takeAsyncEvent();
      if (left === 0) return undefined;
    }
  }

  #takeAsyncEvent(): AsyncEvent {
    const event = new Struct('ibv_async_event');
    if (libibverbs.ibv_get_async_event(this.handle, event.bytes) !== 0) {
      throw callFailure('ibv_get_async_event', lastErrno(), { attempt: `take an event of ${this.label}` });
    }
    libibverbs.ibv_ack_async_event(event.bytes);
    const code = event.num('event_type');
    const type = eventName(code);
    const description = libibverbs.ibv_event_type_str(code) ?? type;
    return PORT_EVENT.test(type)
      ? { type, description, port: event.num('element.port_num') }
      : { type, description };
  }

  protected destroy(handle: Handle): number {
    return libibverbs.ibv_close_device(handle);
  }
}

/** Events whose element is a port number. */
const PORT_EVENT = /PORT|LID|PKEY|SM_CHANGE|CLIENT_REREGISTER|GID/;

function gidEntry(row: Struct<'ibv_gid_entry'>): GidEntry {
  const raw = row.part('gid.raw').slice();
  const ifindex = row.num('ndev_ifindex');
  return {
    port: row.num('port_num'),
    index: row.num('gid_index'),
    gid: formatGid(raw),
    raw,
    type: gidTypeName(row.num('gid_type')),
    address: gidAddress(raw),
    scope: gidScope(raw),
    ifindex,
    interfaceName: interfaceName(ifindex),
  };
}

/** Interface names by index, as they were when first seen. */
let knownInterfaces: ReadonlyMap<number, string> = new Map();

/** Name of a network interface, "" when it is not visible here; sysfs is read again for an index not seen yet. */
function interfaceName(ifindex: number): string {
  if (ifindex === 0) return '';
  if (!knownInterfaces.has(ifindex)) knownInterfaces = interfaceNames();
  return knownInterfaces.get(ifindex) ?? '';
}

/** Interface names by index, from sysfs: the only place that gives both without a native call. */
function interfaceNames(): ReadonlyMap<number, string> {
  const names = new Map<number, string>();
  try {
    for (const name of readdirSync('/sys/class/net')) {
      names.set(Number(readFileSync(`/sys/class/net/${name}/ifindex`, 'utf8')), name);
    }
  } catch {
    // Without sysfs the names stay unknown and are shown as such.
  }
  return names;
}
