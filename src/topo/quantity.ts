/** Rates, times and ratios as topology files write them: `100Gbps`, `0.001ms`, `0.1%`. Strict: all of the text or nothing. */

const RATES: Record<string, number> = { bps: 1, kbps: 1e3, mbps: 1e6, gbps: 1e9, tbps: 1e12 };
const TIMES: Record<string, number> = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9 };
const PATTERN = /^(\d+(?:\.\d+)?(?:[eE][+-]?\d{1,2})?) ?([A-Za-zµ%/]*)$/;

function split(text: string): { value: number; unit: string } | undefined {
  const match = PATTERN.exec(text.trim());
  return match ? { value: Number(match[1]), unit: match[2] ?? '' } : undefined;
}

/** Bits a second; `Gbit`, `Gbit/s`, `Gb/s` and `G` are read as `Gbps`. A bare number is multiplied by `bare`. */
export function rateOf(text: string, bare?: number): number | undefined {
  const parts = split(text);
  if (!parts) return undefined;
  if (parts.unit === '') return bare === undefined ? undefined : parts.value * bare;
  const bytes = /^([kKmMgGtT]?)B(?:ps|\/s)$/.exec(parts.unit);
  if (bytes) return parts.value * 8 * (RATES[`${bytes[1]?.toLowerCase()}bps`] ?? 1);
  const unit = parts.unit.toLowerCase().replace(/(bit\/s|bits|bit|b\/s|bps|b)$/, '');
  const factor = /^[kmgt]?$/.test(unit) ? RATES[`${unit}bps`] : undefined;
  return factor === undefined ? undefined : parts.value * factor;
}

/** Nanoseconds; a bare number is multiplied by `bare`. */
export function timeOf(text: string, bare?: number): number | undefined {
  const parts = split(text);
  if (!parts) return undefined;
  const factor = parts.unit === '' ? bare : TIMES[parts.unit];
  return factor === undefined ? undefined : parts.value * factor;
}

/** `0.1%` is 0.001; a bare number is a ratio, or a percentage with `percent`. */
export function ratioOf(text: string, percent = false): number | undefined {
  const parts = split(text);
  if (!parts || (parts.unit !== '' && parts.unit !== '%')) return undefined;
  // The decimal point is moved in the text: a division would change the last digit.
  const digits = text.trim().replace(/[ %]+$/, '');
  const shifted = /[eE]/.test(digits) ? parts.value / 100 : Number(`${digits}e-2`);
  const value = parts.unit === '%' || percent ? shifted : parts.value;
  return value <= 1 ? value : undefined;
}

function exact(value: number, steps: readonly (readonly [string, number])[]): string {
  let [unit, factor] = steps[0] ?? ['', 1];
  for (const [name, size] of steps) if (Math.abs(value) >= size) [unit, factor] = [name, size];
  const text = String(value / factor);
  // A division may lose the last digit; then the smallest unit says it exactly.
  if (Number(text) * factor === value && !text.includes('e')) return `${text}${unit}`;
  return `${value}${steps[0]?.[0] ?? ''}`;
}

const RATE_STEPS = [
  ['bps', 1],
  ['kbps', 1e3],
  ['Mbps', 1e6],
  ['Gbps', 1e9],
  ['Tbps', 1e12],
] as const;
const TIME_STEPS = [
  ['ns', 1],
  ['us', 1e3],
  ['ms', 1e6],
  ['s', 1e9],
] as const;

/** Exact, in the largest unit that fits: 1e11 is `100Gbps`. rateOf() gives the same number back. */
export function exactRate(value_bps: number): string {
  return exact(value_bps, RATE_STEPS);
}

/** Exact, in the largest unit that fits: 1500 is `1.5us`. timeOf() gives the same number back. */
export function exactTime(value_ns: number): string {
  return exact(value_ns, TIME_STEPS);
}

function short(value: number, steps: readonly (readonly [string, number])[]): string {
  let [unit, factor] = steps[0] ?? ['', 1];
  for (const [name, size] of steps) if (Math.abs(value) >= size) [unit, factor] = [name, size];
  return `${Number((value / factor).toPrecision(3))}${unit}`;
}

/** Three digits, for pictures: `33.3Gbps`. */
export function shortRate(value_bps: number): string {
  return short(value_bps, RATE_STEPS);
}

/** Three digits, for pictures: `1.5us`. */
export function shortTime(value_ns: number): string {
  return short(value_ns, TIME_STEPS);
}

/** A ratio as a percentage: 0.001 is `0.1%`. ratioOf() gives the same number back. */
export function exactPercent(ratio: number): string {
  return `${Number((ratio * 100).toPrecision(15))}%`;
}
