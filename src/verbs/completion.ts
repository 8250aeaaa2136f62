/**
 * Completion queues and channels. Polling and event arming are the C loops' work:
 * here they are made, sized and closed.
 */

import { lastErrno } from '../../ffi/bind.ts';
import { libibverbs } from '../../ffi/libibverbs.ts';
import { readNative } from '../../ffi/struct.ts';
import { requireInteger } from './check.ts';
import { callFailure } from './doctor.ts';
import { Resource } from './resource.ts';
import type { CqOptions, Handle } from './types.ts';

/** Most entries that the C interface can express. */
const MOST_ENTRIES = 0x7fffffff;

/** Delivers completion events of the queues attached to it. */
export class CompletionChannel extends Resource {
  protected readonly destroyCall = 'ibv_destroy_comp_channel';
  /** Readable when an event waits. */
  readonly fd: number;

  private constructor(handle: Handle, context: Resource) {
    super('completion channel', handle, [context]);
    this.fd = readNative('ibv_comp_channel', handle, 'fd');
  }

  /** Use {@link Context.createCompletionChannel}. */
  static create(context: Resource): CompletionChannel {
    const handle = libibverbs.ibv_create_comp_channel(context.handle);
    if (handle === 0n) {
      throw callFailure('ibv_create_comp_channel', lastErrno(), { attempt: 'create a completion channel' });
    }
    return new CompletionChannel(handle, context);
  }

  protected destroy(handle: Handle): number {
    return libibverbs.ibv_destroy_comp_channel(handle);
  }
}

/** Holds the completions of one or more queue pairs. */
export class CompletionQueue extends Resource {
  protected readonly destroyCall = 'ibv_destroy_cq';
  readonly channel: CompletionChannel | undefined;

  private constructor(handle: Handle, context: Resource, channel: CompletionChannel | undefined) {
    super('completion queue', handle, channel === undefined ? [context] : [context, channel]);
    this.channel = channel;
  }

  /** Use {@link Context.createCq}. */
  static create(
    context: Resource,
    options: CqOptions & { readonly channel?: CompletionChannel | undefined },
  ): CompletionQueue {
    const depth = requireInteger('the completion queue depth', options.depth, 1, MOST_ENTRIES);
    const vector = requireInteger('the completion vector', options.vector ?? 0, 0, MOST_ENTRIES);
    const handle = libibverbs.ibv_create_cq(
      context.handle,
      depth,
      null,
      options.channel?.handle ?? null,
      vector,
    );
    if (handle === 0n) {
      throw callFailure('ibv_create_cq', lastErrno(), {
        attempt: `create a completion queue of ${depth} entries`,
      });
    }
    return new CompletionQueue(handle, context, options.channel);
  }

  /** Entries that the queue holds, at least as many as asked for. */
  get depth(): number {
    return readNative('ibv_cq', this.handle, 'cqe');
  }

  /** Changes the number of entries; completions in the queue are kept. */
  resize(depth: number): void {
    requireInteger('the completion queue depth', depth, 1, MOST_ENTRIES);
    const errno = libibverbs.ibv_resize_cq(this.handle, depth);
    if (errno !== 0) {
      throw callFailure('ibv_resize_cq', errno, { attempt: `resize a completion queue to ${depth} entries` });
    }
  }

  protected destroy(handle: Handle): number {
    return libibverbs.ibv_destroy_cq(handle);
  }
}
