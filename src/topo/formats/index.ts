/**
 * The formats by name, and reading a file of any of them. A format is recognised by its first characters; --from names it
 * where that is not enough.
 */

import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { RdmakitError } from '../../errors.ts';
import { InputError, inFile } from '../model/input-error.ts';
import { MAX_INPUT_BYTES } from '../model/limits.ts';
import { readTopologyJson, writeTopologyJson } from '../model/read-json.ts';
import type { Topology } from '../model/schema.ts';

interface Format {
  /** Recognises the text by its beginning (4 KiB, byte order mark removed). */
  is(start: string): boolean;
  read?(text: string): Promise<Topology>;
  write?(topology: Topology): Promise<string>;
}

const begins = (pattern: RegExp) => (start: string) => pattern.test(start);
const XML = String.raw`^\s*(?:<\?xml[^>]*>\s*)?(?:<!--[^]*?-->\s*|<!DOCTYPE[^>[]*(?:\[[^\]]*\]\s*)?>\s*)*`;

// Loaded one by one: nobody waits for parsers of formats that are not used.
const FORMATS = {
  json: {
    is: begins(/^\s*\{/),
    read: async (text) => readTopologyJson(text),
    write: async (topology) => writeTopologyJson(topology),
  },
  dot: {
    is: begins(/^(?:\s|\/\/[^\n]*\n|\/\*[^*]*\*\/)*(?:strict\s+)?(?:di)?graph\s*(?:[\w"][^\n{[]*)?\{/i),
    read: async (text) => (await import('./dot.ts')).readDot(text),
    write: async (topology) => (await import('./dot.ts')).writeDot(topology),
  },
  graphml: {
    is: begins(new RegExp(`${XML}<(?:\\w+:)?graphml\\b`)),
    read: async (text) => (await import('./graphml.ts')).readGraphml(text),
    write: async (topology) => (await import('./graphml.ts')).writeGraphml(topology),
  },
  gml: {
    is: begins(/^(?:\s|#[^\n]*\n|(?:Creator|Version)\s+(?:"[^"]*"|\S+))*graph\s*\[/),
    read: async (text) => (await import('./gml.ts')).readGml(text),
  },
  mermaid: {
    is: begins(/^(?:\s|%%[^\n]*\n)*(?:graph|flowchart)\s+(?:TB|TD|BT|LR|RL)\b/),
    read: async (text) => (await import('./mermaid.ts')).readMermaid(text),
    write: async (topology) => (await import('./mermaid.ts')).writeMermaid(topology),
  },
  drawio: {
    is: begins(new RegExp(`${XML}<(?:mxfile|mxGraphModel)\\b`)),
    read: async (text) => (await import('./drawio.ts')).readDrawio(text),
    write: async (topology) => (await import('./drawio.ts')).writeDrawio(topology),
  },
  containerlab: {
    is: begins(/^(?:name|topology|prefix|mgmt)\s*:/m),
    read: async (text) => (await import('./containerlab.ts')).readContainerlab(text),
    write: async (topology) => (await import('./containerlab.ts')).writeContainerlab(topology),
  },
  slurm: {
    is: begins(/^(?:\s|#[^\n]*\n)*SwitchName=/i),
    read: async (text) => (await import('./slurm.ts')).readSlurm(text),
    write: async (topology) => (await import('./slurm.ts')).writeSlurm(topology),
  },
  ns3: {
    is: begins(/^\s*\d+\s+\d+\s+\d+\s*\n/),
    read: async (text) => (await import('./ns3.ts')).readNs3(text),
    write: async (topology) => (await import('./ns3.ts')).writeNs3(topology),
  },
  htsim: {
    is: begins(/^(?:\s|#[^\n]*\n)*(?:Nodes|Tiers|Podsize)\s+\d+/i),
    read: async (text) => (await import('./htsim.ts')).readHtsim(text),
    write: async (topology) => (await import('./htsim.ts')).writeHtsim(topology),
  },
  'sndlib-xml': {
    is: begins(new RegExp(`${XML}<(?:\\w+:)?network\\b`)),
    read: async (text) => (await import('./sndlib.ts')).readSndlibXml(text),
  },
  sndlib: {
    is: begins(/^\s*\?SNDlib/),
    read: async (text) => (await import('./sndlib.ts')).readSndlibNative(text),
  },
  ibnetdiscover: {
    is: begins(/^(?:vendid=|switchguid=|caguid=|(?:Switch|Ca|Rt)\s+\d+\s+")/m),
    read: async (text) => (await import('./ibnetdiscover.ts')).readIbnetdiscover(text),
  },
  svg: {
    is: begins(new RegExp(`${XML}<svg\\b`)),
    read: async (text) => (await import('./svg.ts')).readSvg(text),
  },
  matrix: {
    is: begins(/^(?:#[^\n]*\n)*[^\n{<]*[,\t][^\n]*\n/),
    read: async (text) => (await import('./matrix.ts')).readMatrix(text),
    write: async (topology) => (await import('./matrix.ts')).writeMatrix(topology),
  },
} satisfies Record<string, Format>;

export type FormatName = keyof typeof FORMATS;
const named = FORMATS as Record<FormatName, Format>;
const names = Object.keys(FORMATS) as FormatName[];
export const READABLE: readonly FormatName[] = names.filter((name) => named[name].read);
export const WRITABLE: readonly FormatName[] = names.filter((name) => named[name].write);

/** The format of a text, by its beginning. */
export function formatOf(text: string): FormatName | undefined {
  const start = text.slice(0, 4096);
  return names.find((name) => named[name].is(start));
}

/** Reads a topology from text. `source` names it in errors. */
export async function parseTopology(text: string, source: string, from?: FormatName): Promise<Topology> {
  const clean = text.startsWith('\ufeff') ? text.slice(1) : text;
  const name = from ?? formatOf(clean);
  const read = name && named[name].read;
  if (!read) {
    throw new RdmakitError({
      kind: 'usage',
      what: clean.trim() === '' ? `${source} is empty` : `${source} is in no format that is known`,
      remedy: `name its format with --from: ${READABLE.join(', ')}`,
    });
  }
  try {
    return await read(clean);
  } catch (error) {
    return inFile(source, name, () => {
      throw error;
    });
  }
}

/** A topology as text in a format of WRITABLE. */
export async function formatTopology(topology: Topology, to: FormatName): Promise<string> {
  const { write } = named[to];
  if (!write) throw new InputError(`${to} cannot be written`);
  return write(topology);
}

function tooLarge(source: string): RdmakitError {
  return new RdmakitError({
    kind: 'usage',
    what: `${source} is larger than ${MAX_INPUT_BYTES / 2 ** 20} MiB`,
    cause: 'files beyond this size are refused unread',
    remedy: 'give a smaller network',
  });
}

/** The text of a file, or of standard input for `-`. Bounded; wrong UTF-8 is refused. */
export function readInput(path: string): { text: string; source: string } {
  const source = path === '-' ? 'standard input' : path;
  let fd: number;
  try {
    fd = path === '-' ? 0 : openSync(path, 'r');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new RdmakitError({
      kind: 'usage',
      what: `cannot open ${source}`,
      cause: code === 'ENOENT' ? 'there is no such file' : String(code),
      remedy: 'give the path of a file, or - for standard input',
      from: error,
    });
  }
  try {
    if (path !== '-' && fstatSync(fd).size > MAX_INPUT_BYTES) throw tooLarge(source);
    const bytes = readAll(fd, source);
    return { text: new TextDecoder('utf-8', { fatal: true }).decode(bytes), source };
  } catch (error) {
    if (error instanceof RdmakitError) throw error;
    const what = error instanceof TypeError ? `${source} is not UTF-8 text` : `cannot read ${source}`;
    throw new RdmakitError({
      kind: 'usage',
      what,
      cause: (error as Error).message,
      remedy: 'give a text file',
      from: error,
    });
  } finally {
    if (fd !== 0) closeSync(fd);
  }
}

function readAll(fd: number, source: string): Uint8Array {
  const chunks: Uint8Array[] = [];
  let total = 0;
  for (;;) {
    const chunk = new Uint8Array(1 << 18);
    let count: number;
    try {
      count = readSync(fd, chunk);
    } catch (error) {
      // A pipe whose writer has not written yet, opened non-blocking by the shell's other end.
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') {
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
        continue;
      }
      if ((error as NodeJS.ErrnoException).code === 'EOF') break;
      throw error;
    }
    if (count === 0) break;
    total += count;
    if (total > MAX_INPUT_BYTES) throw tooLarge(source);
    chunks.push(chunk.subarray(0, count));
  }
  return Buffer.concat(chunks);
}

/** Reads a topology file of any format, or standard input for `-`. */
export async function readTopology(path: string, from?: FormatName): Promise<Topology> {
  const { text, source } = readInput(path);
  return parseTopology(text, source, from);
}
