/**
 * Delay, jitter, loss, duplication and reordering by the kernel's netem, where it has one: frames that arrive at one half of a
 * link are redirected to the other, whose root is netem. What netem draws can be repeated only since it takes a seed (Linux
 * 6.7); before, it is used for links without chance alone.
 */

import { spawnSync } from 'node:child_process';
import type { Quality } from '../model/schema.ts';

/** Nothing; links without chance; all links. */
export type Netem = 'none' | 'steady' | 'seeded';

/** Faster than any link: with a rate of its own netem keeps frames in order when their delays differ. */
const IN_ORDER = 'rate 1000gbit';
const FRAME_BYTES = 100;
const [LIMIT_MIN, LIMIT_MAX] = [1000, 200_000];

const byChance = ({ jitter_ns, loss_ratio, duplicate_ratio, reorder_ratio }: Quality): boolean =>
  Boolean(jitter_ns || loss_ratio || duplicate_ratio || reorder_ratio);

export function netemCan(netem: Netem, quality: Quality): boolean {
  return netem === 'seeded' || (netem === 'steady' && !byChance(quality));
}

/** Microseconds with all their digits: tc reads decimals. */
const time = (ns: number): string => `${Math.round(ns) / 1000}us`;
const percent = (ratio: number): string => `${Number((ratio * 100).toPrecision(9))}%`;

/** Lines for tc(8): what arrives at `from` leaves at `to` with the quality. `rate_bps` of the link sizes the queue of what is on the way. */
export function netemLines(
  from: string,
  to: string,
  quality: Quality,
  rate_bps: number | undefined,
  seed: number,
): string[] {
  const { delay_ns = 0, jitter_ns = 0, loss_ratio, duplicate_ratio, reorder_ratio } = quality;
  const inFlight =
    rate_bps === undefined ? LIMIT_MAX : ((delay_ns + 2 * jitter_ns) * rate_bps) / 8e9 / FRAME_BYTES;
  const limit = Math.ceil(Math.min(LIMIT_MAX, LIMIT_MIN + inFlight));
  const words = [`qdisc add dev ${to} root netem limit ${limit} delay ${time(delay_ns)}`];
  if (jitter_ns > 0) words.push(`${time(jitter_ns)} ${IN_ORDER}`);
  if (loss_ratio) words.push(`loss random ${percent(loss_ratio)}`);
  if (duplicate_ratio) words.push(`duplicate ${percent(duplicate_ratio)}`);
  // Early is what skips the delay: without one there is nothing to skip, and tc refuses it.
  if (reorder_ratio && delay_ns > 0) words.push(`reorder ${percent(reorder_ratio)}`);
  if (byChance(quality)) words.push(`seed ${seed}`);
  return [
    words.join(' '),
    `qdisc add dev ${from} ingress`,
    `filter add dev ${from} parent ffff: matchall action mirred egress redirect dev ${to}`,
  ];
}

/** Tries it, in a network namespace that ends with the trial. */
const TRIAL = [
  'tc qdisc add dev lo root netem delay 1us',
  'tc qdisc add dev lo ingress',
  'tc filter add dev lo parent ffff: matchall action mirred egress redirect dev lo',
  'echo steady',
  'tc qdisc replace dev lo root netem loss random 1% seed 1',
  'echo seeded',
].join(' && ');

/** What this kernel and its tc(8) can. */
export function netemHere(): Netem {
  const { stdout } = spawnSync('unshare', ['--net', 'sh', '-c', TRIAL], { encoding: 'utf8' });
  const last = (stdout ?? '').trim().split('\n').at(-1);
  return last === 'steady' || last === 'seeded' ? last : 'none';
}
