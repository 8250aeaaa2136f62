import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { MACROS } from '../../ffi/structs.generated.ts';
import { endpoint, readBook } from '../../src/sockets/book.ts';
import { describeAll } from '../../src/sockets/connections.ts';
import { bookBytes, readerOfBytes } from './rows.ts';

describe('the book of a run', () => {
  test('rows are read, unused and unconnected ones left out', () => {
    const bytes = bookBytes(4, (row, i) => {
      if (i === 0) row.set('cookie', 0);
      if (i === 1) row.set('remote_port', 0);
      row.set('tx.ring_bytes', 5).set('tx.kernel_bytes', MACROS.VS_BOOK_UNKNOWN);
      row.set('tx.plain', 1 | 512).set('peer_uid', 0xffffffff);
    });
    const book = readBook(readerOfBytes(bytes));
    expect(book.uid).toBe(1000);
    expect(book.unreadable).toBe(0);
    expect(book.rows.map((row) => row.index)).toEqual([2, 3]);
    expect(book.rows[0]).toMatchObject({
      state: 'closed',
      program: 'a?b',
      local: '127.0.0.1:1000',
      remote: '[2001:db8::1]:80',
      peerUid: undefined,
      sent: { ring_bytes: 5, kernel_bytes: undefined, plain: ['option', 'splice'], wrong: undefined },
    });
  });

  test('a row that cannot be so is counted, not believed', () => {
    const bytes = bookBytes(3, (row, i) => {
      if (i === 0) row.set('state', 9);
      if (i === 1) row.set('rx.bells', 1n << 60n);
    });
    const book = readBook(readerOfBytes(bytes));
    expect({ rows: book.rows.length, unreadable: book.unreadable }).toEqual({ rows: 1, unreadable: 2 });
  });

  test('anything else is refused with the reason', () => {
    const bytes = bookBytes(1, () => {});
    bytes[0] = 0;
    expect(() => readBook(readerOfBytes(bytes))).toThrow('cannot be read');
    expect(() => readBook(readerOfBytes(new Uint8Array(3)))).toThrow('cannot be read');
  });

  test('whatever other processes scribbled, a document comes out', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 416, maxLength: 416 }), (noise) => {
        const bytes = bookBytes(1, () => {});
        bytes.set(noise, bytes.length - noise.length);
        const book = readBook(readerOfBytes(bytes));
        describeAll(book);
        expect(book.rows.length + book.unreadable).toBeLessThanOrEqual(1);
      }),
    );
  });
});

test('endpoints are written as RFC 5952 says', () => {
  const of = (...groups: number[]) =>
    endpoint(Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 255])), 1);
  expect(of(0, 0, 0, 0, 0, 0, 0, 1)).toBe('[::1]:1');
  expect(of(0, 0, 0, 0, 0, 0, 0, 0)).toBe('[::]:1');
  expect(of(0x2001, 0xdb8, 0, 0, 1, 0, 0, 1)).toBe('[2001:db8::1:0:0:1]:1');
  expect(of(0x2001, 0xdb8, 0, 1, 1, 1, 1, 1)).toBe('[2001:db8:0:1:1:1:1:1]:1');
  expect(of(0xfe80, 0, 0, 0, 1, 2, 3, 4)).toBe('[fe80::1:2:3:4]:1');
});
