/** Rates, times and ratios as topology files write them: `100Gbps`, `0.001ms`, `0.1%`. Strict: all of the text or nothing. */

/** Units as powers of ten. */
const RATES: Record<string, number> = { '': 0, k: 3, m: 6, g: 9, t: 12 };
const TIMES: Record<string, number> = { ns: 0, us: 3, µs: 3, ms: 6, s: 9 };
const PATTERN = /^(\d+(?:\.\d+)?(?:[eE][+-]?\d{1,2})?) ?([A-Za-zµ%/]*)$/;

function split(text: string): { digits: string; unit: string } | undefined {
  const match = PATTERN.exec(text.trim());
  return match ? { digits: match[1] ?? '', unit: match[2] ?? '' } : undefined;
}

/** digits x 10^power. The decimal point is moved in the text: a multiplication would change the last digit. */
function shifted(digits: string, power: number): number {
  const [mantissa, exponent = '0'] = digits.toLowerCase().split('e');
  return Number(`${mantissa}e${Number(exponent) + power}`);
}

/** Bits a second; `Gbit`, `Gbit/s`, `Gb/s` and `G` are read as `Gbps`. A bare number is multiplied by `bare`. */
export function rateOf(text: string, bare?: number): number | undefined {
  const parts = split(text);
  if (!parts) return undefined;
  if (parts.unit === '') return bare === undefined ? undefined : Number(parts.digits) * bare;
  const bytes = /^([kKmMgGtT]?)B(?:ps|\/s)$/.exec(parts.unit);
  if (bytes) return 8 * shifted(parts.digits, RATES[bytes[1]?.toLowerCase() ?? ''] ?? 0);
  const power = RATES[parts.unit.toLowerCase().replace(/(bit\/s|bits|bit|b\/s|bps|b)$/, '')];
  return power === undefined ? undefined : shifted(parts.digits, power);
}

/** Nanoseconds; a bare number is multiplied by `bare`. */
export function timeOf(text: string, bare?: number): number | undefined {
  const parts = split(text);
  if (!parts) return undefined;
  if (parts.unit === '') return bare === undefined ? undefined : Number(parts.digits) * bare;
  const power = TIMES[parts.unit];
  return power === undefined ? undefined : shifted(parts.digits, power);
}

/** `0.1%` is 0.001; a bare number is a ratio, or a percentage with `percent`. */
export function ratioOf(text: string, percent = false): number | undefined {
  const parts = split(text);
  if (!parts || (parts.unit !== '' && parts.unit !== '%')) return undefined;
  const value = parts.unit === '%' || percent ? shifted(parts.digits, -2) : Number(parts.digits);
  return value <= 1 ? value : undefined;
}

/** Unit and power of ten, rising. */
type Steps = readonly (readonly [string, number])[];

function step(value: number, steps: Steps): readonly [string, number] {
  return steps.findLast(([, power]) => Math.abs(value) >= 10 ** power) ?? steps[0] ?? ['', 0];
}

function exact(value: number, steps: Steps): string {
  const [unit, power] = step(value, steps);
  const digits = String(Number((value / 10 ** power).toPrecision(15)));
  if (shifted(digits, power) === value) return `${digits}${unit}`;
  // More digits than that: the smallest unit says it exactly.
  return `${value}${steps[0]?.[0] ?? ''}`;
}

const RATE_STEPS: Steps = [
  ['bps', 0],
  ['kbps', 3],
  ['Mbps', 6],
  ['Gbps', 9],
  ['Tbps', 12],
];
const TIME_STEPS: Steps = [
  ['ns', 0],
  ['us', 3],
  ['ms', 6],
  ['s', 9],
];

/** Exact, in the largest unit that fits: 1e11 is `100Gbps`. rateOf() gives the same number back. */
export function exactRate(value_bps: number): string {
  return exact(value_bps, RATE_STEPS);
}

/** Exact, in the largest unit that fits: 1500 is `1.5us`. timeOf() gives the same number back. */
export function exactTime(value_ns: number): string {
  return exact(value_ns, TIME_STEPS);
}

function short(value: number, steps: Steps): string {
  const [unit, power] = step(value, steps);
  return `${Number((value / 10 ** power).toPrecision(3))}${unit}`;
}

/** `1 link`, `2 links`. */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
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
