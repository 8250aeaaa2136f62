/** Kernel sockets of the reference rows: made in C, because the runtimes hide their descriptors. */

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

/** Listens on a free port of a numeric address. */
export function listenSocket(transport: SocketTransport, address: string): KernelSocket {
  const port = new Uint16Array(new ArrayBuffer(2));
  const fd = loadDatapath().rk_dp_socket_listen(PROTOCOLS[transport], withoutZone(address), port);
  if (fd >= 0) return wrap(transport, fd, port[0] ?? 0);
  throw new RdmakitError({
    kind: 'environment',
    what: `no ${transport.toUpperCase()} socket can listen on ${address}`,
    cause: errnoName(fd),
    remedy: 'check that the address belongs to this machine: ip address',
  });
}

/** Connects to a numeric address. */
export function connectSocket(transport: SocketTransport, address: string, port: number): KernelSocket {
  const fd = loadDatapath().rk_dp_socket_connect(
    PROTOCOLS[transport],
    withoutZone(address),
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

/** `fe80::1%eth0` -> `fe80::1`. */
function withoutZone(address: string): string {
  return address.replace(/%.*$/, '');
}
