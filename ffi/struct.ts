/**
 * C structs as bytes with checked, named fields.
 *
 * A struct is an off-heap buffer that is handed to C as a pointer; fields are
 * read and written at the offsets of structs.generated.ts. koffi's own struct
 * conversion is not used: it copies on every call and aborts the process on a
 * value of the wrong kind.
 */

import koffi from 'koffi';
import { LAYOUTS } from './structs.generated.ts';

type Layouts = typeof LAYOUTS;

/** Names of the structs and unions known here. */
export type StructName = keyof Layouts;

type Members<N extends StructName> = Layouts[N]['members'];
type TypeOf<N extends StructName, M extends keyof Members<N>> = Members<N>[M] extends readonly [
  number,
  infer T,
  number,
]
  ? T
  : never;

/** Dotted names of all fields of a struct, nested ones included: `cap.max_send_wr`. */
export type FieldPath<N extends StructName> = {
  [M in keyof Members<N> & string]: TypeOf<N, M> extends StructName
    ? M | `${M}.${FieldPath<TypeOf<N, M>>}`
    : M;
}[keyof Members<N> & string];

type Scalar = 'u8' | 'i8' | 'u16' | 'i16' | 'u32' | 'i32' | 'u64' | 'i64' | 'be16' | 'be32' | 'be64' | 'ptr';

interface Field {
  readonly offset: number;
  readonly type: string;
  readonly count: number;
  /** Width of a scalar, 0 for a nested struct. */
  readonly bytes: number;
}

interface ErasedLayout {
  readonly size: number;
  readonly union: boolean;
  readonly members: Readonly<Record<string, readonly [number, string, number]>>;
}

const ERASED: Readonly<Record<string, ErasedLayout>> = LAYOUTS;

const SCALAR_BYTES: Record<Scalar, number> = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  u64: 8,
  i64: 8,
  be16: 2,
  be32: 4,
  be64: 8,
  ptr: 8,
};

const KOFFI_SCALAR: Record<Scalar, string> = {
  u8: 'uint8_t',
  i8: 'int8_t',
  u16: 'uint16_t',
  i16: 'int16_t',
  u32: 'uint32_t',
  i32: 'int32_t',
  u64: 'uint64_t',
  i64: 'int64_t',
  be16: 'uint16_be_t',
  be32: 'uint32_be_t',
  be64: 'uint64_be_t',
  ptr: 'void *',
};

/** Fields found so far, by struct and path: a look-up walks the layout only once. */
const fieldCaches = new Map<string, Map<string, Field>>();

function isScalar(type: string): type is Scalar {
  return type in SCALAR_BYTES;
}

/** Finds a dotted field; throws on a name that the struct does not have. */
function findField(struct: string, path: string): Field {
  const cache = fieldCaches.get(struct) ?? new Map<string, Field>();
  if (cache.size === 0) fieldCaches.set(struct, cache);
  const cached = cache.get(path);
  if (cached !== undefined) return cached;
  let offset = 0;
  let type = struct;
  let count = 1;
  for (const part of path.split('.')) {
    const member = ERASED[type]?.members[part];
    if (member === undefined) throw new TypeError(`struct ${struct} has no field ${path}`);
    offset += member[0];
    type = member[1];
    count = member[2];
  }
  const field = { offset, type, count, bytes: isScalar(type) ? SCALAR_BYTES[type] : 0 };
  cache.set(path, field);
  return field;
}

function byteLength(field: Field): number {
  const unit = isScalar(field.type) ? SCALAR_BYTES[field.type] : (ERASED[field.type]?.size ?? 0);
  return unit * field.count;
}

/** Size of a struct in bytes. */
export function sizeOf(name: StructName): number {
  return LAYOUTS[name].size;
}

/** Byte offset of a field, nested ones included. */
export function offsetOf<N extends StructName>(name: N, path: FieldPath<N>): number {
  return findField(name, path).offset;
}

/** One struct in memory that JavaScript owns, or a live window on memory that C owns. */
export class Struct<N extends StructName> {
  readonly name: N;
  /** The bytes; pass them to C where a pointer to the struct is expected. */
  readonly bytes: Uint8Array;
  readonly #view: DataView;

  /** A zeroed struct, or one laid over `bytes` (exactly its size). */
  constructor(name: N, bytes?: Uint8Array) {
    const size = LAYOUTS[name].size;
    // An explicit ArrayBuffer keeps small structs out of the garbage collector's moving heap.
    const memory = bytes ?? new Uint8Array(new ArrayBuffer(size));
    if (memory.byteLength !== size)
      throw new RangeError(`struct ${name} has ${size} bytes, not ${memory.byteLength}`);
    this.name = name;
    this.bytes = memory;
    this.#view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
  }

  /** A live window on a struct that C owns; it must not be used after C frees the struct. */
  static at<N extends StructName>(name: N, address: bigint): Struct<N> {
    if (typeof address !== 'bigint' || address <= 0n)
      throw new TypeError(`no struct ${name} at ${String(address)}`);
    return new Struct(name, new Uint8Array(koffi.view(address, LAYOUTS[name].size)));
  }

  /** Writes a number; throws when it does not fit the field. Returns this for chaining. */
  set(path: FieldPath<N>, value: number | bigint): this {
    const { offset, type, count, bytes } = findField(this.name, path);
    if (type === 'u32' && count === 1 && typeof value === 'number' && value >>> 0 === value) {
      this.#view.setUint32(offset, value, true);
      return this;
    }
    if (!isScalar(type) || count !== 1) throw new TypeError(`${this.name}.${path} is not a single number`);
    const bits = bytes * 8;
    const wide = typeof value === 'bigint' ? value : Number.isSafeInteger(value) ? BigInt(value) : undefined;
    const fits =
      wide !== undefined &&
      (type.startsWith('i') ? BigInt.asIntN(bits, wide) : BigInt.asUintN(bits, wide)) === wide;
    if (wide === undefined || !fits)
      throw new RangeError(`${this.name}.${path} is ${type} and cannot hold ${String(value)}`);
    const little = !type.startsWith('be');
    if (bits === 64) this.#view.setBigUint64(offset, BigInt.asUintN(64, wide), little);
    else if (bits === 32) this.#view.setUint32(offset, Number(BigInt.asUintN(32, wide)), little);
    else if (bits === 16) this.#view.setUint16(offset, Number(BigInt.asUintN(16, wide)), little);
    else this.#view.setUint8(offset, Number(BigInt.asUintN(8, wide)));
    return this;
  }

  /** Reads a field of any width as bigint. */
  big(path: FieldPath<N>): bigint {
    const { offset, type, count } = findField(this.name, path);
    if (!isScalar(type) || count !== 1) throw new TypeError(`${this.name}.${path} is not a single number`);
    const little = !type.startsWith('be');
    const signed = type.startsWith('i');
    switch (SCALAR_BYTES[type]) {
      case 8:
        return signed ? this.#view.getBigInt64(offset, little) : this.#view.getBigUint64(offset, little);
      case 4:
        return BigInt(signed ? this.#view.getInt32(offset, little) : this.#view.getUint32(offset, little));
      case 2:
        return BigInt(signed ? this.#view.getInt16(offset, little) : this.#view.getUint16(offset, little));
      default:
        return BigInt(signed ? this.#view.getInt8(offset) : this.#view.getUint8(offset));
    }
  }

  /** Reads a field as number; throws when a 64-bit value is beyond 2^53. */
  num(path: FieldPath<N>): number {
    const { offset, type, count, bytes } = findField(this.name, path);
    if (count === 1 && bytes === 4 && type === 'u32') return this.#view.getUint32(offset, true);
    if (count === 1 && bytes === 1 && type === 'u8') return this.#view.getUint8(offset);
    const value = Number(this.big(path));
    if (!Number.isSafeInteger(value)) throw new RangeError(`${this.name}.${path} is too large for a number`);
    return value;
  }

  /** The bytes of an array or nested struct, not a copy. */
  part(path: FieldPath<N>): Uint8Array {
    const field = findField(this.name, path);
    return this.bytes.subarray(field.offset, field.offset + byteLength(field));
  }

  /** Text up to the first NUL of a char array. */
  text(path: FieldPath<N>): string {
    const bytes = this.part(path);
    const end = bytes.indexOf(0);
    return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
  }
}

/** Reads one 32-bit or narrower field of a struct that C owns. The address must be that of a live struct. */
export function readNative<N extends StructName>(name: N, address: bigint, path: FieldPath<N>): number {
  const { offset, type, count } = findField(name, path);
  if (!isScalar(type) || count !== 1) throw new TypeError(`${name}.${path} is not a single number`);
  if (typeof address !== 'bigint' || address <= 0n)
    throw new TypeError(`no struct ${name} at ${String(address)}`);
  const value: unknown = koffi.decode(address + BigInt(offset), KOFFI_SCALAR[type]);
  return Number(value);
}

/**
 * Compares every generated size and offset with what koffi computes for this
 * machine, so that a layout of another architecture fails at load and not in a
 * corrupted struct. Throws on the first difference.
 */
export function verifyLayouts(): void {
  const built = new Map<string, ReturnType<typeof koffi.struct>>();
  const build = (name: string): ReturnType<typeof koffi.struct> => {
    const known = built.get(name);
    if (known !== undefined) return known;
    const layout = ERASED[name];
    if (layout === undefined) throw new Error(`no layout of ${name}`);
    const definition: Record<string, string | ReturnType<typeof koffi.struct>> = {};
    for (const [member, [, type, count]] of Object.entries(layout.members)) {
      const element = isScalar(type) ? KOFFI_SCALAR[type] : build(type);
      definition[member] = count === 1 ? element : koffi.array(element, count);
    }
    const type = layout.union ? koffi.union(definition) : koffi.struct(definition);
    built.set(name, type);
    if (koffi.sizeof(type) !== layout.size) {
      throw new Error(
        `struct ${name}: ${layout.size} bytes in the C headers, ${koffi.sizeof(type)} on this machine`,
      );
    }
    for (const [member, [offset]] of Object.entries(layout.members)) {
      const here = layout.union ? 0 : koffi.offsetof(type, member);
      if (here !== offset)
        throw new Error(`${name}.${member}: offset ${offset} in the C headers, ${here} on this machine`);
    }
    return type;
  };
  for (const name of Object.keys(LAYOUTS)) build(name);
}

/** Reads a pointer that C owns; 0n for NULL. */
export function readPointer(address: bigint): bigint {
  if (typeof address !== 'bigint' || address <= 0n) throw new TypeError(`no pointer at ${String(address)}`);
  const value: unknown = koffi.decode(address, 'uint64_t');
  return BigInt(value as bigint | number);
}
