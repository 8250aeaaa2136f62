/** `rdmakit pingpong`: round-trip latency over every transport and operation, beside kernel TCP and UDP. */

import { defineCommand, type Input } from '../cli/command.ts';
import { defineDocument } from '../cli/documents.ts';
import { gatesOver, passes } from '../cli/expect.ts';
import type { Io } from '../cli/io.ts';
import {
  choice,
  choices,
  count,
  custom,
  duration,
  flag,
  integer,
  seconds,
  size,
  sizeRange,
  text,
} from '../cli/options.ts';
import { parseCpuList, sweepSizes } from '../cli/units.ts';
import { ExitCode, RdmakitError } from '../errors.ts';
import type { Settings } from '../pingpong/client.ts';
import { allowedCpus, coresForBothEnds } from '../pingpong/cores.ts';
import { Announcement } from '../pingpong/far-end.ts';
import { type Gate, METRICS } from '../pingpong/gates.ts';
import { serveClients } from '../pingpong/listener.ts';
import {
  compactCount,
  compactSize,
  gateLines,
  headline,
  histogramPicture,
  latencyTable,
  microseconds,
  remarks,
  summaryLines,
} from '../pingpong/present.ts';
import { DEFAULT_PORT, findAnswering, type Peer, RPING_PORT, reach } from '../pingpong/reach.ts';
import { Report, type RowReport, RowReport as RowSchema, SampleReport } from '../pingpong/report.ts';
import {
  OPERATIONS,
  type Operation,
  type PlanRequest,
  requireSomeRow,
  rowName,
  TRANSPORTS,
} from '../pingpong/rows.ts';
import { rpingRows, runRping, serveRping } from '../pingpong/rping.ts';
import { type RunOptions, run } from '../pingpong/run.ts';

const PingpongDocument = defineDocument('pingpong', 1, Report);
const RowDocument = defineDocument('pingpong-row', 1, RowSchema);
const SampleDocument = defineDocument('pingpong-sample', 1, SampleReport);
const ListenDocument = defineDocument('pingpong-listen', 1, Announcement);

/** `atomic` on the command line stands for both atomics. */
const OP_WORDS = [...OPERATIONS, 'atomic'] as const;

function parsePin(value: string): number[] {
  return value === 'none' ? [] : parseCpuList(value);
}

const options = {
  listen: flag({ short: 'l', doc: 'be the answering end: serve clients until Ctrl-C' }),
  port: integer({
    short: 'p',
    doc: `TCP port on which the two ends meet (default ${DEFAULT_PORT}; with --cm rdma_cm's, ${RPING_PORT}); 0 with --listen takes a free one`,
    max: 65535,
  }),
  cm: flag({
    doc: "connect with rdma_cm and measure rping's exchange; the other end may be rping",
  }),
  announce: flag({
    doc: 'with --listen: print address and port as one line of JSON, and end when standard input is closed',
  }),
  ssh: text({ doc: 'start the answering end on this host through ssh', value: 'HOST', completes: 'host' }),
  sshProgram: text({ doc: 'how rdmakit is called on the --ssh host', value: 'PROGRAM', default: 'rdmakit' }),
  transport: choices(TRANSPORTS, { short: 't', doc: 'only these transports' }),
  op: choices(OP_WORDS, { short: 'o', doc: 'only these operations; atomic means fetch-add and cmp-swap' }),
  size: size({ short: 's', doc: 'message size', default: '64' }),
  sweep: sizeRange({ doc: 'every power of two in a range of message sizes instead of --size' }),
  duration: duration({ short: 'D', doc: 'measure each row for so long (default 500ms, 100ms in a sweep)' }),
  iterations: count({ short: 'n', doc: 'measure each row for so many round trips instead' }),
  count: count({ short: 'c', doc: 'ping: send so many messages, a line for each' }),
  interval: seconds({ short: 'i', doc: 'ping: time between messages (default 1 s with --count)' }),
  flood: flag({ short: 'f', doc: 'one row without pause until Ctrl-C, --count or --duration' }),
  timeout: seconds({ short: 'W', doc: 'a message without an answer for so long is lost', default: '1' }),
  verify: flag({ doc: 'give every message its own content and check each byte at both ends' }),
  events: flag({ doc: 'also measure sleeping on completion events; alone in ping and flood' }),
  pin: custom(parsePin, {
    doc: "cores of the loops: CLIENT,SERVER when both ends are here, 'none' to let them float (default: two cores here, none otherwise)",
    value: 'CPUS',
  }),
  histogram: flag({ doc: 'draw the distribution of each row' }),
  expect: custom(gatesOver(METRICS), {
    doc: 'exit 1 unless every RDMA row passes: p99<5us, rate>1M, loss=0%',
    value: 'GATE',
    many: true,
  }),
  device: text({ short: 'd', doc: 'RDMA device; by default the one that owns the address', value: 'NAME' }),
  gidIndex: integer({ short: 'x', doc: 'row of the GID table to send from', max: 65535 }),
  mtu: choice(['256', '512', '1024', '2048', '4096'], {
    short: 'm',
    doc: 'path MTU in bytes; by default the smaller one of both ends',
  }),
  provider: choice(['auto', 'system', 'soft'], { doc: 'which verbs library answers', default: 'auto' }),
};
type Given = Input<typeof options>;
type Mode = 'table' | 'ping' | 'flood';

const TABLE_NS = 500e6;
const SWEEP_NS = 100e6;
const PING_INTERVAL_NS = 1e9;

export const spec = defineCommand({
  name: 'pingpong',
  summary: 'measure round-trip latency over every transport and operation',
  description: [
    'Sends a message, waits for its answer, and repeats: the time between is the round trip. Without arguments both ends run on this machine, as two processes on two cores, and a table shows RC, UC and UD over send, write, write-imm, read and atomics beside blocking and busy-polling kernel TCP and UDP.',
    'Between two machines one end runs `rdmakit pingpong --listen` and serves as many clients as come, the other `rdmakit pingpong HOST`; --ssh starts the far end by itself. All choices are made at the measuring end.',
    'With --count or --interval it works like ping(8): one row (RC send, unless --transport and --op say otherwise), a line for each message, a summary. Ctrl-C ends any mode and prints what was measured so far.',
    "With --cm the ends meet by rdma_cm alone, and a row is rping's exchange: the client sends where its data lies, the server reads it and says so, the client sends where it wants the echo, the server writes it there and says so. So either end may be rping of rdmacm-utils (`rping -s`, or `rping -c -a HOST`), whose data have 64 bytes unless its -S says more.",
    'Latencies are full round trips; for read and atomics the time to completion. A write arrives when its last byte changes in memory, a send and a write with immediate when their completion is polled. On UC and UD a message without an answer within --timeout is lost and counted, on RC it is a failure.',
  ],
  positionals: [
    { name: 'HOST', doc: 'the answering end; with --listen the address to listen on', optional: true },
  ],
  options,
  documents: true,
  examples: [
    { command: 'rdmakit pingpong', does: 'compares everything on this machine' },
    {
      command: 'rdmakit pingpong --sweep 1..1MiB -t rc -o send,write',
      does: 'shows how latency grows with the message',
    },
    { command: 'rdmakit pingpong --listen', does: 'answers others until Ctrl-C' },
    { command: 'rdmakit pingpong -c 5 -i 0.2 192.0.2.7', does: 'pings another machine over RC send' },
    { command: 'rdmakit pingpong --cm --verify 192.0.2.7', does: 'measures against `rping -s` over there' },
    {
      command: "rdmakit pingpong -t rc -o send --expect 'p99<5us' --json",
      does: 'fails in CI when the tail grows',
    },
  ],
  exits: [
    { code: ExitCode.badAnswer, when: 'an --expect gate was missed, or --verify found damaged messages' },
    { code: ExitCode.peer, when: 'the other end could not be reached, or a row failed' },
  ],
  async run(input, io) {
    checkCombination(input);
    return input.options.listen ? listenMode(input, io) : clientMode(input, io);
  },
});

function usage(what: string, remedy: string): RdmakitError {
  return new RdmakitError({ kind: 'usage', what, remedy });
}

function checkCombination({ options: given, args }: Given): void {
  const paced = given.count !== undefined || given.interval !== undefined;
  if (given.listen && given.ssh !== undefined)
    throw usage('--listen and --ssh exclude each other', 'give --ssh at the measuring end');
  if (given.ssh !== undefined && args[0] !== undefined)
    throw usage('--ssh HOST and HOST exclude each other', 'give one of them');
  if (given.announce && !given.listen)
    throw usage('--announce goes with --listen', 'add --listen, or leave it out');
  if (given.cm) checkCm(given);
  if (!given.listen && given.port === 0)
    throw usage('port 0 cannot be connected to', 'give the port the other end listens on');
  if (given.flood && given.interval !== undefined)
    throw usage('--flood and --interval exclude each other', 'leave one out');
  if ((paced || given.flood) && given.sweep !== undefined)
    throw usage('--sweep needs the table', 'leave out --count, --interval and --flood');
  if ((paced || given.flood) && given.iterations !== undefined)
    throw usage('--iterations is for the table', 'use --count');
  if (given.iterations !== undefined && given.duration !== undefined)
    throw usage('--iterations and --duration exclude each other', 'give one of them');
  for (const [name, value] of [
    ['--count', given.count],
    ['--iterations', given.iterations],
  ] as const) {
    if (value !== undefined && (!Number.isInteger(value) || value === 0))
      throw usage(`${name} must be a whole number above 0`, `give for example ${name} 10`);
  }
  if (given.timeout < 1e6) throw usage('--timeout is below 1 ms', 'give for example --timeout 100ms');
}

/** What the connection manager decides by itself, and what rping's exchange has not. */
function checkCm(given: Given['options']): void {
  const other = given.transport?.find((transport) => transport !== 'rc');
  if (other !== undefined) throw usage(`--cm connects RC, not ${other}`, 'leave out --transport, or --cm');
  if (given.op !== undefined)
    throw usage("--cm measures rping's exchange, not an --op", 'leave one of them out');
  for (const [name, value] of [
    ['--device', given.device],
    ['--gid-index', given.gidIndex],
    ['--mtu', given.mtu],
  ] as const) {
    if (value !== undefined)
      throw usage(
        `${name} is not ours to choose with --cm`,
        'leave it out: rdma_cm goes by the address and the route',
      );
  }
}

const portOf = ({ port, cm }: Given['options']): number => port ?? (cm ? RPING_PORT : DEFAULT_PORT);

async function listenMode({ options: given, args }: Given, io: Io): Promise<undefined> {
  const stop = new AbortController();
  io.stop.addEventListener('abort', () => stop.abort(), { once: true });
  if (given.announce) {
    // Whoever started us keeps our input open; its end is theirs.
    process.stdin
      .on('end', () => stop.abort())
      .on('error', () => stop.abort())
      .resume();
  }
  const common = {
    host: args[0],
    port: portOf(given),
    provider: given.provider,
    signal: stop.signal,
    onListening: (address: string, port: number) => {
      if (given.announce) io.raw(`${JSON.stringify({ schema: ListenDocument.id, address, port })}\n`);
      else io.note(`listening on ${address} port ${port}${given.cm ? ' of rdma_cm' : ''}; Ctrl-C ends`);
    },
  };
  if (given.cm) {
    await serveRping({
      ...common,
      core: given.pin?.[0] ?? -1,
      events: given.events,
      onChange: (accepted, connected) =>
        given.announce || io.note(`${accepted} clients so far, ${connected} now`),
      onFailure: (failed, why) =>
        io.warn(
          `${failed} client${failed === 1 ? '' : 's'} refused or ended with an error; the first: ${why}`,
        ),
    });
  } else
    await serveClients({
      ...common,
      cores: given.pin ?? [],
      device: given.device,
      gidIndex: given.gidIndex,
      onClient: (address) => given.announce || io.note(`${address} connected`),
      onGone: (address, error) => {
        if (error === undefined) given.announce || io.note(`${address} is done`);
        else if (!stop.signal.aborted)
          io.warn(`${address}: ${error instanceof Error ? error.message : String(error)}`);
      },
    });
  if (given.announce) process.stdin.destroy();
}

function modeOf({ options: given }: Given): Mode {
  if (given.flood) return 'flood';
  return given.count !== undefined || given.interval !== undefined ? 'ping' : 'table';
}

function requestOf({ options: given }: Given, mode: Mode): PlanRequest {
  const operations = given.op?.flatMap((word): Operation[] =>
    word === 'atomic' ? ['fetch-add', 'cmp-swap'] : [word],
  );
  const sizes_bytes = given.sweep === undefined ? [given.size] : sweepSizes(given.sweep);
  if (mode === 'table') {
    return {
      transports: given.transport,
      operations,
      sizes_bytes,
      events: given.events ? 'beside' : undefined,
    };
  }
  if ((given.transport?.length ?? 1) > 1 || (operations?.length ?? 1) > 1) {
    throw usage('ping and flood measure one row', 'give one --transport and one --op');
  }
  const transports = given.transport ?? ['rc'];
  return {
    transports,
    operations: operations ?? ['send'],
    sizes_bytes,
    events: given.events ? 'only' : 'none',
  };
}

function settingsOf({ options: given }: Given, mode: Mode, core: number): Settings {
  const table = given.iterations === undefined ? (given.sweep === undefined ? TABLE_NS : SWEEP_NS) : 0;
  return {
    iterations: (mode === 'table' ? given.iterations : given.count) ?? 0,
    duration_ns: given.duration ?? (mode === 'table' ? table : 0),
    interval_ns: mode === 'ping' ? (given.interval ?? PING_INTERVAL_NS) : 0,
    timeout_ns: given.timeout,
    verify: given.verify,
    record: mode === 'ping',
    warmup: mode === 'ping' ? 0 : undefined,
    mtuBytes: given.mtu === undefined ? undefined : (Number(given.mtu) as 256 | 512 | 1024 | 2048 | 4096),
    core,
  };
}

function peerOf({ options: given, args }: Given): Peer {
  if (given.ssh !== undefined) return { kind: 'ssh', host: given.ssh, program: given.sshProgram };
  return args[0] === undefined ? { kind: 'local' } : { kind: 'host', host: args[0], port: portOf(given) };
}

function coresOf({ options: given }: Given, peer: Peer): { client: number; server: number } {
  if (given.pin !== undefined) return { client: given.pin[0] ?? -1, server: given.pin[1] ?? -1 };
  return peer.kind === 'local' ? coresForBothEnds(allowedCpus()) : { client: -1, server: -1 };
}

/** Options of ours that an answering end which we start must get too. Names of devices mean something on one machine only. */
function listenWords({ options: given }: Given, peer: Peer, core: number): string[] {
  const words = ['--provider', given.provider, '--pin', core < 0 ? 'none' : String(core)];
  if (given.cm) words.push('--cm', ...(given.events ? ['--events'] : []));
  if (peer.kind === 'local' && given.device !== undefined) words.push('--device', given.device);
  if (peer.kind === 'local' && given.gidIndex !== undefined)
    words.push('--gid-index', String(given.gidIndex));
  return words;
}

async function clientMode(input: Given, io: Io): Promise<ExitCode | undefined> {
  const { options: given } = input;
  const mode = modeOf(input);
  const request = requestOf(input, mode);
  if (!given.cm) requireSomeRow(request);
  const peer = peerOf(input);
  const cores = coresOf(input, peer);
  const signal = io.stop;
  let reached: Measurable;
  try {
    reached = await (given.cm ? byCm : bySession)(
      input,
      request,
      peer,
      listenWords(input, peer, cores.server),
      signal,
    );
  } catch (error) {
    if (signal.aborted) return undefined;
    throw error;
  }
  if (peer.kind === 'local' && cores.client < 0 && given.pin === undefined) {
    io.warn(
      'this machine has one core: the two ends take turns on it, and polling wastes the turns; try --events',
    );
  }
  const view = mode === 'table' ? tableView(io) : pingView(io, mode, reached.name);
  try {
    const report = await reached.measure({
      settings: settingsOf(input, mode, cores.client),
      gates: given.expect
        .flat()
        .map(
          (gate): Gate => ({ text: gate.text, metric: gate.metric, passes: (value) => passes(gate, value) }),
        ),
      signal,
      ...view.hooks,
    });
    view.done();
    show(report, mode, given.histogram, reached.name, io);
    return exitCodeOf(report);
  } catch (error) {
    view.done();
    // Stopped while the ends were still agreeing: nothing was measured, nothing is wrong.
    if (signal.aborted && !(error instanceof RdmakitError)) return undefined;
    throw error;
  } finally {
    await reached.close();
  }
}

/** An end to measure against, however it is connected. */
interface Measurable {
  readonly name: string;
  measure(options: Omit<RunOptions, 'request' | 'wish'>): Promise<Report>;
  close(): Promise<void>;
}

async function bySession(
  { options: given }: Given,
  request: PlanRequest,
  peer: Peer,
  words: string[],
  signal: AbortSignal,
): Promise<Measurable> {
  const { session, name, close } = await reach(peer, words, signal);
  const wish = { provider: given.provider, device: given.device, gidIndex: given.gidIndex };
  return { name, close, measure: (options) => run(session, { ...options, request, wish }) };
}

async function byCm(
  { options: given }: Given,
  { sizes_bytes, events }: PlanRequest,
  peer: Peer,
  words: string[],
  signal: AbortSignal,
): Promise<Measurable> {
  const { rows, skipped } = rpingRows(sizes_bytes, events);
  if (rows.length === 0) throw usage(skipped[0]?.reason ?? 'no size was given', 'choose another --size');
  const { host, port, name, close } = await findAnswering(peer, words, signal);
  const { provider } = given;
  return {
    name,
    close,
    measure: (options) => runRping({ ...options, host, port, provider, sizes_bytes, events }),
  };
}

interface View {
  readonly hooks: Pick<RunOptions, 'onPlan' | 'onRowStart' | 'onRow' | 'onProgress'>;
  done(): void;
}

function tableView(io: Io): View {
  let bar: ReturnType<Io['progress']> | undefined;
  let rows = 0;
  return {
    hooks: {
      onPlan: (plan) => {
        bar = io.progress(plan.rows.length, 'pingpong');
      },
      onRowStart: (row) => bar?.update(rows, rowName(row)),
      onRow: (row) => {
        bar?.update(++rows);
        io.event(RowDocument, row);
      },
    },
    done: () => bar?.stop(),
  };
}

/** Live lines as ping prints them; flood shows a running count on a terminal. */
function pingView(io: Io, mode: Mode, peer: string): View {
  let size_bytes = 0;
  let shown = 0;
  return {
    hooks: {
      onRowStart: (row) => {
        size_bytes = row.size_bytes;
        io.line(
          `PINGPONG ${peer}: ${row.transport} ${row.operation}, ${compactSize(size_bytes)}, ${row.wait}`,
        );
      },
      onRow: (row) => io.event(RowDocument, row),
      onProgress: (snapshot, samples) => {
        for (const { sequence, rtt_ns } of samples) {
          io.event(SampleDocument, {
            sequence,
            size_bytes,
            lost: rtt_ns === undefined,
            ...(rtt_ns === undefined ? {} : { latency_ns: rtt_ns }),
          });
          const bytes = `${size_bytes} byte${size_bytes === 1 ? '' : 's'}`;
          if (rtt_ns === undefined) io.line(`no answer from ${peer}: seq=${sequence}`);
          else io.line(`${bytes} from ${peer}: seq=${sequence} time=${microseconds(rtt_ns)} us`);
        }
        if (mode === 'flood' && io.live && Date.now() - shown > 200) {
          shown = Date.now();
          io.raw(`\r${compactCount(snapshot.completed)} answered, ${snapshot.lost} lost `);
        }
      },
    },
    done: () => {
      if (shown > 0) io.raw('\n');
    },
  };
}

function show(report: Report, mode: Mode, pictures: boolean, peer: string, io: Io): void {
  io.result(PingpongDocument, report);
  if (mode === 'table' && report.rows.length > 0) {
    io.line(`round-trip time in microseconds; ${headline(report)}`);
    io.table(latencyTable(report.rows, io.tableColumns));
  }
  if (mode !== 'table')
    for (const row of report.rows) for (const line of summaryLines(row, peer)) io.line(line);
  if (pictures) {
    for (const row of report.rows) {
      io.line();
      for (const line of histogramPicture(row, io.columns)) io.line(line);
    }
  }
  for (const line of remarks(report)) io.note(line);
  for (const line of gateLines(report)) io.note(line);
}

function exitCodeOf(report: Report): ExitCode | undefined {
  const failed = (row: RowReport): boolean => row.failure !== undefined;
  if (report.rows.some(failed)) return ExitCode.peer;
  const damaged = report.rows.some((row) => row.mismatches > 0);
  return damaged || report.gates.some((gate) => !gate.passed) ? ExitCode.badAnswer : undefined;
}
