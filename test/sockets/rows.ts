/** Rows of a book for tests: bytes as C writes them, and parsed ones with what matters set. */

import { Struct, sizeOf } from '../../ffi/struct.ts';
import { MACROS } from '../../ffi/structs.generated.ts';
import type { BookFlow, BookRow, ReadAt } from '../../src/sockets/book.ts';

export const quiet: BookFlow = {
  ring_bytes: 0,
  datagrams: 0,
  kernel_bytes: 0,
  promotions: 0,
  overflows: 0,
  natives: 0,
  bells: 0,
  sleeps: 0,
  plain: [],
  inRing: false,
  eager: false,
  hashed: false,
  verified_bytes: 0,
  wrong: undefined,
  latency: undefined,
};

/** A closed connection inside the host whose ends both had the library; `row` changes it. */
export function rowWith(row: Partial<BookRow>): BookRow {
  return {
    index: 0,
    state: 'closed',
    pid: 100,
    program: 'client',
    protocol: 'tcp',
    local: '127.0.0.1:40000',
    remote: '127.0.0.1:80',
    localHost: true,
    refused: [],
    error: undefined,
    attached: true,
    road: 'none',
    peerHasLibrary: true,
    peerPid: 200,
    peerUid: 0,
    sent: quiet,
    received: quiet,
    ...row,
  };
}

/** A book of such rows as memory; `fill` sets fields of each. */
export function bookBytes(
  count: number,
  fill: (row: Struct<'vs_book_row'>, index: number) => void,
): Uint8Array {
  const headBytes = sizeOf('vs_book') - MACROS.VS_BOOK_ROWS * sizeOf('vs_book_row');
  const bytes = new Uint8Array(headBytes + count * sizeOf('vs_book_row'));
  const head = new Struct('vs_book');
  head.set('magic', MACROS.VS_BOOK_MAGIC).set('version', MACROS.VS_BOOK_VERSION);
  head.set('row_bytes', sizeOf('vs_book_row')).set('rows', count).set('uid', 1000);
  bytes.set(head.bytes.subarray(0, headBytes));
  for (let i = 0; i < count; i++) {
    const at = headBytes + i * sizeOf('vs_book_row');
    const row = new Struct('vs_book_row', bytes.subarray(at, at + sizeOf('vs_book_row')));
    row
      .set('cookie', i + 1)
      .set('state', 2)
      .set('pid', 7)
      .set('local_port', 1000)
      .set('remote_port', 80);
    row.part('program').set(new TextEncoder().encode('a\u001bb'));
    row.part('local').set([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1]);
    row.part('remote').set([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    fill(row, i);
  }
  return bytes;
}

export const readerOfBytes =
  (bytes: Uint8Array): ReadAt =>
  (offset, length) =>
    bytes.slice(offset, offset + length);
