/** Load of a set of flows, with hashed source ports or with ports chosen for an even load. */

import { assignPaths, portsFor } from './assign.ts';
import type { HashModel } from './hash.ts';
import { loadOf } from './load.ts';
import { optimum } from './optimum.ts';
import { type LoadReport, loadReport } from './report.ts';
import type { Router } from './routes.ts';
import { type TrafficOptions, trafficOf } from './traffic.ts';

export interface BalanceOptions extends TrafficOptions {
  /** Choose source ports for an even load. */
  choose: boolean;
  /** Also compute the optimum. */
  optimum: boolean;
}

export async function balance(
  router: Router,
  model: HashModel,
  options: BalanceOptions,
): Promise<LoadReport> {
  const flows = trafficOf(router, options);
  const best = options.optimum ? await optimum(router, flows) : undefined;
  if (!options.choose)
    return loadReport(router, model, flows, loadOf(router, model, flows), { optimum: best });
  const ports = portsFor(router, model, flows, assignPaths(router, flows), options.ports);
  const chosen = flows.map((flow, at) => ({ ...flow, sourcePort: ports[at] ?? flow.sourcePort }));
  const unplaced = ports.filter((port) => port === undefined).length;
  return loadReport(router, model, chosen, loadOf(router, model, chosen), {
    optimum: best,
    chosen,
    unplaced,
  });
}
