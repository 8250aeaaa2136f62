/** Protection domains: what is made in one may be used together. */

import { lastErrno } from '../../ffi/bind.ts';
import { libibverbs } from '../../ffi/libibverbs.ts';
import { AddressHandle, type AddressHandleOptions } from './address-handle.ts';
import { callFailure } from './doctor.ts';
import { type HostMemory, MemoryRegion, type RegionOptions } from './memory.ts';
import { type QpDevice, type QpOptions, QueuePair } from './queue-pair.ts';
import { Resource } from './resource.ts';
import { SharedReceiveQueue, type SrqOptions } from './shared-receive-queue.ts';
import type { Access, Handle } from './types.ts';

/** Owner of memory regions, queue pairs, shared receive queues and address handles. */
export class ProtectionDomain extends Resource {
  protected readonly destroyCall = 'ibv_dealloc_pd';
  readonly device: QpDevice;

  private constructor(handle: Handle, context: Resource & QpDevice) {
    super('protection domain', handle, [context]);
    this.device = context;
  }

  /** Use {@link Context.allocPd}. */
  static allocate(context: Resource & QpDevice): ProtectionDomain {
    const handle = libibverbs.ibv_alloc_pd(context.handle);
    if (handle === 0n)
      throw callFailure('ibv_alloc_pd', lastErrno(), { attempt: 'allocate a protection domain' });
    return new ProtectionDomain(handle, context);
  }

  /** Registers memory, all of it or a part; the region must be closed before the memory. */
  registerMemory(
    memory: HostMemory,
    access: readonly Access[] = ['local-write'],
    options: RegionOptions = {},
  ): MemoryRegion {
    return MemoryRegion.register(this, memory, access, options);
  }

  /** Makes a queue pair in state RESET. */
  createQp(options: QpOptions): QueuePair {
    return QueuePair.create(this, this.device, options);
  }

  createSrq(options: SrqOptions): SharedReceiveQueue {
    return SharedReceiveQueue.create(this, options);
  }

  /** Makes an address handle for UD sends. */
  createAh(options: AddressHandleOptions): AddressHandle {
    return AddressHandle.create(this, this.device.queryPort(options.port ?? 1), options);
  }

  protected destroy(handle: Handle): number {
    return libibverbs.ibv_dealloc_pd(handle);
  }
}
