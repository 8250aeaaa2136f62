/** `topo up`, `down`, `exec` and `list`: networks emulated on this machine. */

import * as v from 'valibot';
import { defineCommand, usageError } from '../../cli/command.ts';
import { defineDocument } from '../../cli/documents.ts';
import { choice, custom, duration, flag, integer } from '../../cli/options.ts';
import { parseInteger, UnitError } from '../../cli/units.ts';
import { type ExitCode, RdmakitError } from '../../errors.ts';
import { netemHere } from '../../topo/emulate/netem.ts';
import { down, execIn, up } from '../../topo/emulate/run.ts';
import { list, load, pick } from '../../topo/emulate/state.ts';
import { readTopology } from '../../topo/formats/index.ts';
import { FILE, fromOption } from './shared.ts';

const count = v.pipe(v.number(), v.integer(), v.minValue(0));
const Emulations = defineDocument(
  'topo-emulations',
  1,
  v.object({
    emulations: v.array(
      v.object({
        name: v.string(),
        nodes: v.record(v.string(), v.string()),
        links: count,
        relay: v.nullable(v.string()),
        since: v.string(),
      }),
    ),
  }),
);

function labName(value: string): string {
  if (/^[a-z0-9]{1,12}$/.test(value)) return value;
  throw new UnitError(`'${value}' is not 1 to 12 lower-case letters and digits`);
}

function scale(value: string): number {
  const number = Number(value);
  if (/^\d+(\.\d+)?(e-?\d+)?$/.test(value) && number > 0 && number <= 1000) return number;
  throw new UnitError(`'${value}' is not a factor above 0; write for example 0.001`);
}

/** Names an emulation that is up. */
export const nameOption = custom(labName, {
  short: 'n',
  doc: 'name of the emulation; the only one when absent',
  value: 'NAME',
});

export const upSpec = defineCommand({
  name: 'up',
  summary:
    'emulate a topology on this machine: a network namespace a node, real routing, rates, delay and loss',
  description: [
    'Makes a network namespace for every node and a veth pair for every link. Routes are shortest paths with all equal next ' +
      'hops; the kernel chooses among them by the five-tuple, as topo paths --model linux predicts with the same --seed. Routes are fixed: both ends of a cable that is ' +
      'pulled use their other next hops, nodes further away do not learn of it.',
    'Rates are shaped by token buckets (up to 40Gbps; above, a link runs as fast as the machine). Delay, jitter, loss, ' +
      'duplication and reordering are done by netem where the kernel has it, for links with chance only when it takes a seed ' +
      '(Linux 6.7), and by a small relay process otherwise: what is lost repeats with --seed.',
    'Hosts reach each other by the addresses in the topology (10.0.0.1 and so on by number where it has none). Needs root.',
  ],
  positionals: [FILE],
  options: {
    from: fromOption,
    name: custom(labName, { short: 'n', doc: 'name of the emulation', value: 'NAME', default: 'lab' }),
    scale: custom(scale, { doc: 'multiply all capacities by this', value: 'FACTOR', default: '1' }),
    mtu: custom((value) => parseInteger(value, 576, 65_535), {
      doc: 'MTU of the links in bytes',
      value: 'BYTES',
      default: '1500',
    }),
    queue: duration({ doc: 'queue in front of a shaped link', default: '50ms' }),
    seed: integer({ doc: 'seed of loss and of the multipath hash', min: 1, max: 0xffffffff, default: '1' }),
    perSwitchSeeds: flag({ doc: 'every switch has a hash seed of its own' }),
    delayBy: choice(['auto', 'netem', 'relay'], { doc: 'who delays and loses packets', default: 'auto' }),
  },
  examples: [
    { command: 'rdmakit topo up t.json --name lab1', does: 'emulates the network of t.json' },
    { command: 'rdmakit topo exec h0 --name lab1 -- ping -c 3 10.0.0.2', does: 'pings from h0 to h1' },
    { command: 'rdmakit topo down --name lab1', does: 'removes it' },
  ],
  async run({ options, args }, io) {
    const topology = await readTopology(args[0] ?? '-', options.from);
    if (options.delayBy === 'netem' && netemHere() === 'none') {
      throw new RdmakitError({
        kind: 'environment',
        what: 'this kernel has no netem',
        cause: 'tc qdisc add ... netem, ingress and mirred were tried in a network namespace of their own',
        remedy:
          'modprobe -a sch_netem act_mirred cls_matchall; or leave the delays to the relay: --delay-by relay',
      });
    }
    const made = await up(topology, {
      name: options.name,
      scale: options.scale,
      mtu_bytes: options.mtu,
      queue_ns: options.queue,
      seed: options.seed,
      perSwitchSeeds: options.perSwitchSeeds,
      netem: options.delayBy === 'relay' ? 'none' : netemHere(),
    });
    io.note(
      `${made.name} is up: ${made.nodes} nodes, ${made.links} links${made.relayed ? ', with a relay' : ''}${made.netem ? ', with netem' : ''}`,
    );
  },
});

export const downSpec = defineCommand({
  name: 'down',
  summary: 'remove an emulation',
  description: ['Removes exactly what topo up made, also when that was killed in the middle.'],
  options: { name: nameOption },
  examples: [{ command: 'rdmakit topo down --name lab1', does: 'removes the emulation lab1' }],
  async run({ options }, io) {
    const name = pick(options.name);
    down(name);
    io.note(`${name} is down`);
  },
});

export const execSpec = defineCommand({
  name: 'exec',
  summary: 'run a program on a node of an emulation',
  description: [
    'topo exec NODE -- PROGRAM ARGUMENTS... runs the program in the network namespace of the node, on this terminal; its ' +
      'exit code is the exit code.',
  ],
  child: true,
  options: { name: nameOption },
  examples: [
    { command: 'rdmakit topo exec --name lab1 h0 -- ip route', does: 'shows the routes of h0' },
    { command: 'rdmakit topo exec h1 -- rdmakit pingpong', does: 'runs a command of rdmakit on h1' },
  ],
  async run({ options, child }) {
    const words = [...child];
    let { name } = options;
    const node = words.shift() ?? '';
    // The name may also stand behind the node: `topo exec h0 --name lab1 -- CMD`.
    const match = words[0] === undefined ? undefined : /^(?:--name|-n)(?:=(.*))?$/.exec(words[0]);
    if (match) {
      words.shift();
      name = labName(match[1] ?? words.shift() ?? '');
    }
    if (words[0] === '--') words.shift();
    if (words.length === 0)
      throw usageError('PROGRAM is missing', 'topo exec', 'write: rdmakit topo exec NODE -- PROGRAM');
    return execIn(pick(name), node, words) as ExitCode;
  },
});

export const listSpec = defineCommand({
  name: 'list',
  summary: 'list the emulations that are up',
  description: ['Lists the emulations of this machine with their nodes and network namespaces.'],
  options: {},
  documents: true,
  examples: [{ command: 'rdmakit topo list --json', does: 'prints them for a script' }],
  async run(_, io) {
    const emulations = list().flatMap((name) => {
      const state = load(name);
      return state
        ? [{ name, nodes: state.spaces, links: state.links, relay: state.relay, since: state.since }]
        : [];
    });
    io.result(Emulations, { emulations });
    if (!io.human) return;
    if (emulations.length === 0) io.note('no emulation is up');
    else {
      io.table({
        head: ['name', 'nodes', 'links', 'relay', 'since'],
        rows: emulations.map(({ name, nodes, links, relay, since }) => [
          name,
          `${Object.keys(nodes).length}`,
          `${links}`,
          relay === null ? 'no' : 'yes',
          since,
        ]),
        align: ['left', 'right', 'right'],
      });
    }
  },
});
