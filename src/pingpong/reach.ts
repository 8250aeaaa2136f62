/** Ways to an answering end: one that listens already, or one that we start here or through ssh. */

import { connect, type Session } from '../verbs/index.ts';
import { FarEnd, hostOfSsh, ownCommand, sshCommand } from './far-end.ts';

/** Where the answering end listens unless told otherwise. */
export const DEFAULT_PORT = 18510;
/** Where rping listens, and so does --cm. */
export const RPING_PORT = 7174;

export type Peer =
  | { readonly kind: 'host'; readonly host: string; readonly port: number }
  | { readonly kind: 'local' }
  | { readonly kind: 'ssh'; readonly host: string; readonly program: string };

/** An end that answers somewhere. */
export interface Answering {
  readonly host: string;
  readonly port: number;
  /** What people call it. */
  readonly name: string;
  /** Ends it if we started it. */
  close(): Promise<void>;
}

export interface Reached {
  readonly session: Session;
  /** What people call the other end. */
  readonly name: string;
  close(): Promise<void>;
}

/** Starts the far end if need be. `listenWords` are the options a started end gets besides. */
export async function findAnswering(
  peer: Peer,
  listenWords: readonly string[],
  signal?: AbortSignal,
): Promise<Answering> {
  if (peer.kind === 'host')
    return { host: peer.host, port: peer.port, name: peer.host, close: async () => {} };
  const words = [
    'pingpong',
    '--listen',
    ...(peer.kind === 'local' ? ['127.0.0.1'] : []),
    '--port',
    '0',
    '--announce',
    ...listenWords,
  ];
  const command =
    peer.kind === 'local' ? [...ownCommand(), ...words] : sshCommand(peer.host, peer.program, words);
  const label = peer.kind === 'local' ? 'the other end on this machine' : `the other end on ${peer.host}`;
  const farEnd = await FarEnd.start(command, label, signal);
  const host = peer.kind === 'local' ? farEnd.address : hostOfSsh(peer.host);
  const name = peer.kind === 'local' ? 'this machine' : host;
  return { host, port: farEnd.port, name, close: () => farEnd.close() };
}

/** The same, and connects to it over TCP. */
export async function reach(
  peer: Peer,
  listenWords: readonly string[],
  signal?: AbortSignal,
): Promise<Reached> {
  const { host, port, name, close } = await findAnswering(peer, listenWords, signal);
  try {
    const session = await connect({ host, port, signal });
    return {
      session,
      name,
      close: async () => {
        session.close();
        await close();
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}
