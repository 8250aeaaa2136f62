/**
 * Declarations of what the embedded libibverbs.so.1 exports beyond the ordinary
 * interface: its counters. Only the soft provider has them.
 */

import { bind } from './bind.ts';
import { loadVerbs } from './load.ts';

/** Counters of this process, by index from 0. */
export const softrdma = bind('the embedded libibverbs', () => loadVerbs().handle, {
  rdmakit_counter_count: ['i32', []],
  rdmakit_counter_name: ['str', ['i32']],
  rdmakit_counter_value: ['u64', ['i32']],
});
