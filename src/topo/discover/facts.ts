/**
 * Asks a host about its network with one shell script, so that the same works here and through ssh, and reads the answer.
 * Nothing is installed and nothing needs rights; what cannot be asked is left out.
 */

import * as v from 'valibot';
import { InputError } from '../model/input-error.ts';
import { clean, type LldpNeighbour, readLldp } from './lldp.ts';

const MARK = '=== rdmakit ';

/** Prints a section for each question. lldpctl answers only when lldpd runs and lets this user ask. */
export const QUESTIONS = [
  `echo '${MARK}hostname'; uname -n`,
  `echo '${MARK}machine'; uname -m`,
  `echo '${MARK}links'; ip -j link show 2>/dev/null`,
  `echo '${MARK}addresses'; ip -j addr show 2>/dev/null`,
  `echo '${MARK}neighbours'; ip -j neigh show 2>/dev/null`,
  `echo '${MARK}routes'; ip -j route show 2>/dev/null`,
  `echo '${MARK}speeds'; for d in /sys/class/net/*; do s=$(cat $d/speed 2>/dev/null) && echo "\${d##*/} $s"; done`,
  `echo '${MARK}rdma'; for d in /sys/class/infiniband/*; do [ -e "$d" ] || continue; for n in "$d"/device/net/*; do [ -e "$n" ] && echo "\${n##*/} \${d##*/}"; done; done`,
  `echo '${MARK}lldp'; lldpctl -f json0 2>/dev/null`,
  `echo '${MARK}end'`,
].join('\n');

const Interface = v.object({
  ifname: v.pipe(v.string(), v.regex(/^[^\s\p{C}]{1,64}$/u)),
  link_type: v.optional(v.string()),
  operstate: v.optional(v.string()),
  address: v.optional(v.string()),
  addr_info: v.optional(
    v.array(
      v.object({ family: v.string(), local: v.optional(v.string()), prefixlen: v.optional(v.number()) }),
    ),
  ),
});
const ADDRESS = /^[0-9a-fA-F.:]{2,45}$/;
const Neighbour = v.object({
  dst: v.pipe(v.string(), v.regex(ADDRESS)),
  dev: v.optional(v.string()),
  lladdr: v.optional(v.string()),
  state: v.optional(v.array(v.string())),
});
const Route = v.object({
  dst: v.string(),
  gateway: v.optional(v.pipe(v.string(), v.regex(ADDRESS))),
  dev: v.optional(v.string()),
  nexthops: v.optional(
    v.array(
      v.object({ gateway: v.optional(v.pipe(v.string(), v.regex(ADDRESS))), dev: v.optional(v.string()) }),
    ),
  ),
});

export interface Facts {
  hostname: string;
  /** `x86_64`, as uname has it; empty when it was not said. */
  machine: string;
  interfaces: v.InferOutput<typeof Interface>[];
  neighbours: v.InferOutput<typeof Neighbour>[];
  routes: v.InferOutput<typeof Route>[];
  /** Bits a second, by interface. */
  speed_bps: Map<string, number>;
  /** RDMA device of an interface. */
  rdma: Map<string, string>;
  lldp: LldpNeighbour[];
}

/** ip(8) of old versions prints nothing instead of an empty list; broken entries are left out. */
function listOf<T>(text: string, schema: v.GenericSchema<unknown, T>, what: string): T[] {
  if (text.trim() === '') return [];
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new InputError(`the ${what} of the host are not JSON; iproute2 4.18 or newer is needed there`);
  }
  const list = Array.isArray(value) ? value : [];
  return list.flatMap((item) => {
    const parsed = v.safeParse(schema, item);
    return parsed.success ? [parsed.output] : [];
  });
}

function pairsOf(text: string): [string, string][] {
  return text
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .flatMap(([a, b]) => (a && b ? [[a, b] as [string, string]] : []));
}

/** Reads what the script printed. Throws InputError when it did not run to its end. */
export function readFacts(text: string): Facts {
  const sections = new Map<string, string>();
  for (const part of text.split(MARK).slice(1)) {
    const end = part.indexOf('\n');
    sections.set(part.slice(0, end), part.slice(end + 1));
  }
  if (!sections.has('end')) throw new InputError('the questions were not answered to their end');
  const section = (name: string): string => sections.get(name) ?? '';
  const speeds = pairsOf(section('speeds')).flatMap(([device, mbps]) =>
    Number(mbps) > 0 ? [[device, Number(mbps) * 1e6] as const] : [],
  );
  return {
    hostname: clean(section('hostname').trim().split('\n')[0] ?? '') || 'host',
    machine: section('machine').trim(),
    interfaces: listOf(section('addresses') || section('links'), Interface, 'interfaces'),
    neighbours: listOf(section('neighbours'), Neighbour, 'neighbours'),
    routes: listOf(section('routes'), Route, 'routes'),
    speed_bps: new Map(speeds),
    rdma: new Map(pairsOf(section('rdma')).map(([device, name]) => [clean(device), clean(name)])),
    lldp: readLldp(section('lldp')),
  };
}
