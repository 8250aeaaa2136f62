/**
 * The few calls of the C library that verbs needs: memory that the garbage
 * collector never moves, and waiting on a descriptor.
 */

import { bind } from './bind.ts';
import { loadLibc } from './load.ts';

/** Memory and descriptor calls of libc. */
export const libc = bind('libc', loadLibc, {
  mmap: ['ptr', ['ptr?', 'u64', 'i32', 'i32', 'i32', 'u64']],
  munmap: ['i32', ['ptr', 'u64']],
  poll: ['i32', ['buf', 'u64', 'i32']],
});
