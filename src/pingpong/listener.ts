/** The listening end: takes clients as they come, serves them side by side, until it is told to stop. */

import { listen, type Session } from '../verbs/index.ts';
import { type ServeOptions, serveSession } from './server.ts';

export interface ListenerOptions extends Omit<ServeOptions, 'core' | 'onRow'> {
  /** All addresses when absent. */
  readonly host?: string | undefined;
  readonly port: number;
  /** Cores for the loops, given to clients in turn; none: they float. */
  readonly cores: readonly number[];
  readonly onListening?: (address: string, port: number) => void;
  readonly onClient?: (address: string) => void;
  /** `error` is undefined when the client said bye. */
  readonly onGone?: (address: string, error: unknown) => void;
}

/** Clients served at once; more wait in the accept queue. Each costs a thread while a row runs. */
const MOST_CLIENTS = 256;

/** Serves until the signal is raised, then ends the sessions that are left. */
export async function serveClients(options: ListenerOptions & { signal: AbortSignal }): Promise<void> {
  const { signal } = options;
  const server = await listen({
    ...(options.host === undefined ? {} : { host: options.host }),
    port: options.port,
  });
  const active = new Map<Session, Promise<void>>();
  try {
    options.onListening?.(server.host, server.port);
    for (let turn = 0; !signal.aborted; turn++) {
      if (active.size >= MOST_CLIENTS) await Promise.race(active.values());
      const session = await server.accept({ signal });
      const core = options.cores[turn % Math.max(1, options.cores.length)] ?? -1;
      active.set(
        session,
        serveOne(session, { ...options, core }).finally(() => active.delete(session)),
      );
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    server.close();
    await Promise.all(active.values());
  }
}

async function serveOne(session: Session, options: ListenerOptions & { core: number }): Promise<void> {
  options.onClient?.(session.remoteAddress);
  let failure: unknown;
  try {
    await serveSession(session, options);
  } catch (error) {
    failure = error;
  } finally {
    session.close();
  }
  options.onGone?.(session.remoteAddress, failure);
}
