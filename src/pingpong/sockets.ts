/** Kernel sockets of the reference rows: made in C, because the runtimes hide their descriptors. */

import { networkInterfaces } from 'node:os';
import { loadDatapath } from '../../ffi/datapath.ts';
import { RdmakitError } from '../errors.ts';
import { errnoName } from '../verbs/index.ts';

const PROTOCOLS = { tcp: 6, udp: 17 } as const;
const CONNECT_TIMEOUT_MS = 5000;

export type SocketTransport = keyof typeof PROTOCOLS;

export interface KernelSocket {
  readonly protocol: 6 | 17;
  readonly fd: number;
  readonly port: number;
  close(): void;
}

function wrap(transport: SocketTransport, fd: number, port: number): KernelSocket {
  let open = true;
  const close = (): void => {
    if (open) loadDatapath().rk_dp_socket_close(fd);
    open = false;
  };
  return { protocol: PROTOCOLS[transport], fd, port, close };
}

/**
 * A link-local address is complete only with its interface, which the runtimes leave out of a connection's addresses: it is
 * the one that has the local address.
 */
function withInterface(address: string, local: string): string {
  if (!/^fe[89ab][0-9a-f]:/i.test(address) || address.includes('%')) return address;
  for (const [name, entries] of Object.entries(networkInterfaces())) {
    if (entries?.some((entry) => entry.address === local)) return `${address}%${name}`;
  }
  return address;
}

/** Listens on a free port of a numeric address of this machine. */
export function listenSocket(transport: SocketTransport, address: string): KernelSocket {
  const port = new Uint16Array(new ArrayBuffer(2));
  const whole = withInterface(address, address);
  const fd = loadDatapath().rk_dp_socket_listen(PROTOCOLS[transport], whole, port);
  if (fd >= 0) return wrap(transport, fd, port[0] ?? 0);
  throw new RdmakitError({
    kind: 'environment',
    what: `no ${transport.toUpperCase()} socket can listen on ${address}`,
    cause: errnoName(fd),
    remedy: 'check that the address belongs to this machine: ip address',
  });
}

/** Connects to a numeric address that is reached from the local one. */
export function connectSocket(
  transport: SocketTransport,
  address: string,
  port: number,
  local: string,
): KernelSocket {
  const fd = loadDatapath().rk_dp_socket_connect(
    PROTOCOLS[transport],
    withInterface(address, local),
    port,
    CONNECT_TIMEOUT_MS,
  );
  if (fd >= 0) return wrap(transport, fd, port);
  throw new RdmakitError({
    kind: 'peer',
    what: `no ${transport.toUpperCase()} connection to ${address} port ${port}`,
    cause: errnoName(fd),
    remedy: `let ${transport.toUpperCase()} through the firewall between the two machines, or leave the row out with --transport`,
  });
}
