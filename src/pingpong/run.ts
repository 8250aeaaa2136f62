/** A whole run at the measuring end: plan, rows one after the other, report. */

import { hostname } from 'node:os';
import type { Session } from '../verbs/index.ts';
import { Client, type Settings, type Watcher } from './client.ts';
import { type DeviceWish, openFor } from './device.ts';
import { type Gate, judge } from './gates.ts';
import type { Report, RowReport } from './report.ts';
import { type Plan, type PlanRequest, planRows, type Row } from './rows.ts';

export interface RunOptions extends Watcher {
  readonly request: PlanRequest;
  readonly settings: Settings;
  readonly wish: DeviceWish;
  readonly gates: readonly Gate[];
  /** Once the peer is known, before the first row. */
  readonly onPlan?: (plan: Pick<Plan, 'rows'>) => void;
  readonly onRowStart?: (row: Row) => void;
  readonly onRow?: (row: RowReport) => void;
}

/**
 * Measures every row of the request over a session. When the signal is raised, what was measured so far is reported.
 * The session stays the caller's.
 */
export async function run(session: Session, options: RunOptions): Promise<Report> {
  const { signal } = options;
  const started_at = new Date().toISOString();
  const device = openFor(session.localAddress, session.remoteAddress, options.wish);
  try {
    const client = await Client.greet(session, device, signal);
    const plan = planRows(options.request, client.limits);
    options.onPlan?.(plan);
    const rows: RowReport[] = [];
    let clock: Report['clock'] = 'tsc';
    const watcher: Watcher = {
      signal,
      onProgress: (snapshot, samples, loop) => {
        clock = snapshot.clock;
        options.onProgress?.(snapshot, samples, loop);
      },
    };
    for (const row of plan.rows) {
      if (signal?.aborted === true) break;
      options.onRowStart?.(row);
      const report = await measureUntilStopped(client, row, options.settings, watcher);
      if (report === undefined) break;
      rows.push(report);
      options.onRow?.(report);
      // Without the session nothing can follow; the failure is in the row.
      if (session.closed) break;
    }
    client.bye();
    return {
      started_at,
      client: {
        host: hostname(),
        address: session.localAddress,
        device: device.context.name,
        provider: device.context.provider,
      },
      server: {
        host: client.server.host,
        address: session.remoteAddress,
        device: client.server.device,
        provider: client.server.provider,
      },
      gid: device.gid.gid,
      gid_reason: device.reason,
      mtu_bytes: options.settings.mtuBytes ?? client.limits.mtu_bytes,
      clock,
      rows,
      skipped: [...plan.skipped],
      gates: judge(rows, options.gates),
      interrupted: signal?.aborted === true,
    };
  } finally {
    device.context.close();
  }
}

/** undefined when the run was stopped before the row measured anything. */
async function measureUntilStopped(
  client: Client,
  row: Row,
  settings: Settings,
  watcher: Watcher,
): Promise<RowReport | undefined> {
  try {
    return await client.measure(row, settings, watcher);
  } catch (error) {
    if (watcher.signal?.aborted === true && !client.session.closed) return undefined;
    throw error;
  }
}
