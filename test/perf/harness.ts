/**
 * Measuring for `npm run perf`: quantities are sampled in interleaved rounds, so that a machine that slows down slows all of
 * them down, and compared by their medians. Pure arithmetic; run.ts finds the files and prints.
 */

/** One quantity that can be sampled again and again. */
export interface Probe {
  /** Short and unique within its file: `rc-send-64`. */
  name: string;
  /** `us`, `M/s`, `GB/s`. */
  unit: string;
  /** One measurement, in `unit`. */
  sample(): Promise<number>;
}

/** A demand on the median of a probe, absolute or as a multiple of another probe's median in the same rounds. */
export interface Target {
  probe: string;
  comparison: '<=' | '>=';
  /** The limit, or with `of` the factor. */
  limit: number;
  of?: string;
}

/** How much trouble to take. */
export interface Effort {
  rounds: number;
  /** Of one measurement by time. */
  duration_ms: number;
  /** Multiplies counts and waiting times: 1, or less when it must be short. */
  scale: number;
}

/** What a file in test/perf/ named perf-*.ts makes of the effort: its export `plan`. The probes are interleaved with each other. */
export interface Plan {
  title: string;
  rounds: number;
  probes: Probe[];
  targets: Target[];
  /** Before the first and after the last round. */
  setUp?(): Promise<void>;
  tearDown?(): Promise<void>;
}

export interface Verdict {
  target: Target;
  /** The median, or the ratio of medians with `of`. */
  measured: number;
  ok: boolean;
}

/** The middle of the values, or the mean of the two middle ones; NaN for none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

/** Samples all the probes `rounds` times, one after the other in each round. */
export async function sampleAll(plan: Plan): Promise<Map<string, number[]>> {
  const samples = new Map<string, number[]>(plan.probes.map(({ name }) => [name, []]));
  await plan.setUp?.();
  try {
    for (let round = 0; round < plan.rounds; round++) {
      for (const probe of plan.probes) samples.get(probe.name)?.push(await probe.sample());
    }
  } finally {
    await plan.tearDown?.();
  }
  return samples;
}

/** Compares the medians with the targets. A probe that was not measured meets none. */
export function judge(
  targets: readonly Target[],
  samples: ReadonlyMap<string, readonly number[]>,
): Verdict[] {
  const medianOf = (name: string): number => median(samples.get(name) ?? []);
  return targets.map((target) => {
    const measured = target.of ? medianOf(target.probe) / medianOf(target.of) : medianOf(target.probe);
    const ok = target.comparison === '<=' ? measured <= target.limit : measured >= target.limit;
    return { target, measured, ok };
  });
}
