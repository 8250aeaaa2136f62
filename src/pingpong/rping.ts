/**
 * rping's exchange over connections of rdma_cm: our two ends, or either of them with rping of rdmacm-utils. There is no side
 * channel: everything is in the connection itself.
 */

import { hostname } from 'node:os';
import { loadDatapath } from '../../ffi/datapath.ts';
import { rdmacmPath } from '../../ffi/load.ts';
import { Struct, sizeOf } from '../../ffi/struct.ts';
import { ENUMS } from '../../ffi/structs.generated.ts';
import { RdmakitError } from '../errors.ts';
import { errnoName, formatGid, openLibrary, type ProviderChoice } from '../verbs/index.ts';
import { type Settings, type Watcher, warmupFor } from './client.ts';
import { type Gate, judge } from './gates.ts';
import { fillPace, Loop, outOfMemory, paceFlags, type Role, sleep } from './loop.ts';
import { type Failure, type Report, type RowReport, reportRow } from './report.ts';
import { type Row, RPING, type SkippedRow, type Wait } from './rows.ts';

/** Largest data of rping. */
export const RPING_MAX_BYTES = 65536;
/** For each step of connecting and for an exchange: the connection itself retries much earlier. */
const PATIENCE_NS = 5e9;
const LOOK_MS = 100;

interface RpingInfo {
  readonly device: string;
  readonly local: string;
  readonly remote: string;
  readonly gid: string;
  readonly port: number;
  readonly mtu_bytes: number;
  readonly accepted: number;
  readonly connected: number;
  readonly failed: number;
  readonly failure: string;
}

/** What C writes about a connection while its loop runs. */
class InfoBlock {
  readonly address: bigint;
  readonly #length = BigInt(sizeOf('rk_dp_rping_info'));
  #view: Struct<'rk_dp_rping_info'> | undefined;

  constructor() {
    this.address = loadDatapath().rk_dp_buffer_new(this.#length);
    if (this.address === 0n) throw outOfMemory('a connection');
    this.#view = Struct.at('rk_dp_rping_info', this.address);
  }

  read(): RpingInfo {
    const view = this.#view;
    if (view === undefined) throw new TypeError('the block was freed');
    return {
      device: view.text('device'),
      local: plain(view.text('local')),
      remote: plain(view.text('remote')),
      gid: formatGid(view.part('gid').slice()),
      port: view.num('port'),
      mtu_bytes: view.num('mtu'),
      accepted: view.num('accepted'),
      connected: view.num('connected'),
      failed: view.num('failed'),
      failure: view.text('failure'),
    };
  }

  free(): void {
    if (this.#view === undefined) return;
    this.#view = undefined;
    loadDatapath().rk_dp_buffer_free(this.address, this.#length);
  }
}

/** `::ffff:10.0.0.1` -> `10.0.0.1`. */
const plain = (address: string): string => address.replace(/^::ffff:(?=\d+\.)/, '');

function openConnectionManager(provider: ProviderChoice): void {
  openLibrary({ provider });
  const result = loadDatapath({ provider }).rk_dp_cm_open(rdmacmPath());
  if (result === 0) return;
  throw new RdmakitError({
    kind: 'environment',
    what: `librdmacm cannot be used: ${errnoName(result)}`,
    cause: `${rdmacmPath()} is missing or too old`,
    remedy: 'apt install librdmacm1, or --provider soft',
  });
}

function configOf(role: Role, settings: Settings, size_bytes: number, wait: Wait): Struct<'rk_dp_rping'> {
  const config = new Struct('rk_dp_rping');
  const pace = {
    ...settings,
    role,
    size_bytes,
    warmup: settings.warmup ?? Math.ceil(warmupFor(size_bytes) / 4),
    timeout_ns: Math.max(settings.timeout_ns, PATIENCE_NS),
  };
  fillPace(config, pace);
  return config.set('flags', paceFlags(pace) | (wait === 'events' ? ENUMS.rk_dp_flag.RK_DP_EVENTS : 0));
}

/** The rows that were asked for, and those of sizes that rping has not. */
export function rpingRows(
  sizes_bytes: readonly number[],
  events: 'beside' | 'only' | 'none' | undefined,
): { rows: Row[]; skipped: SkippedRow[] } {
  const waits: Wait[] =
    events === 'only' ? ['events'] : events === 'beside' ? ['polling', 'events'] : ['polling'];
  const rows: Row[] = [];
  const skipped: SkippedRow[] = [];
  for (const wait of waits) {
    for (const size_bytes of sizes_bytes) {
      const row: Row = { transport: 'rc', operation: RPING, wait, size_bytes };
      if (size_bytes >= 1 && size_bytes <= RPING_MAX_BYTES) rows.push(row);
      else skipped.push({ ...row, reason: `the data of rping have 1 to ${RPING_MAX_BYTES} bytes` });
    }
  }
  return { rows, skipped };
}

export interface RpingOptions extends Watcher {
  readonly host: string;
  readonly port: number;
  readonly provider: ProviderChoice;
  readonly sizes_bytes: readonly number[];
  readonly events: 'beside' | 'only' | 'none' | undefined;
  readonly settings: Settings;
  readonly gates: readonly Gate[];
  readonly onPlan?: (plan: { rows: readonly Row[] }) => void;
  readonly onRowStart?: (row: Row) => void;
  readonly onRow?: (row: RowReport) => void;
}

/** Measures rping's exchange, a new connection for each row. When the signal is raised, what was measured so far is reported. */
export async function runRping(options: RpingOptions): Promise<Report> {
  const stopped = (): boolean => options.signal?.aborted === true;
  const started_at = new Date().toISOString();
  openConnectionManager(options.provider);
  const { rows: planned, skipped } = rpingRows(options.sizes_bytes, options.events);
  options.onPlan?.({ rows: planned });
  const rows: RowReport[] = [];
  let ends: RpingInfo | undefined;
  let clock: Report['clock'] = 'tsc';
  for (const row of planned) {
    if (stopped()) break;
    options.onRowStart?.(row);
    const info = new InfoBlock();
    const config = configOf('client', options.settings, row.size_bytes, row.wait).set('port', options.port);
    const loop = Loop.startRping(config, options.host, info.address);
    try {
      const look = (): void => options.onProgress?.(loop.snapshot(), loop.newSamples(), loop);
      await loop.finish({ until: stopped, tick: look });
      const client = loop.snapshot();
      clock = client.clock;
      const known = info.read();
      if (known.device !== '') ends = known;
      const report = reportRow({
        row,
        client,
        histogram: loop.histogram(),
        server: undefined,
        interrupted: stopped(),
      });
      // Nothing was measured and nothing can be: not a row, but the end.
      if (client.error?.stage === 'connect' && rows.length === 0 && report.failure !== undefined)
        throw unreachable(report.failure);
      rows.push(report);
      options.onRow?.(report);
      if (client.error?.stage === 'connect') break;
    } finally {
      loop.close();
      info.free();
    }
  }
  return {
    started_at,
    client: {
      host: hostname(),
      address: ends?.local ?? '',
      device: ends?.device ?? '',
      provider: openLibrary({ provider: options.provider }).provider,
    },
    server: { host: options.host, address: ends?.remote || options.host },
    gid: ends?.gid ?? '',
    gid_reason: 'the connection manager chose it by the route',
    mtu_bytes: ends?.mtu_bytes ?? 0,
    clock,
    rows,
    skipped,
    gates: judge(rows, options.gates),
    interrupted: stopped(),
  };
}

function unreachable({ what, cause, remedy }: Failure): RdmakitError {
  return new RdmakitError({
    kind: 'peer',
    what,
    ...(cause === undefined ? {} : { cause }),
    ...(remedy === undefined ? {} : { remedy }),
  });
}

export interface RpingServerOptions {
  /** All addresses when absent. */
  readonly host?: string | undefined;
  readonly port: number;
  readonly provider: ProviderChoice;
  /** Of the threads that answer; -1: they float. */
  readonly core: number;
  /** Sleep between messages instead of polling for a while first. */
  readonly events: boolean;
  readonly signal: AbortSignal;
  readonly onListening?: (address: string, port: number) => void;
  /** Clients so far, and now. */
  readonly onChange?: (accepted: number, connected: number) => void;
  /** Clients that were refused or ended with an error so far, and why the first did. */
  readonly onFailure?: (failed: number, why: string) => void;
}

/** Answers rping's exchange until the signal is raised; as many clients at once as come. */
export async function serveRping(options: RpingServerOptions): Promise<void> {
  const { signal } = options;
  openConnectionManager(options.provider);
  const info = new InfoBlock();
  const settings: Settings = {
    iterations: 0,
    duration_ns: 0,
    interval_ns: 0,
    timeout_ns: PATIENCE_NS,
    verify: false,
    record: false,
    core: options.core,
  };
  let loop: Loop | undefined;
  try {
    const config = configOf('server', settings, 0, options.events ? 'events' : 'polling').set(
      'port',
      options.port,
    );
    loop = Loop.startRping(config, options.host ?? '', info.address);
    const { local, port } = info.read();
    options.onListening?.(local, port);
    let last = '';
    let told = 0;
    while (!signal.aborted && !loop.ended) {
      const { accepted, connected, failed, failure } = info.read();
      if (failed > told) options.onFailure?.(failed, failure);
      told = failed;
      if (`${accepted} ${connected}` !== last) {
        if (last !== '') options.onChange?.(accepted, connected);
        last = `${accepted} ${connected}`;
      }
      await sleep(LOOK_MS);
    }
    const { error } = loop.snapshot();
    if (error !== undefined && !signal.aborted)
      throw new RdmakitError({ kind: 'environment', what: `listening ended: ${error.message}` });
  } finally {
    await loop?.end();
    loop?.close();
    info.free();
  }
}
