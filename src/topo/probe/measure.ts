/**
 * Rate, round-trip time and loss from one node to another, with UDP packets. The rate is what arrives when more is sent
 * than fits: the sender begins slowly and speeds up until the receiver no longer follows, so that slow links are not
 * flooded and fast ones not underrated. It counts whole Ethernet frames, as the capacities of a topology do.
 */

import type { Socket } from 'node:dgram';
import { socketIn } from './sockets.ts';

const PAYLOAD_BYTES = 1400;
/** Ethernet, IPv4 and UDP headers. */
const HEADER_BYTES = 42;
const FIRST_BPS = 4e6;
const RTT_SAMPLES = 25;
/** Loss packets are small and slow, so that no queue fills. */
const LOSS_BYTES = 60;

export interface ProbeOptions {
  /** How long each rate is measured. */
  time_ns: number;
  /** Packets that are counted for the loss. */
  lossPackets: number;
  /** No faster than this. */
  limit_bps: number;
  signal?: AbortSignal | undefined;
}

export interface Measured {
  rate_bps: number;
  rtt_ns: number | null;
  loss_ratio: number;
}

const now = (): number => Number(process.hrtime.bigint());
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

interface Arrivals {
  times_ns: number[];
}

/** Packets of one train, told apart by its number in the first four bytes. */
function listen(socket: Socket): Map<number, Arrivals> {
  const trains = new Map<number, Arrivals>();
  socket.on('message', (message) => {
    const at = now();
    if (message.length < 4) return;
    const train = message.readUInt32BE(0);
    const found = trains.get(train);
    if (found) found.times_ns.push(at);
    else trains.set(train, { times_ns: [at] });
  });
  return trains;
}

interface Target {
  address: string;
  port: number;
}

/** Sends evenly at a rate for a time; how many packets that were. */
async function sendTrain(
  socket: Socket,
  to: Target,
  train: number,
  bytes: number,
  rate_bps: number,
  time_ns: number,
  signal?: AbortSignal,
): Promise<number> {
  const packet = Buffer.alloc(bytes);
  packet.writeUInt32BE(train, 0);
  const gap_ns = ((bytes + HEADER_BYTES) * 8e9) / rate_bps;
  const begin = now();
  let sent = 0;
  for (;;) {
    const due = Math.min(
      Math.floor(Math.min(now() - begin, time_ns) / gap_ns) + 1,
      Math.ceil(time_ns / gap_ns),
    );
    // Few at a time: sender and receiver share this thread.
    for (let i = 0; sent < due && i < 64; i++, sent++) socket.send(packet, to.port, to.address);
    if (sent >= Math.ceil(time_ns / gap_ns) || now() - begin > time_ns || signal?.aborted) return sent;
    await sleep(sent < due ? 0 : 1);
  }
}

/** Rate of what arrived, without the first fifth: a bucket that was full lets a burst through. */
function arrivalRate({ times_ns }: Arrivals): number {
  const from = Math.floor(times_ns.length / 5);
  const span = (times_ns.at(-1) ?? 0) - (times_ns[from] ?? 0);
  return span > 0 ? ((times_ns.length - 1 - from) * (PAYLOAD_BYTES + HEADER_BYTES) * 8e9) / span : 0;
}

async function roundTrip(from: Socket, to: Socket, target: Target): Promise<number | null> {
  const echo = (message: Buffer, sender: { port: number; address: string }): void =>
    to.send(message, sender.port, sender.address);
  to.on('message', echo);
  let least: number | null = null;
  for (let i = 0; i < RTT_SAMPLES; i++) {
    const begin = now();
    const answer = new Promise<number>((resolve) => from.once('message', () => resolve(now() - begin)));
    from.send('x', target.port, target.address);
    const time = await Promise.race([answer, sleep(2000).then(() => undefined)]);
    from.removeAllListeners('message');
    if (time !== undefined && (least === null || time < least)) least = time;
  }
  to.off('message', echo);
  return least;
}

/** Measures one direction. `from` and `to` are namespaces; `address` is the far node's. */
export async function measure(
  from: string,
  to: string,
  address: string,
  options: ProbeOptions,
): Promise<Measured> {
  const { time_ns, signal } = options;
  const sender = await socketIn(from);
  const receiver = await socketIn(to);
  try {
    const target = { address, port: receiver.address().port };
    const rtt_ns = await roundTrip(sender, receiver, target);
    const settle = async (): Promise<void> => sleep(120 + (rtt_ns ?? 0) / 1e6);
    const trains = listen(receiver);
    let train = 0;
    let rate = FIRST_BPS;
    let got = 0;
    for (; ; rate = Math.min(rate * 4, options.limit_bps)) {
      train += 1;
      // Long enough for the queue to fill, 50 ms by default, and for some hundred packets.
      const sent = await sendTrain(sender, target, train, PAYLOAD_BYTES, rate, 250e6, signal);
      await settle();
      const arrived = trains.get(train) ?? { times_ns: [] };
      got = arrivalRate(arrived);
      if (arrived.times_ns.length < sent * 0.85 || rate >= options.limit_bps || signal?.aborted) break;
    }
    // A quarter more than came through fills the link, unless the ramp was cut short by a pause of this process: then it
    // all arrives, and more is tried.
    let rate_bps = 0;
    for (let again = 0; again < 8; again++) {
      const offered = Math.min(Math.max(got * 1.25, 100_000), options.limit_bps);
      train += 1;
      const sent = await sendTrain(sender, target, train, PAYLOAD_BYTES, offered, time_ns, signal);
      await settle();
      const arrived = trains.get(train) ?? { times_ns: [] };
      rate_bps = arrivalRate(arrived);
      // What was sent counts, not what was meant to be: a busy machine sends less.
      if (arrived.times_ns.length < sent * 0.93 || offered >= options.limit_bps || signal?.aborted) break;
      got = offered * 1.4;
    }
    train += 1;
    // A tenth of the rate, but no more packets than this thread handles.
    const pace = Math.min(Math.max(rate_bps / 10, 50_000), 8e6);
    const loss_ns = (options.lossPackets * (LOSS_BYTES + HEADER_BYTES) * 8e9) / pace;
    const sent = await sendTrain(sender, target, train, LOSS_BYTES, pace, loss_ns, signal);
    await settle();
    const arrived = trains.get(train)?.times_ns.length ?? 0;
    const loss_ratio = sent === 0 ? 0 : Math.max(0, 1 - arrived / sent);
    // What is lost on the way had its share of the link.
    return { rate_bps: loss_ratio < 1 ? rate_bps / (1 - loss_ratio) : 0, rtt_ns, loss_ratio };
  } finally {
    sender.close();
    receiver.close();
  }
}
