/**
 * Strict quantities: text to numbers and back. The one place that knows unit names.
 * Strict because a benchmark that silently reads `4k` as 4 or 4000 measures the wrong thing: what is not exactly
 * a number and a known unit is refused, and the reason says how to write it.
 */

/** Thrown by every parser here; `message` is the reason, ready to be shown after the option's name. */
export class UnitError extends Error {
  constructor(reason: string) {
    super(reason);
    this.name = 'UnitError';
  }
}

type UnitTable = Readonly<Record<string, number>>;

/** Bytes in each size unit. */
const SIZE_UNITS: UnitTable = {
  B: 1,
  kB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

/** Nanoseconds in each duration unit. */
const DURATION_UNITS: UnitTable = { ns: 1, us: 1e3, ms: 1e6, s: 1e9, min: 60e9, h: 3600e9 };

/** Bits a second in each rate unit. */
const RATE_UNITS: UnitTable = {
  bps: 1,
  kbps: 1e3,
  Mbps: 1e6,
  Gbps: 1e9,
  Tbps: 1e12,
  'B/s': 8,
  'kB/s': 8e3,
  'MB/s': 8e6,
  'GB/s': 8e9,
  'KiB/s': 8 * 2 ** 10,
  'MiB/s': 8 * 2 ** 20,
  'GiB/s': 8 * 2 ** 30,
};

/** Plain multiples, for counts such as messages a second. */
const COUNT_UNITS: UnitTable = { k: 1e3, M: 1e6, G: 1e9 };

const QUANTITY = /^(\d+(?:\.\d+)?)([A-Za-zµμ/]*)$/;

interface QuantityRules {
  what: string;
  units: UnitTable;
  /** May the unit be left out (it is then 1)? */
  bare: boolean;
  /** A correct sample for the error message. */
  sample: string;
  /** Must the product be a whole number? */
  whole: boolean;
}

const SIZE: QuantityRules = {
  what: 'size',
  units: SIZE_UNITS,
  bare: true,
  sample: '64 or 4KiB',
  whole: true,
};
const DURATION: QuantityRules = {
  what: 'duration',
  units: DURATION_UNITS,
  bare: false,
  sample: '1.5ms',
  whole: false,
};
const RATE: QuantityRules = { what: 'rate', units: RATE_UNITS, bare: false, sample: '100Gbps', whole: false };
const COUNT: QuantityRules = {
  what: 'count',
  units: COUNT_UNITS,
  bare: true,
  sample: '1000 or 2.5M',
  whole: false,
};

/** The unit that was probably meant: same letters in another case, or an abbreviation of a known unit. */
function nearUnit(unit: string, units: UnitTable): string | undefined {
  const names = Object.keys(units);
  const lower = unit.toLowerCase();
  return (
    names.find((name) => name.toLowerCase() === lower) ??
    names.find((name) => name.toLowerCase().startsWith(lower) && name.includes('i')) ??
    names.find((name) => name.toLowerCase().startsWith(lower))
  );
}

function parseQuantity(text: string, rules: QuantityRules): number {
  const match = QUANTITY.exec(text);
  if (!match) {
    throw new UnitError(`'${text}' is not a ${rules.what}; write for example ${rules.sample}`);
  }
  const [, digits = '', unitText = ''] = match;
  const unit = unitText.replace(/[µμ]/, 'u');
  if (unit === '' && !rules.bare) {
    throw new UnitError(`'${text}' has no unit; write for example ${rules.sample}`);
  }
  const factor = unit === '' ? 1 : Object.hasOwn(rules.units, unit) ? rules.units[unit] : undefined;
  if (factor === undefined) {
    const near = nearUnit(unit, rules.units);
    const hint = near
      ? `did you mean ${digits}${near}?`
      : `known units: ${Object.keys(rules.units).join(' ')}`;
    throw new UnitError(`'${unitText}' is not a unit of ${rules.what}; ${hint}`);
  }
  const value = Number(digits) * factor;
  if (!Number.isFinite(value) || value > Number.MAX_SAFE_INTEGER) {
    throw new UnitError(`'${text}' is too large`);
  }
  if (rules.whole && !Number.isInteger(value)) {
    throw new UnitError(`'${text}' is not a whole number of bytes`);
  }
  return value;
}

/** `4KiB` -> 4096 bytes. A bare number is bytes. Always a whole number. */
export function parseSize(text: string): number {
  return parseQuantity(text, SIZE);
}

/** `1.5ms` -> 1_500_000 ns. The unit is required. `us` may be written `µs`. */
export function parseDuration(text: string): number {
  return parseQuantity(text, DURATION);
}

/** `100Gbps` or `12.5GB/s` -> bits a second. The unit is required. */
export function parseRate(text: string): number {
  return parseQuantity(text, RATE);
}

/** `2.5M` -> 2_500_000. For rates of events and other plain counts. */
export function parseCount(text: string): number {
  return parseQuantity(text, COUNT);
}

/** A whole decimal number between min and max, both included. */
export function parseInteger(text: string, min = 0, max = Number.MAX_SAFE_INTEGER): number {
  if (!/^-?\d+$/.test(text)) throw new UnitError(`'${text}' is not a whole number`);
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new UnitError(`'${text}' is too large`);
  if (value < min || value > max) throw new UnitError(`${text} is outside ${min}..${max}`);
  return value;
}

export interface SizeRange {
  /** First size, bytes. */
  from: number;
  /** Last size, bytes; not smaller than `from`. */
  to: number;
}

/** `1..1MiB` -> {from: 1, to: 1048576}, bytes. One size alone is a range of one. */
export function parseSizeRange(text: string): SizeRange {
  const parts = text.split('..');
  if (parts.length > 2 || parts.some((part) => part === '')) {
    throw new UnitError(`'${text}' is not a range of sizes; write for example 1..1MiB`);
  }
  const from = parseSize(parts[0] ?? '');
  const to = parts[1] === undefined ? from : parseSize(parts[1]);
  if (to < from) throw new UnitError(`'${text}' runs backwards; write the smaller size first`);
  return { from, to };
}

/** `0,2,4-7` -> [0, 2, 4, 5, 6, 7]: CPU numbers as taskset writes them. Duplicates are refused. */
export function parseCpuList(text: string): number[] {
  const cpus: number[] = [];
  for (const part of text.split(',')) {
    const match = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part);
    if (!match) throw new UnitError(`'${text}' is not a list of CPUs; write for example 0,2 or 4-7`);
    const first = Number(match[1]);
    const last = match[2] === undefined ? first : Number(match[2]);
    if (last < first) throw new UnitError(`'${part}' runs backwards`);
    for (let cpu = first; cpu <= last; cpu++) {
      if (cpus.includes(cpu)) throw new UnitError(`CPU ${cpu} is named twice in '${text}'`);
      cpus.push(cpu);
    }
  }
  return cpus;
}

/** Sizes of a sweep: from, then every power of two above it, then to. */
export function sweepSizes(range: SizeRange): number[] {
  const sizes = [range.from];
  for (let power = 1; power < range.to; power *= 2) if (power > range.from) sizes.push(power);
  if (range.to > range.from) sizes.push(range.to);
  return sizes;
}

function scaled(value: number, steps: readonly (readonly [string, number])[], digits: number): string {
  if (!Number.isFinite(value)) return '-';
  let [unit, factor] = steps[0] ?? ['', 1];
  for (const [name, size] of steps) if (Math.abs(value) >= size) [unit, factor] = [name, size];
  const number = value / factor;
  return `${Number.isInteger(number) ? number : Number(number.toPrecision(digits))}${unit}`;
}

/** 4096 -> `4KiB`; 1500 -> `1500B`: exact whenever a binary unit divides it, otherwise bytes or three digits. */
export function formatSize(bytes: number): string {
  for (const [unit, factor] of Object.entries({ TiB: 2 ** 40, GiB: 2 ** 30, MiB: 2 ** 20, KiB: 2 ** 10 })) {
    if (bytes >= factor && bytes % factor === 0) return `${bytes / factor}${unit}`;
  }
  if (bytes < 1e5) return `${bytes}B`;
  return scaled(
    bytes,
    [
      ['KiB', 2 ** 10],
      ['MiB', 2 ** 20],
      ['GiB', 2 ** 30],
      ['TiB', 2 ** 40],
    ],
    3,
  );
}

/** 1_500_000 ns -> `1.5ms`, three significant digits. */
export function formatDuration(value_ns: number): string {
  return scaled(
    value_ns,
    [
      ['ns', 1],
      ['us', 1e3],
      ['ms', 1e6],
      ['s', 1e9],
    ],
    3,
  );
}

/** Bits a second -> `98.7Gbps`, three significant digits. */
export function formatRate(value_bps: number): string {
  return scaled(
    value_bps,
    [
      ['bps', 1],
      ['kbps', 1e3],
      ['Mbps', 1e6],
      ['Gbps', 1e9],
      ['Tbps', 1e12],
    ],
    3,
  );
}

/** 2_534_000 -> `2.53M`, three significant digits. */
export function formatCount(value: number): string {
  return scaled(
    value,
    [
      ['', 1],
      ['k', 1e3],
      ['M', 1e6],
      ['G', 1e9],
    ],
    3,
  );
}
