/** Ways to an answering end: one that listens already, or one that we start here or through ssh. */

import { connect, type Session } from '../verbs/index.ts';
import { FarEnd, hostOfSsh, ownCommand, sshCommand } from './far-end.ts';

/** Where the answering end listens unless told otherwise. */
export const DEFAULT_PORT = 18510;

export type Peer =
  | { readonly kind: 'host'; readonly host: string; readonly port: number }
  | { readonly kind: 'local' }
  | { readonly kind: 'ssh'; readonly host: string; readonly program: string };

export interface Reached {
  readonly session: Session;
  /** What people call the other end. */
  readonly name: string;
  close(): Promise<void>;
}

/** Starts the far end if need be and connects to it. `listenWords` are the options a started end gets besides. */
export async function reach(
  peer: Peer,
  listenWords: readonly string[],
  signal?: AbortSignal,
): Promise<Reached> {
  if (peer.kind === 'host') {
    const session = await connect({ host: peer.host, port: peer.port, signal });
    return { session, name: peer.host, close: async () => session.close() };
  }
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
  try {
    const session = await connect({ host, port: farEnd.port, signal });
    const close = async (): Promise<void> => {
      session.close();
      await farEnd.close();
    };
    return { session, name: peer.kind === 'local' ? 'this machine' : host, close };
  } catch (error) {
    await farEnd.close();
    throw error;
  }
}
