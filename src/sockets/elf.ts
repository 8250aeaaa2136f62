/**
 * What an ELF file says of itself that decides whether its socket calls can be replaced: its loader, the libraries it asks for, the
 * functions it takes from them, and whether its code makes system calls without them. Any bytes may come: nothing is believed
 * beyond the file's end, and sizes have limits. Format: System V ABI, chapters 4 and 5.
 */

import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

export interface ElfFacts {
  /** The program interpreter; undefined for a static program. */
  readonly loader: string | undefined;
  /** DT_NEEDED. */
  readonly libraries: readonly string[];
  /** Names of undefined dynamic symbols. */
  readonly imports: ReadonlySet<string>;
  /** Built by the Go toolchain, which makes its own system calls. */
  readonly go: boolean;
  /** Places in its code that load a small number and make a system call. Only of x86-64 programs. */
  readonly rawCalls: number;
}

const PT = { load: 1, dynamic: 2, interp: 3, note: 4 };
const DT = { needed: 1, strtab: 5, symtab: 6, strsz: 10, hash: 4, gnuHash: 0x6ffffef5 };
const EXECUTABLE = 1;
const EM_X86_64 = 62;
const SYM_BYTES = 24;
const MOST_SEGMENTS = 64;
const MOST_DYNAMIC = 4096;
const MOST_STRINGS = 64 << 20;
const MOST_SYMBOLS = 1 << 20;
const CODE_STEP = 4 << 20;
const MOST_CODE = 256 << 20;

interface Segment {
  type: number;
  flags: number;
  offset: number;
  address: number;
  bytes: number;
}

/** undefined: not a little-endian 64-bit ELF file that can be read. */
export function readElf(path: string): ElfFacts | undefined {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch {
    return undefined;
  }
  try {
    return new Reader(fd).facts();
  } catch (error) {
    if (error instanceof Truncated) return undefined;
    throw error;
  } finally {
    closeSync(fd);
  }
}

class Truncated extends Error {}

class Reader {
  readonly #fd: number;
  readonly #size: number;

  constructor(fd: number) {
    this.#fd = fd;
    this.#size = fstatSync(fd).size;
  }

  facts(): ElfFacts | undefined {
    const head = this.#at(0, 64);
    if (head.readUInt32BE(0) !== 0x7f454c46 || head[4] !== 2 || head[5] !== 1) return undefined;
    const segments = this.#segments(head);
    const dynamic = this.#dynamic(segments);
    const interp = segments.find(({ type }) => type === PT.interp);
    return {
      loader: interp && text(this.#at(interp.offset, Math.min(interp.bytes, 4096)), 0),
      libraries: dynamic.libraries,
      imports: dynamic.imports,
      go: segments.some((segment) => segment.type === PT.note && this.#isGoNote(segment)),
      rawCalls: head.readUInt16LE(18) === EM_X86_64 ? this.#rawCalls(segments) : 0,
    };
  }

  #at(offset: number, bytes: number): Buffer {
    if (!(offset >= 0 && bytes >= 0 && offset + bytes <= this.#size)) throw new Truncated();
    const buffer = Buffer.alloc(bytes);
    for (let done = 0; done < bytes; ) {
      const n = readSync(this.#fd, buffer, done, bytes - done, offset + done);
      if (n <= 0) throw new Truncated();
      done += n;
    }
    return buffer;
  }

  #segments(head: Buffer): Segment[] {
    const [offset, each, count] = [
      Number(head.readBigUInt64LE(32)),
      head.readUInt16LE(54),
      head.readUInt16LE(56),
    ];
    if (each < 56 || count > MOST_SEGMENTS) throw new Truncated();
    const table = this.#at(offset, each * count);
    return Array.from({ length: count }, (_, i) => {
      const entry = table.subarray(i * each);
      return {
        type: entry.readUInt32LE(0),
        flags: entry.readUInt32LE(4),
        offset: Number(entry.readBigUInt64LE(8)),
        address: Number(entry.readBigUInt64LE(16)),
        bytes: Number(entry.readBigUInt64LE(32)),
      };
    });
  }

  #dynamic(segments: readonly Segment[]): { libraries: string[]; imports: Set<string> } {
    const none = { libraries: [], imports: new Set<string>() };
    const segment = segments.find(({ type }) => type === PT.dynamic);
    if (segment === undefined) return none;
    const offsetOf = (address: number): number => {
      const load = segments.find(
        (each) => each.type === PT.load && address >= each.address && address < each.address + each.bytes,
      );
      if (load === undefined) throw new Truncated();
      return address - load.address + load.offset;
    };
    const table = this.#at(segment.offset, Math.min(segment.bytes, MOST_DYNAMIC * 16));
    const values = new Map<number, number>();
    const needed: number[] = [];
    for (let at = 0; at + 16 <= table.length; at += 16) {
      const tag = Number(table.readBigUInt64LE(at));
      const value = Number(table.readBigUInt64LE(at + 8));
      if (tag === 0) break;
      if (tag === DT.needed) needed.push(value);
      else values.set(tag, value);
    }
    const [strtab, strsz, symtab] = [values.get(DT.strtab), values.get(DT.strsz), values.get(DT.symtab)];
    if (strtab === undefined || strsz === undefined) return none;
    if (strsz > MOST_STRINGS) throw new Truncated();
    const strings = this.#at(offsetOf(strtab), strsz);
    const imports = new Set<string>();
    if (symtab !== undefined) {
      // The table's length is nowhere written; the strings come behind it, as all linkers lay them.
      const room = strtab > symtab ? strtab - symtab : 0;
      const count = Math.min(Math.floor(room / SYM_BYTES), MOST_SYMBOLS);
      const symbols = this.#at(offsetOf(symtab), count * SYM_BYTES);
      for (let at = 0; at < symbols.length; at += SYM_BYTES) {
        const [name, section] = [symbols.readUInt32LE(at), symbols.readUInt16LE(at + 6)];
        if (section === 0 && name > 0 && name < strings.length) imports.add(text(strings, name));
      }
    }
    return {
      libraries: needed.filter((at) => at < strings.length).map((at) => text(strings, at)),
      imports,
    };
  }

  /** Its build identifier: a note of the name "Go". */
  #isGoNote({ offset, bytes }: Segment): boolean {
    if (bytes < 16) return false;
    const note = this.#at(offset, 16);
    return note.readUInt32LE(0) === 4 && note.toString('latin1', 12, 16) === 'Go\0\0';
  }

  #rawCalls(segments: readonly Segment[]): number {
    let found = 0;
    let left = MOST_CODE;
    for (const { type, flags, offset, bytes } of segments) {
      if (type !== PT.load || (flags & EXECUTABLE) === 0) continue;
      for (let at = 0; at < bytes && left > 0; at += CODE_STEP) {
        const step = Math.min(CODE_STEP, bytes - at);
        found += rawCallsIn(this.#at(offset + at, step));
        left -= step;
      }
    }
    return found;
  }
}

/** `mov $number, %eax`, and within a few instructions `syscall`: either alone is often data. */
function rawCallsIn(code: Buffer): number {
  let found = 0;
  for (
    let at = code.indexOf('\x0f\x05', 0, 'latin1');
    at >= 0;
    at = code.indexOf('\x0f\x05', at + 2, 'latin1')
  ) {
    for (let before = at - 5; before >= Math.max(0, at - 24); before--) {
      if (code[before] === 0xb8 && code.readUInt32LE(before + 1) < 512) {
        found++;
        break;
      }
    }
  }
  return found;
}

function text(bytes: Buffer, at: number): string {
  const end = bytes.indexOf(0, at);
  return bytes.toString('latin1', at, end < 0 ? bytes.length : end);
}
