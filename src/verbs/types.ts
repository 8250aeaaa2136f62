/**
 * The plain data types of the verbs layer: what callers pass in and get back.
 *
 * They live apart from the classes so that domains (pingpong, bench, topo) and
 * tests can name them without loading a native library.
 */

/** The address of a C object (`struct ibv_qp *` and friends); 0n never appears. */
export type Handle = bigint;

/** Which verbs library answers: the host's, the embedded one, or whichever fits. */
export type ProviderChoice = 'auto' | 'system' | 'soft';

/** The library that was really opened. */
export type Provider = 'system' | 'soft';

/** Names of `enum ibv_qp_type` that rdmakit drives. */
export type QpType = 'RC' | 'UC' | 'UD';

/** Names of `enum ibv_qp_state`. */
export type QpState = 'RESET' | 'INIT' | 'RTR' | 'RTS' | 'SQD' | 'SQE' | 'ERR' | 'UNKNOWN';

/** Names of `enum ibv_port_state`. */
export type PortState = 'NOP' | 'DOWN' | 'INIT' | 'ARMED' | 'ACTIVE' | 'ACTIVE_DEFER';

/** How a GID travels on the wire: InfiniBand or RoCE v1, RoCE v2. */
export type GidType = 'IB' | 'RoCEv1' | 'RoCEv2';

/** Access rights of a memory region or queue pair (`enum ibv_access_flags`). */
export type Access =
  | 'local-write'
  | 'remote-write'
  | 'remote-read'
  | 'remote-atomic'
  | 'mw-bind'
  | 'zero-based'
  | 'on-demand'
  | 'huge-tlb'
  | 'relaxed-ordering';

/** Path MTU in bytes as verbs knows it. */
export type MtuBytes = 256 | 512 | 1024 | 2048 | 4096;

/** One line of the device list. */
export interface DeviceSummary {
  readonly name: string;
  /** Node GUID, `0011:2233:4455:6677`. */
  readonly guid: string;
  readonly nodeType: string;
  readonly transport: string;
  readonly provider: Provider;
}

/** `struct ibv_device_attr` in plain numbers; sizes in bytes. */
export interface DeviceAttributes {
  readonly fwVersion: string;
  readonly nodeGuid: string;
  readonly sysImageGuid: string;
  readonly vendorId: number;
  readonly vendorPartId: number;
  readonly hwVersion: number;
  readonly portCount: number;
  readonly maxMrSize: bigint;
  readonly maxQp: number;
  readonly maxQpWr: number;
  readonly maxSge: number;
  readonly maxSgeRead: number;
  readonly maxCq: number;
  readonly maxCqe: number;
  readonly maxMr: number;
  readonly maxPd: number;
  readonly maxQpReadAtomic: number;
  readonly maxQpInitReadAtomic: number;
  readonly maxAh: number;
  readonly maxSrq: number;
  readonly maxSrqWr: number;
  readonly maxSrqSge: number;
  readonly maxMcastGroups: number;
  readonly maxMcastQpAttach: number;
  readonly maxPkeys: number;
  readonly atomics: 'none' | 'hca' | 'global' | 'unknown';
  readonly capabilityFlags: number;
}

/** `struct ibv_port_attr` in plain terms. */
export interface PortAttributes {
  readonly port: number;
  readonly state: PortState;
  readonly physicalState: string;
  readonly linkLayer: 'InfiniBand' | 'Ethernet' | 'unspecified';
  readonly maxMtuBytes: MtuBytes;
  readonly activeMtuBytes: MtuBytes;
  readonly gidTableLength: number;
  readonly pkeyTableLength: number;
  readonly lid: number;
  readonly smLid: number;
  readonly maxMessageBytes: number;
  /** Signalling rate times lanes times coding efficiency; 0 when the port does not say. */
  readonly linkSpeedBps: number;
  readonly activeWidth: number;
  readonly activeSpeed: number;
}

/** One used row of a port's GID table. */
export interface GidEntry {
  readonly port: number;
  readonly index: number;
  /** IPv6 text form; IPv4-mapped ones as `::ffff:192.0.2.1`. */
  readonly gid: string;
  /** The 16 raw bytes, network order. */
  readonly raw: Uint8Array;
  readonly type: GidType;
  /** The IPv4 or IPv6 address behind the GID. */
  readonly address: string;
  readonly scope: 'loopback' | 'link-local' | 'global';
  /** Index of the network interface, 0 when the device has none. */
  readonly ifindex: number;
  /** Name of the network interface, "" when it is not visible here. */
  readonly interfaceName: string;
}

/** Why a GID was picked, in words for people. */
export interface ChosenGid {
  readonly entry: GidEntry;
  readonly reason: string;
}

/** What `Context.createCq` takes. */
export interface CqOptions {
  /** Least number of completions the queue must hold. */
  readonly depth: number;
  /** Completion vector; default 0. */
  readonly vector?: number;
}

/** What `ProtectionDomain.createQp` takes, besides its queues. */
export interface QpSizes {
  readonly maxSendWr?: number;
  readonly maxRecvWr?: number;
  readonly maxSendSge?: number;
  readonly maxRecvSge?: number;
  /** Bytes that a send may carry inside its work request. */
  readonly maxInlineBytes?: number;
}

/** Settings of RESET -> INIT. */
export interface InitOptions {
  readonly port?: number;
  readonly pkeyIndex?: number;
  /** RC and UC: what the peer may do to our memory. Default: read, write, atomic. */
  readonly access?: readonly Access[];
  /** UD: the Q_Key; default {@link DEFAULT_QKEY}. */
  readonly qkey?: number;
}

/** Settings of INIT -> RTR. The remote end is an {@link Endpoint}. */
export interface RtrOptions {
  readonly port?: number;
  readonly gidIndex?: number;
  /** Path MTU; default the smaller of both ends'. */
  readonly mtuBytes?: MtuBytes;
  readonly hopLimit?: number;
  readonly trafficClass?: number;
  readonly flowLabel?: number;
  readonly serviceLevel?: number;
  /** RC: reads and atomics that the peer may have outstanding. */
  readonly maxDestReadAtomic?: number;
  /** RC: the RNR NAK timer code, 0..31 (IBTA table 46; 12 is 0.64 ms). */
  readonly minRnrTimerCode?: number;
}

/** Settings of RTR -> RTS. */
export interface RtsOptions {
  /** RC: local ACK timeout code, 0..31: 4.096 us * 2^code; 0 waits for ever. */
  readonly timeoutCode?: number;
  /** RC: retries on silence, 0..7. */
  readonly retryCount?: number;
  /** RC: retries on receiver-not-ready, 0..7; 7 means for ever. */
  readonly rnrRetryCount?: number;
  /** RC: reads and atomics that we may have outstanding. */
  readonly maxReadAtomic?: number;
}

/** A registered piece of the far end's memory that we may read or write. */
export interface RemoteMemory {
  readonly address: bigint;
  readonly length: number;
  readonly rkey: number;
}

/** All that one end must know of the other to bring a queue pair up. */
export interface Endpoint {
  readonly qpType: QpType;
  readonly qpn: number;
  /** First packet sequence number that this end sends, 24 bits. */
  readonly psn: number;
  /** IPv6 text form of the GID this end sends from. */
  readonly gid: string;
  readonly lid: number;
  readonly mtuBytes: MtuBytes;
  /** UD only. */
  readonly qkey?: number;
  /** RC: outstanding reads and atomics this end takes as target. */
  readonly maxDestReadAtomic?: number;
  readonly memory?: RemoteMemory;
}

/** Current attributes of a queue pair, as the device tells them. */
export interface QpAttributes {
  readonly state: QpState;
  readonly mtuBytes: MtuBytes | undefined;
  readonly destQpn: number;
  readonly sqPsn: number;
  readonly rqPsn: number;
  readonly port: number;
  readonly pkeyIndex: number;
  readonly qkey: number;
  readonly timeoutCode: number;
  readonly retryCount: number;
  readonly rnrRetryCount: number;
  readonly minRnrTimerCode: number;
  readonly maxReadAtomic: number;
  readonly maxDestReadAtomic: number;
  readonly maxSendWr: number;
  readonly maxRecvWr: number;
  readonly maxSendSge: number;
  readonly maxRecvSge: number;
  readonly maxInlineBytes: number;
}

/** Q_Key that both ends of our own UD tools use unless told otherwise. */
export const DEFAULT_QKEY = 0x11111111;
