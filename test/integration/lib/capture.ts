/** What passes an interface of a host, as tcpdump writes it down, taken apart into TCP streams and datagrams. IPv4 on Ethernet. */

import { readFileSync } from 'node:fs';
import type { Host } from './network.ts';
import { Program, until } from './process.ts';

/** The payload of one direction of a TCP connection, put together by sequence numbers. */
export interface Stream {
  from: string;
  to: string;
  bytes: Buffer;
}

export interface Datagram {
  protocol: 'udp' | 'icmp';
  from: string;
  to: string;
  /** 0 of ICMP. */
  port: number;
}

export interface Captured {
  streams: Stream[];
  datagrams: Datagram[];
}

const IP_ICMP = 1;
const IP_TCP = 6;
const IP_UDP = 17;
const ETHERNET = 14;

interface Segments {
  from: string;
  to: string;
  first: number;
  parts: { at: number; bytes: Buffer }[];
}

function join({ from, to, parts }: Segments): Stream {
  const bytes = Buffer.alloc(parts.reduce((end, part) => Math.max(end, part.at + part.bytes.length), 0));
  for (const part of parts) part.bytes.copy(bytes, part.at);
  return { from, to, bytes };
}

/** The frames of a capture file of this machine's byte order. */
function* frames(file: Buffer): Generator<Buffer> {
  for (let at = 24; at + 16 <= file.length; ) {
    const length = file.readUInt32LE(at + 8);
    yield file.subarray(at + 16, at + 16 + length);
    at += 16 + length;
  }
}

export function parseCapture(file: Buffer): Captured {
  const streams = new Map<string, Segments>();
  const datagrams: Datagram[] = [];
  for (const frame of frames(file)) {
    if (frame.readUInt16BE(12) !== 0x0800) continue;
    const ip = frame.subarray(ETHERNET, ETHERNET + frame.readUInt16BE(ETHERNET + 2));
    const body = ip.subarray(((ip[0] ?? 0) & 15) * 4);
    const [source, target] = [12, 16].map((at) => ip.subarray(at, at + 4).join('.')) as [string, string];
    if (ip[9] === IP_ICMP) datagrams.push({ protocol: 'icmp', from: source, to: target, port: 0 });
    if (ip[9] === IP_UDP)
      datagrams.push({ protocol: 'udp', from: source, to: target, port: body.readUInt16BE(2) });
    if (ip[9] !== IP_TCP) continue;
    const from = `${source}:${body.readUInt16BE(0)}`;
    const to = `${target}:${body.readUInt16BE(2)}`;
    const sequence = body.readUInt32BE(4);
    if ((body[13] ?? 0) & 2) streams.set(from, { from, to, first: (sequence + 1) >>> 0, parts: [] });
    const stream = streams.get(from);
    const bytes = body.subarray(((body[12] ?? 0) >> 4) * 4);
    if (stream && bytes.length > 0) stream.parts.push({ at: (sequence - stream.first) >>> 0, bytes });
  }
  return { streams: [...streams.values()].map(join), datagrams };
}

/** Captures what `filter` says on the host's interface until `stop()`. */
export class Capture {
  private readonly program: Program;
  private readonly file: string;

  private constructor(program: Program, file: string) {
    this.program = program;
    this.file = file;
  }

  static async start({ netns, netdev }: Host, filter: string, file: string): Promise<Capture> {
    const quickly = ['--immediate-mode', '-U', '-B', '65536', '-s', '0'];
    const argv = ['tcpdump', '-n', ...quickly, '-i', netdev, '-w', file, ...filter.split(' ')];
    const program = new Program(argv, { netns, limit_ms: 60_000 });
    await until('tcpdump captures', () => program.stderr.includes('listening on'));
    return new Capture(program, file);
  }

  async stop(): Promise<Captured> {
    this.program.kill('SIGINT');
    const { stderr } = await this.program.ended;
    if (!/\b0 packets dropped by kernel/.test(stderr)) throw new Error(`tcpdump missed packets: ${stderr}`);
    return parseCapture(readFileSync(this.file));
  }
}
