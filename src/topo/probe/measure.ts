/**
 * Rate, round-trip time and loss from one node to another, with UDP packets of rdmakit-probe. The rate is what arrives when
 * more is sent than fits, with what is lost at random added again: TCP would measure its own reaction to the loss. The sender
 * begins slowly and speeds up until the receiver no longer follows, so that slow links are not flooded and fast ones not
 * underrated. Rates are of whole Ethernet frames, as the capacities of a topology are.
 */

import { randomBytes } from 'node:crypto';
import type { Agent } from './agent.ts';
import { interval } from './interval.ts';

/** Ethernet, IPv4 and UDP headers. */
const HEADER_BYTES = 42;
const FIRST_BPS = 256e3;
/** Each step of the ramp is this much faster. */
const RAMP = 8;
const RAMP_NS = 250e6;
/** Faster than what came through by this much fills the link. */
const OVERLOAD = 1.5;
const ASKED = 40;
const ASKED_GAP_NS = 10e6;
/** Packets that count losses are as small as can be and leave half of the link free, so that no queue fills. */
const LOSS_BYTES = 32;
const LOSS_SHARE = 0.5;
const LOSS_MAX_PACKETS_PER_S = 50_000;
const MAX_PACKETS = 4_000_000;

export interface ProbeOptions {
  /** How long the rate is measured, and at most the loss. */
  time_ns: number;
  /** Packets that are counted for the loss, if the time suffices. */
  lossPackets: number;
  /** No faster than this. */
  limit_bps: number;
  signal?: AbortSignal | undefined;
}

export interface Measured {
  rate_bps: number;
  /** False when not even the fastest that was sent filled the way: the rate is a lower bound. */
  saturated: boolean;
  rtt_ns: number | null;
  loss_ratio: number;
  /** Interval of 95 % confidence. */
  loss_low: number;
  loss_high: number;
}

interface Train {
  /** Packets that were sent. */
  sent: number;
  /** Different packets that arrived. */
  arrived: number;
  /** Of what arrived, over its middle. */
  rate_bps: number;
  /** The sender had to wait for its own queue. */
  blocked: boolean;
  /** Packets that the receiver's machine was too slow for: they say nothing of the way. */
  overflowed: number;
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

class Way {
  readonly #from: Agent;
  readonly #to: Agent;
  readonly #address: string;
  /** Until everything that was sent has arrived: queues are tens of milliseconds long. */
  settle_ms = 150;

  constructor(from: Agent, to: Agent, address: string) {
    this.#from = from;
    this.#to = to;
    this.#address = address;
  }

  async #expect(packets: number): Promise<string> {
    const id = randomBytes(8).toString('hex');
    await this.#to.ask(`expect ${id} ${packets}`, 'expecting');
    return id;
  }

  async mtuBytes(): Promise<number> {
    const [mtu = 1500] = await this.#from.ask(`mtu ${this.#address}`, 'mtu');
    return mtu;
  }

  async roundTrips(): Promise<{ answered: number; least_ns: number }> {
    const id = await this.#expect(1);
    const [answered = 0, least_ns = 0] = await this.#from.ask(
      `ask ${this.#address} ${this.#to.port} ${id} ${ASKED} ${ASKED_GAP_NS}`,
      'answered',
    );
    return { answered, least_ns };
  }

  /** Sends frames of `bytes` + headers evenly at a rate. */
  async train(bytes: number, rate_bps: number, packets: number): Promise<Train> {
    const count = Math.min(MAX_PACKETS, Math.max(1, Math.ceil(packets)));
    const id = await this.#expect(count);
    const gap_ns = Math.max(1, Math.round(((bytes + HEADER_BYTES) * 8e9) / rate_bps));
    const [sent = 0, , blocked = 0] = await this.#from.ask(
      `send ${this.#address} ${this.#to.port} ${id} ${bytes} ${count} ${gap_ns}`,
      'sent',
    );
    await sleep(this.settle_ms);
    const [, arrived = 0, rate = 0, overflowed = 0] = await this.#to.ask('report', 'counted');
    return { sent, arrived, rate_bps: rate, blocked: blocked > 0, overflowed };
  }
}

/** Measures one direction; `address` is how `from` reaches `to`. */
export async function measure(
  from: Agent,
  to: Agent,
  address: string,
  options: ProbeOptions,
): Promise<Measured> {
  const { time_ns, limit_bps, signal } = options;
  const way = new Way(from, to, address);
  const { answered, least_ns } = await way.roundTrips();
  if (answered === 0)
    return { rate_bps: 0, saturated: false, rtt_ns: null, loss_ratio: 1, loss_low: 1, loss_high: 1 };
  way.settle_ms += least_ns / 1e6;
  const bytes = Math.min(1472, (await way.mtuBytes()) - 28);
  const packets = (rate: number, ns: number): number => (rate * ns) / 8e9 / (bytes + HEADER_BYTES);

  // The loss of both directions together, for the first steps.
  let loss = 1 - Math.sqrt(answered / ASKED);
  let got_bps = 0;
  for (let rate = Math.min(FIRST_BPS, limit_bps); ; rate = Math.min(rate * RAMP, limit_bps)) {
    // On the slowest steps some packets must do.
    const { rate_bps, blocked } = await way.train(bytes, rate, Math.max(6, packets(rate, RAMP_NS)));
    got_bps = Math.max(got_bps, rate_bps / (1 - loss));
    if (blocked || rate_bps < rate * (1 - loss) * 0.6 || rate >= limit_bps || signal?.aborted) break;
  }
  let rate_bps = 0;
  let saturated = false;
  for (let again = 0; again < 8 && !saturated && !signal?.aborted; again++) {
    const offered = Math.min(Math.max(got_bps * OVERLOAD, FIRST_BPS), limit_bps);
    const train = await way.train(bytes, offered, Math.max(30, packets(offered, time_ns)));
    rate_bps = train.rate_bps;
    saturated = train.blocked || (rate_bps > 0 && rate_bps < offered * (1 - loss) * 0.8);
    got_bps = Math.max(rate_bps / (1 - loss), got_bps);
    if (offered >= limit_bps) break;
  }
  // Of the long train: the short ones of the ramp pass through a token bucket in one burst when their sender was late.
  const lossRate = Math.min(
    Math.max(rate_bps, FIRST_BPS / RAMP) * LOSS_SHARE,
    LOSS_MAX_PACKETS_PER_S * 8 * (LOSS_BYTES + HEADER_BYTES),
  );
  const lossCount = Math.min(options.lossPackets, (lossRate * time_ns) / 8e9 / (LOSS_BYTES + HEADER_BYTES));
  const counted = await way.train(LOSS_BYTES, lossRate, lossCount);
  const sent = Math.max(1, counted.sent - counted.overflowed);
  const lost = Math.max(0, sent - counted.arrived);
  loss = lost / sent;
  const { low, high } = interval(lost, sent);
  return {
    rate_bps: loss < 1 ? rate_bps / (1 - loss) : 0,
    saturated,
    rtt_ns: least_ns,
    loss_ratio: loss,
    loss_low: low,
    loss_high: high,
  };
}
