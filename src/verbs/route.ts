/**
 * Fills `struct ibv_ah_attr`: how packets find the peer. Queue pairs (RC, UC) and
 * address handles (UD) need the same.
 */

import type { Struct } from '../../ffi/struct.ts';
import { requireInteger } from './check.ts';
import { parseGid } from './gid.ts';
import type { PortAttributes } from './types.ts';

/** How to reach the peer. */
export interface RouteOptions {
  /** The peer's GID or IP address. */
  readonly gid: string;
  /** Row of our own GID table to send from. */
  readonly gidIndex: number;
  /** The peer's LID; InfiniBand only. */
  readonly lid?: number;
  readonly hopLimit?: number;
  readonly trafficClass?: number;
  readonly flowLabel?: number;
  readonly serviceLevel?: number;
}

/** Router hops that packets may take: what the kernel's rdma_cm uses on RoCE. */
const DEFAULT_HOP_LIMIT = 64;

type AhPrefix = '' | 'ah_attr.';
type AhField =
  | 'is_global'
  | 'port_num'
  | 'dlid'
  | 'sl'
  | 'grh.dgid.raw'
  | 'grh.sgid_index'
  | 'grh.hop_limit'
  | 'grh.traffic_class'
  | 'grh.flow_label';

/** Writes the route into an `ibv_ah_attr`, or into the one inside an `ibv_qp_attr`. */
export function fillRoute(
  struct: Struct<'ibv_ah_attr'> | Struct<'ibv_qp_attr'>,
  port: PortAttributes,
  options: RouteOptions,
): void {
  const prefix: AhPrefix = struct.name === 'ibv_qp_attr' ? 'ah_attr.' : '';
  const target = struct as unknown as Struct<'ibv_ah_attr'>;
  const at = (field: AhField): 'dlid' => `${prefix}${field}` as 'dlid';
  const raw = parseGid(options.gid);
  const ethernet = port.linkLayer === 'Ethernet';
  // InfiniBand within a subnet goes by LID alone; everything else carries the global route header.
  const global = ethernet || (options.lid ?? 0) === 0;
  target.set(at('port_num'), port.port);
  target.set(at('is_global'), global ? 1 : 0);
  target.set(at('dlid'), requireInteger('the LID', options.lid ?? 0, 0, 0xffff));
  target.set(at('sl'), requireInteger('the service level', options.serviceLevel ?? 0, 0, 15));
  if (!global) return;
  target.part(at('grh.dgid.raw')).set(raw);
  target.set(at('grh.sgid_index'), requireInteger('the GID index', options.gidIndex, 0, 255));
  target.set(
    at('grh.hop_limit'),
    requireInteger('the hop limit', options.hopLimit ?? DEFAULT_HOP_LIMIT, 0, 255),
  );
  target.set(at('grh.traffic_class'), requireInteger('the traffic class', options.trafficClass ?? 0, 0, 255));
  target.set(at('grh.flow_label'), requireInteger('the flow label', options.flowLabel ?? 0, 0, 0xfffff));
}
