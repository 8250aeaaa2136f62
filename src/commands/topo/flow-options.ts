/** Options of the subcommands that follow flows. */

import { choice, custom, flag, integer } from '../../cli/options.ts';
import { parseInteger, UnitError } from '../../cli/units.ts';
import { type HashModel, MODELS } from '../../topo/ecmp/hash.ts';
import { ROCE_PORT, TCP, UDP } from '../../topo/ecmp/trace.ts';

export interface PortRange {
  first: number;
  last: number;
}

function portRange(text: string): PortRange {
  const [from = '', to = from, ...rest] = text.split('..');
  if (rest.length > 0)
    throw new UnitError(`'${text}' is not a range of ports; write for example 49152..52151`);
  const [first, last] = [parseInteger(from, 0, 65_535), parseInteger(to, 0, 65_535)];
  if (last < first) throw new UnitError(`'${text}' runs backwards`);
  return { first, last };
}

export const flowOptions = {
  sport: custom(portRange, {
    doc: 'source ports, one or FIRST..LAST',
    value: 'PORTS',
    default: '49152..65535',
  }),
  dport: integer({ doc: 'destination port', min: 0, max: 65_535, default: String(ROCE_PORT) }),
  protocol: choice(['udp', 'tcp'], { doc: 'protocol of the flows', default: 'udp' }),
  model: choice(MODELS, { doc: 'how switches choose among equal paths', default: 'linux' }),
  seed: integer({ doc: 'seed of the hash', max: 0xffffffff, default: '1' }),
  perSwitchSeeds: flag({ doc: 'every switch has a seed of its own' }),
};

export const MODEL_TEXT =
  'Hash models: ideal (independent at every switch), linux (fib_multipath_hash_policy=1 with fib_multipath_hash_seed, as ' +
  'kernels since 6.11 have it), crc (CRC-32 of the five-tuple, modulo). With one seed for all switches hashing ' +
  'polarises: a switch repeats the choice of the one before. --per-switch-seeds cures that, except for crc: a CRC is linear, ' +
  'and another seed only exchanges the links.';

export function modelOf(options: {
  model: HashModel['name'];
  seed: number;
  perSwitchSeeds: boolean;
}): HashModel {
  return { name: options.model, seed: options.seed, perSwitch: options.perSwitchSeeds };
}

export function protocolOf(name: 'udp' | 'tcp'): number {
  return name === 'udp' ? UDP : TCP;
}
