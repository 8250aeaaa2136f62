/**
 * Declares C functions with arguments that are checked before every call.
 *
 * The FFI library trusts its caller: a string where an integer belongs aborts the
 * process, a number where a pointer belongs is dereferenced, and integers wrap
 * without a word. So every argument of every call passes through the checks here,
 * and results come back in one form each (64-bit values are always bigint).
 */

import koffi, { type LibraryHandle } from 'koffi';

/** Types an argument may have. "ptr" is a non-null address, "buf" memory owned by JavaScript; "?" allows null. */
export type ArgumentType = 'ptr' | 'ptr?' | 'buf' | 'buf?' | 'i32' | 'u8' | 'u16' | 'u32' | 'u64' | 'str';

/** Types a result may have; "ptr" gives 0n for NULL, "str" gives null for NULL. */
export type ResultType = 'void' | 'i32' | 'u32' | 'i64' | 'u64' | 'ptr' | 'str';

/** A declaration: result, then arguments. */
export type Signature = readonly [ResultType, readonly ArgumentType[]];

/** Memory of JavaScript that C may read and write during the call. A DataView is none: on Deno it is refused. */
export type NativeBuffer = Uint8Array | Uint16Array | Int32Array | Uint32Array | BigUint64Array;

interface ArgumentValues {
  ptr: bigint;
  'ptr?': bigint | null;
  buf: NativeBuffer;
  'buf?': NativeBuffer | null;
  i32: number;
  u8: number;
  u16: number;
  u32: number;
  u64: bigint;
  str: string;
}

interface ResultValues {
  void: undefined;
  i32: number;
  u32: number;
  i64: bigint;
  u64: bigint;
  ptr: bigint;
  str: string | null;
}

type ArgumentTuple<T extends readonly ArgumentType[]> = { -readonly [K in keyof T]: ArgumentValues[T[K]] };

/** A bound function: call it, or run it on the runtime's thread pool with `later`. */
export interface Bound<R extends ResultType, A extends readonly ArgumentType[]> {
  (...args: ArgumentTuple<A>): ResultValues[R];
  /** The same call on a pool thread: only for calls that may block briefly. The errno comes with the result. */
  later(...args: ArgumentTuple<A>): Promise<{ result: ResultValues[R]; errno: number }>;
}

/** All functions of a declaration table. */
export type BoundTable<T extends Record<string, Signature>> = {
  readonly [K in keyof T]: Bound<T[K][0], T[K][1]>;
};

const KOFFI_ARGUMENT: Record<ArgumentType, string> = {
  ptr: 'void *',
  'ptr?': 'void *',
  buf: 'void *',
  'buf?': 'void *',
  i32: 'int32_t',
  u8: 'uint8_t',
  u16: 'uint16_t',
  u32: 'uint32_t',
  u64: 'uint64_t',
  str: 'const char *',
};

const KOFFI_RESULT: Record<ResultType, string> = {
  void: 'void',
  i32: 'int32_t',
  u32: 'uint32_t',
  i64: 'int64_t',
  u64: 'uint64_t',
  ptr: 'void *',
  str: 'const char *',
};

const INTEGER_RANGE: Partial<Record<ArgumentType, readonly [number, number]>> = {
  i32: [-0x80000000, 0x7fffffff],
  u8: [0, 0xff],
  u16: [0, 0xffff],
  u32: [0, 0xffffffff],
};

const MAX_U64 = (1n << 64n) - 1n;

/** A value that must not reach C; always a mistake in our own code, not of the user. */
export class ArgumentError extends TypeError {
  override name = 'ArgumentError';
}

/** Throws an {@link ArgumentError} unless the value fits the declared type. */
export function checkArgument(where: string, type: ArgumentType, value: unknown): void {
  if (value === null && (type === 'ptr?' || type === 'buf?')) return;
  const range = INTEGER_RANGE[type];
  if (range !== undefined) {
    if (typeof value === 'number' && Number.isInteger(value) && value >= range[0] && value <= range[1])
      return;
  } else if (type === 'ptr' || type === 'ptr?') {
    // User space ends below 2^63 on every Linux that rdmakit runs on.
    if (typeof value === 'bigint' && value > 0n && value < 1n << 63n) return;
  } else if (type === 'u64') {
    if (typeof value === 'bigint' && value >= 0n && value <= MAX_U64) return;
  } else if (type === 'str') {
    if (typeof value === 'string' && !value.includes('\0')) return;
  } else if (ArrayBuffer.isView(value) && !(value instanceof DataView) && value.byteLength > 0) {
    return;
  }
  const shown = typeof value === 'object' ? String(value) : `${typeof value} ${String(value)}`;
  throw new ArgumentError(`${where} takes ${type}, not ${shown}`);
}

/** Brings a koffi result into the one form that {@link ResultType} promises. */
export function normalizeResult(
  type: ResultType,
  value: unknown,
): bigint | number | string | null | undefined {
  switch (type) {
    case 'void':
      return undefined;
    case 'ptr':
      return value === null || value === undefined ? 0n : BigInt(value as bigint);
    case 'i64':
    case 'u64':
      return BigInt(value as bigint | number);
    case 'str':
      return typeof value === 'string' ? value : null;
    default:
      return Number(value);
  }
}

/**
 * Binds a table of functions. A symbol is looked up at its first call, so a
 * library that lacks one function still serves all the others.
 *
 * `libraryName` appears in errors; `open` is called once, at the first use.
 */
export function bind<const T extends Record<string, Signature>>(
  libraryName: string,
  open: () => LibraryHandle,
  table: T,
): BoundTable<T> {
  const bound: Record<string, unknown> = {};
  for (const [name, [result, args]] of Object.entries(table)) {
    bound[name] = bindOne(libraryName, open, name, result, args);
  }
  return bound as BoundTable<T>;
}

type RawFunction = ReturnType<LibraryHandle['func']>;

function bindOne(
  libraryName: string,
  open: () => LibraryHandle,
  name: string,
  result: ResultType,
  types: readonly ArgumentType[],
): unknown {
  let native: RawFunction | undefined;
  const lookUp = (): RawFunction => {
    if (native !== undefined) return native;
    const handle = open();
    try {
      native = handle.func(
        name,
        KOFFI_RESULT[result],
        types.map((type) => KOFFI_ARGUMENT[type]),
      );
    } catch (cause) {
      throw new Error(`${libraryName} has no function ${name}`, { cause });
    }
    return native;
  };
  const check = (args: unknown[]): void => {
    if (args.length !== types.length)
      throw new ArgumentError(`${name} takes ${types.length} arguments, not ${args.length}`);
    types.forEach((type, i) => {
      checkArgument(`${name}, argument ${i + 1}`, type, args[i]);
    });
  };
  const call = (...args: unknown[]): unknown => {
    check(args);
    return normalizeResult(result, lookUp()(...args));
  };
  const later = (...args: unknown[]): Promise<{ result: unknown; errno: number }> => {
    check(args);
    return new Promise((resolve, reject) => {
      lookUp().async(...args, (error: unknown, value: unknown) => {
        const errno = koffi.errno();
        if (error !== null && error !== undefined) reject(error);
        else resolve({ result: normalizeResult(result, value), errno });
      });
    });
  };
  return Object.assign(call, { later });
}

/** errno of the newest C call of this thread; read it before anything else is called. */
export function lastErrno(): number {
  return koffi.errno();
}
