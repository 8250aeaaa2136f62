/**
 * UDP sockets inside network namespaces. A socket stays in the namespace in which it was made, so this thread steps in,
 * makes it and steps out again: one process and one clock for both ends of every measurement, and nothing to start.
 */

import { createSocket, type Socket } from 'node:dgram';
import { closeSync, openSync } from 'node:fs';
import { loadLibc } from '../../../ffi/load.ts';
import { RdmakitError } from '../../errors.ts';

const CLONE_NEWNET = 0x40000000;

let turn: Promise<unknown> = Promise.resolve();

function enter(fd: number, what: string): void {
  const setns = loadLibc().func('int setns(int fd, int nstype)');
  if (setns(fd, CLONE_NEWNET) === 0) return;
  throw new RdmakitError({
    kind: 'environment',
    what: `cannot enter ${what}`,
    cause: 'setns(2) was refused',
    remedy: 'run it as root',
  });
}

async function make(space: string): Promise<Socket> {
  const home = openSync('/proc/thread-self/ns/net', 'r');
  let target: number;
  try {
    target = openSync(`/run/netns/${space}`, 'r');
  } catch (error) {
    closeSync(home);
    throw new RdmakitError({
      kind: 'environment',
      what: `there is no network namespace ${space}`,
      remedy: 'rdmakit topo up FILE',
      from: error,
    });
  }
  try {
    enter(target, space);
    // Addresses only: without this every packet waits for a look-up in another thread.
    const lookup = (
      address: string,
      _: unknown,
      done: (error: null, address: string, family: number) => void,
    ): void => done(null, address, 4);
    const socket = createSocket({ type: 'udp4', lookup: lookup as never });
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.bind(0, '0.0.0.0', () => {
        socket.off('error', reject);
        resolve();
      });
    });
    try {
      socket.setRecvBufferSize(8 << 20);
      socket.setSendBufferSize(4 << 20);
    } catch {
      // Smaller buffers measure too, only with more gaps.
    }
    // An answer of ICMP is no reason to end: what is lost is counted as lost.
    socket.on('error', () => undefined);
    return socket;
  } finally {
    enter(home, 'the namespace of this process');
    closeSync(target);
    closeSync(home);
  }
}

/** A socket bound to a free port in a namespace. One after the other: the namespace is a property of the thread. */
export function socketIn(space: string): Promise<Socket> {
  if ('Deno' in globalThis) {
    throw new RdmakitError({
      kind: 'environment',
      what: 'Deno is too slow to measure with',
      cause: 'its datagram sockets take in some hundred packets a second',
      remedy: 'run topo probe with Node or Bun',
    });
  }
  const mine = turn.then(() => make(space));
  turn = mine.catch(() => undefined);
  return mine;
}
