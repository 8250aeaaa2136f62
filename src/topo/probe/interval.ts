/** The interval of a proportion (Wilson, 1927): exact enough for counts of any size, and within 0..1. */

/** Two-sided 95 %. */
const Z = 1.959964;

/** Where the ratio lies of which `hits` in `trials` were seen; `z` is the confidence in standard deviations. */
export function interval(hits: number, trials: number, z = Z): { low: number; high: number } {
  if (trials <= 0) return { low: 0, high: 1 };
  const share = hits / trials;
  const square = z * z;
  const middle = share + square / (2 * trials);
  const half = z * Math.sqrt((share * (1 - share)) / trials + square / (4 * trials * trials));
  const whole = 1 + square / trials;
  return {
    low: hits === 0 ? 0 : Math.max(0, (middle - half) / whole),
    high: hits === trials ? 1 : Math.min(1, (middle + half) / whole),
  };
}
