/** Makes and removes emulations: runs what the plan says with ip(8) and tc(8). */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, openSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { libraryFolder } from '../../../ffi/paths.ts';
import { RdmakitError } from '../../errors.ts';
import { writeTopologyJson } from '../model/read-json.ts';
import type { Topology } from '../model/schema.ts';
import { type EmulationOptions, type Plan, planEmulation } from './plan.ts';
import { needRoot } from './rights.ts';
import { claim, folderOf, forget, load, type State, save } from './state.ts';

const RELAY = 'rdmakit-relay';
/** Namespaces configured at the same time. */
const PARALLEL = 4;

export interface Emulation {
  name: string;
  nodes: number;
  links: number;
  /** Some links go through our relay, some through netem. */
  relayed: boolean;
  netem: boolean;
}

function failed(what: string, detail: string): RdmakitError {
  return new RdmakitError({
    kind: 'environment',
    what,
    cause: detail.trim().split('\n').slice(-3).join('; '),
    remedy:
      'see the cause; iproute2 5.10 or newer and a kernel with veth, tbf and network namespaces are needed',
  });
}

/** Runs a program with a text as its input; resolves when it ended well. */
function feed(program: string, args: readonly string[], input: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['pipe', 'ignore', 'pipe'] });
    let errors = '';
    child.stderr.on('data', (chunk) => {
      errors += chunk;
    });
    child.on('error', (error) => reject(failed(`cannot run ${program}`, error.message)));
    child.on('close', (code) =>
      code === 0 ? resolve() : reject(failed(`${program} ${args.slice(0, 3).join(' ')} failed`, errors)),
    );
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
  });
}

function existingSpaces(): Set<string> {
  const { stdout } = spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' });
  return new Set((stdout ?? '').split('\n').map((line) => line.split(' ')[0] ?? ''));
}

/** Makes the emulation; on any error what was made so far is removed again. */
export async function up(topology: Topology, options: EmulationOptions): Promise<Emulation> {
  needRoot();
  const plan = planEmulation(topology, options);
  claim(plan.name);
  try {
    const wanted = [...plan.spaces.map(({ name }) => name), ...(plan.relay ? [plan.relay.space] : [])];
    const there = existingSpaces();
    const foreign = wanted.find((space) => there.has(space));
    if (foreign !== undefined) {
      forget(plan.name);
      throw new RdmakitError({
        kind: 'usage',
        what: `a network namespace named ${foreign} exists and is not ours`,
        remedy: 'give another --name, or remove it with: ip netns del',
      });
    }
    const state = {
      name: plan.name,
      spaces: Object.fromEntries(plan.spaces.map(({ node, name }) => [node, name])),
      relay: plan.relay?.space ?? null,
      links: topology.links.length,
      since: new Date().toISOString(),
    };
    save({ ...state, ready: false });
    writeFileSync(join(folderOf(plan.name), 'topology.json'), writeTopologyJson(topology));
    await make(plan);
    save({ ...state, ready: true });
  } catch (error) {
    if (load(plan.name)) down(plan.name);
    else forget(plan.name);
    throw error;
  }
  return {
    name: plan.name,
    nodes: topology.nodes.length,
    links: topology.links.length,
    relayed: plan.relay !== undefined && plan.relay.rules !== '',
    netem: plan.relay?.script.includes(' netem ') ?? false,
  };
}

async function make(plan: Plan): Promise<void> {
  await feed('ip', ['-batch', '-'], plan.create);
  const jobs = plan.spaces.map(({ name, script }) => ({ name, script }));
  if (plan.relay) jobs.push({ name: plan.relay.space, script: plan.relay.script });
  let next = 0;
  const work = async (): Promise<void> => {
    for (let job = jobs[next++]; job; job = jobs[next++])
      await feed('ip', ['netns', 'exec', job.name, 'sh'], job.script);
  };
  await Promise.all(Array.from({ length: PARALLEL }, work));
  if (plan.relay && plan.relay.rules !== '') await startRelay(plan.name, plan.relay);
}

async function startRelay(name: string, relay: NonNullable<Plan['relay']>): Promise<void> {
  const program = join(libraryFolder(), RELAY);
  if (!existsSync(program)) {
    throw new RdmakitError({
      kind: 'environment',
      what: `${program} is missing`,
      cause: 'links with delay or loss need it',
      remedy: 'build it with: make -C c',
    });
  }
  const folder = folderOf(name);
  const rules = join(folder, 'relay.rules');
  writeFileSync(rules, relay.rules);
  const log = openSync(join(folder, 'relay.log'), 'a');
  const child: ChildProcess = spawn('ip', ['netns', 'exec', relay.space, program, rules], {
    detached: true,
    stdio: ['ignore', 'pipe', log],
  });
  await new Promise<void>((resolve, reject) => {
    const end = (): void =>
      reject(failed('the relay does not start', readFileSync(join(folder, 'relay.log'), 'utf8')));
    child.once('error', end);
    child.once('exit', end);
    child.stdout?.once('data', () => {
      child.off('exit', end);
      resolve();
    });
  });
  child.stdout?.destroy();
  child.unref();
}

/** Ends the relay, and only it: what users run inside is theirs. */
function stopRelay(space: string): void {
  const { stdout } = spawnSync('ip', ['netns', 'pids', space], { encoding: 'utf8' });
  for (const pid of (stdout ?? '').split('\n').map(Number).filter(Boolean)) {
    try {
      if (
        readlinkSync(`/proc/${pid}/exe`)
          .replace(/ \(deleted\)$/, '')
          .endsWith(`/${RELAY}`)
      )
        process.kill(pid, 'SIGTERM');
    } catch {
      // it has ended already
    }
  }
}

/** Removes the namespaces of an emulation that are there; how many that were. */
function removeSpaces({ name, spaces, relay }: State): number {
  if (relay !== null) stopRelay(relay);
  const there = existingSpaces();
  const ours = [...Object.values(spaces), ...(relay === null ? [] : [relay])].filter((space) =>
    there.has(space),
  );
  if (ours.length === 0) return 0;
  const input = ours.map((space) => `netns del ${space}\n`).join('');
  const { status, stderr } = spawnSync('ip', ['-force', '-batch', '-'], { input, encoding: 'utf8' });
  if (status !== 0) throw failed(`cannot remove the emulation '${name}'`, stderr ?? '');
  return ours.length;
}

/** Removes what `up` made of this name; what is gone already is no error. */
export function down(name: string): void {
  needRoot();
  const state = load(name);
  if (state) {
    removeSpaces(state);
    // The ip(8) of an `up` that was killed works off what it has read: look again until nothing more comes.
    for (let quiet = 0; !state.ready && quiet < 3; quiet++) {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
      if (removeSpaces(state) > 0) quiet = -1;
    }
  }
  forget(name);
}

/** Runs a program in the namespace of a node, on this terminal; its exit code. */
export function execIn(name: string, node: string, command: readonly string[]): number {
  needRoot();
  const state = load(name);
  const space = state?.spaces[node];
  if (space === undefined) {
    const some = Object.keys(state?.spaces ?? {}).slice(0, 8);
    throw new RdmakitError({
      kind: 'usage',
      what: `emulation '${name}' has no node '${node}'`,
      remedy: `name one of its nodes: ${some.join(', ')}`,
    });
  }
  const { status, signal, error } = spawnSync('ip', ['netns', 'exec', space, ...command], {
    stdio: 'inherit',
  });
  if (error) throw failed('cannot run ip', error.message);
  if (signal) return 128 + ({ SIGINT: 2, SIGKILL: 9, SIGTERM: 15 }[signal as string] ?? 1);
  return status ?? 1;
}
