/**
 * The few calls of the C library that the runtimes do not offer: memory that the
 * garbage collector never moves, waiting on a descriptor, and reading what
 * Deno does not let one read: inherited descriptors, and /proc/self/cmdline;
 * and whether a file has capabilities.
 */

import { bind } from './bind.ts';
import { loadLibc } from './load.ts';

/** Memory and descriptor calls of libc. */
export const libc = bind('libc', loadLibc, {
  mmap: ['ptr', ['ptr?', 'u64', 'i32', 'i32', 'i32', 'u64']],
  munmap: ['i32', ['ptr', 'u64']],
  poll: ['i32', ['buf', 'u64', 'i32']],
  open: ['i32', ['str', 'i32']],
  close: ['i32', ['i32']],
  pread: ['i64', ['i32', 'buf', 'u64', 'u64']],
  getxattr: ['i64', ['str', 'str', 'buf', 'u64']],
});
