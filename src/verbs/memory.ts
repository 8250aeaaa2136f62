/**
 * Memory that the device may touch: allocated outside of the garbage collector's
 * heap, registered, and freed in the right order.
 */

import koffi from 'koffi';
import { lastErrno } from '../../ffi/bind.ts';
import { libc } from '../../ffi/libc.ts';
import { libibverbs } from '../../ffi/libibverbs.ts';
import { readNative } from '../../ffi/struct.ts';
import { requireInteger, requireWord } from './check.ts';
import { badValue, callFailure } from './doctor.ts';
import { ACCESS_NAMES, accessBits } from './names.ts';
import { Resource } from './resource.ts';
import type { Access, Handle, RemoteMemory } from './types.ts';

const PROT_READ_WRITE = 0x3;
const MAP_PRIVATE_ANONYMOUS = 0x22;
const MAP_FIXED = 0x10;
const MAP_NORESERVE = 0x4000;
const MAP_HUGETLB = 0x40000;
const PAGE_BYTES = 4096;
const HUGE_PAGE_BYTES = 2 << 20;
const MAP_FAILED = (1n << 64n) - 1n;

/**
 * Cuts a view off its memory: all arrays over it become empty. False where the runtime
 * cannot: Node before 22 keeps external memory attached, and other runtimes offer only
 * transfer() for it.
 */
function detach(view: ArrayBuffer & { transfer?: (length: number) => ArrayBuffer }): boolean {
  view.transfer?.(0);
  return view.byteLength === 0;
}

/** Zeroed memory of this process that JavaScript's garbage collector never moves or frees. */
export class HostMemory extends Resource {
  protected readonly destroyCall = 'munmap';
  /** Usable bytes. */
  readonly length: number;
  readonly #mapped: number;
  #view: ArrayBuffer | undefined;

  /** Use {@link allocateMemory}. */
  constructor(address: bigint, length: number, mapped: number) {
    super(`memory of ${length} bytes`, address, []);
    this.length = length;
    this.#mapped = mapped;
  }

  /** Address of the first byte, page aligned. */
  get address(): bigint {
    return this.handle;
  }

  /** The bytes themselves, not a copy. Empty once the memory is closed. */
  get bytes(): Uint8Array {
    if (this.closed) return new Uint8Array(0);
    this.#view ??= koffi.view(this.handle, this.length);
    return new Uint8Array(this.#view);
  }

  protected destroy(handle: Handle): number {
    // A view that is still around must not dangle: it becomes empty, or its addresses stay valid without memory behind them.
    const detached = this.#view === undefined || detach(this.#view);
    this.#view = undefined;
    if (!detached) return release(handle, this.#mapped);
    return libc.munmap(handle, BigInt(this.#mapped)) === 0 ? 0 : lastErrno();
  }
}

/** Gives memory back but keeps its addresses mapped, as zeros; returns an errno. */
function release(address: bigint, length: number): number {
  const flags = MAP_PRIVATE_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
  return libc.mmap(address, BigInt(length), PROT_READ_WRITE, flags, -1, 0n) === address ? 0 : lastErrno();
}

/** Allocates zeroed, page-aligned memory of `length` bytes, at least 1. The caller closes it after its regions. */
export function allocateMemory(length: number, options: { readonly hugePages?: boolean } = {}): HostMemory {
  requireInteger('the memory length', length, 1, 2 ** 46);
  const huge = options.hugePages === true;
  const unit = huge ? HUGE_PAGE_BYTES : PAGE_BYTES;
  const mapped = Math.ceil(length / unit) * unit;
  const flags = MAP_PRIVATE_ANONYMOUS | (huge ? MAP_HUGETLB : 0);
  const address = libc.mmap(null, BigInt(mapped), PROT_READ_WRITE, flags, -1, 0n);
  if (address === MAP_FAILED) {
    const kind = huge ? ' in huge pages' : '';
    throw callFailure('mmap', lastErrno(), { attempt: `allocate ${length} bytes${kind}`, bytes: length });
  }
  return new HostMemory(address, length, mapped);
}

/** What part of the memory to register. */
export interface RegionOptions {
  readonly offset?: number;
  readonly length?: number;
}

/** A registered memory region: the device may access it as its rights say. */
export class MemoryRegion extends Resource {
  protected readonly destroyCall = 'ibv_dereg_mr';
  readonly address: bigint;
  readonly length: number;
  /** Key that local work requests name. */
  readonly lkey: number;
  /** Key that the peer's requests name. */
  readonly rkey: number;
  readonly access: readonly Access[];

  private constructor(
    handle: Handle,
    parents: readonly Resource[],
    address: bigint,
    length: number,
    access: readonly Access[],
  ) {
    super(`memory region of ${length} bytes`, handle, parents);
    this.address = address;
    this.length = length;
    this.access = access;
    this.lkey = readNative('ibv_mr', handle, 'lkey');
    this.rkey = readNative('ibv_mr', handle, 'rkey');
  }

  /** Registers memory in a protection domain; use {@link ProtectionDomain.registerMemory}. */
  static register(
    pd: Resource,
    memory: HostMemory,
    access: readonly Access[],
    options: RegionOptions = {},
  ): MemoryRegion {
    for (const right of access) requireWord('the access right', right, ACCESS_NAMES);
    const offset = requireInteger('the offset of the region', options.offset ?? 0, 0, memory.length);
    const length = requireInteger(
      'the length of the region',
      options.length ?? memory.length - offset,
      0,
      memory.length - offset,
    );
    const writes = access.includes('remote-write') || access.includes('remote-atomic');
    if (writes && !access.includes('local-write')) {
      throw badValue(
        'the access right',
        access.join(', '),
        "a list with 'local-write' when the peer may write",
      );
    }
    const address = memory.address + BigInt(offset);
    const handle = libibverbs.ibv_reg_mr(pd.handle, address, BigInt(length), accessBits(access));
    if (handle === 0n) {
      throw callFailure('ibv_reg_mr', lastErrno(), {
        attempt: `register ${length} bytes of memory (${access.join(', ') || 'read only'})`,
        bytes: length,
      });
    }
    return new MemoryRegion(handle, [pd, memory], address, length, access);
  }

  /** What the peer must know to read or write this region. */
  remote(): RemoteMemory {
    return { address: this.address, length: this.length, rkey: this.rkey };
  }

  protected destroy(handle: Handle): number {
    return libibverbs.ibv_dereg_mr(handle);
  }
}
