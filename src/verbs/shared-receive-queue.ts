/** Shared receive queues: one pool of receives for many queue pairs. */

import { lastErrno } from '../../ffi/bind.ts';
import { libibverbs } from '../../ffi/libibverbs.ts';
import { Struct } from '../../ffi/struct.ts';
import { ENUMS } from '../../ffi/structs.generated.ts';
import { requireInteger } from './check.ts';
import { callFailure } from './doctor.ts';
import { Resource } from './resource.ts';
import type { Handle } from './types.ts';

/** Sizes of a shared receive queue. */
export interface SrqOptions {
  /** Receives that it holds. */
  readonly maxWr: number;
  /** Scatter entries of one receive; default 1. */
  readonly maxSge?: number;
}

/** Receives shared by the queue pairs that name it. */
export class SharedReceiveQueue extends Resource {
  protected readonly destroyCall = 'ibv_destroy_srq';
  readonly maxWr: number;
  readonly maxSge: number;

  private constructor(handle: Handle, pd: Resource, maxWr: number, maxSge: number) {
    super('shared receive queue', handle, [pd]);
    this.maxWr = maxWr;
    this.maxSge = maxSge;
  }

  /** Use {@link ProtectionDomain.createSrq}. */
  static create(pd: Resource, options: SrqOptions): SharedReceiveQueue {
    const init = new Struct('ibv_srq_init_attr')
      .set('attr.max_wr', requireInteger('maxWr', options.maxWr, 1, 0x7fffffff))
      .set('attr.max_sge', requireInteger('maxSge', options.maxSge ?? 1, 1, 0x7fffffff));
    const handle = libibverbs.ibv_create_srq(pd.handle, init.bytes);
    if (handle === 0n) {
      const attempt = `create a shared receive queue of ${options.maxWr} receives`;
      throw callFailure('ibv_create_srq', lastErrno(), { attempt });
    }
    return new SharedReceiveQueue(handle, pd, init.num('attr.max_wr'), init.num('attr.max_sge'));
  }

  /** Raises an async event once fewer than `limit` receives are posted; 0 disarms. */
  setLimit(limit: number): void {
    requireInteger('the limit', limit, 0, this.maxWr);
    const attributes = new Struct('ibv_srq_attr').set('srq_limit', limit);
    const errno = libibverbs.ibv_modify_srq(
      this.handle,
      attributes.bytes,
      ENUMS.ibv_srq_attr_mask.IBV_SRQ_LIMIT,
    );
    if (errno !== 0)
      throw callFailure('ibv_modify_srq', errno, { attempt: `set the limit of an SRQ to ${limit}` });
  }

  /** Sizes and limit as the device has them now. */
  query(): { maxWr: number; maxSge: number; limit: number } {
    const attributes = new Struct('ibv_srq_attr');
    const errno = libibverbs.ibv_query_srq(this.handle, attributes.bytes);
    if (errno !== 0) throw callFailure('ibv_query_srq', errno, { attempt: 'query a shared receive queue' });
    return {
      maxWr: attributes.num('max_wr'),
      maxSge: attributes.num('max_sge'),
      limit: attributes.num('srq_limit'),
    };
  }

  protected destroy(handle: Handle): number {
    return libibverbs.ibv_destroy_srq(handle);
  }
}
