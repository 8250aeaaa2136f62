/**
 * The error doctor's table: the single source of what rdmakit says about errors.
 *
 * A rule answers for a code (an errno name, an IBV_WC_* status, or one of our own
 * codes), perhaps only for some calls and only when the evidence agrees. Rules are
 * tried from top to bottom and the first that applies speaks, so special ones come
 * before general ones. This file holds errno and our own codes, doctor-wc-rules.ts the
 * completion statuses.
 */

import type { ErrorKind } from '../errors.ts';
import { COMPLETION_RULES } from './doctor-wc-rules.ts';
import type { Evidence, FactName } from './evidence.ts';

/** What went wrong, as the caller saw it. */
export interface Incident {
  /** The verbs call or the step: `ibv_reg_mr`, `connect`, `RESET -> INIT`, `completion`. */
  readonly call: string;
  /** `ENOMEM`, `IBV_WC_RETRY_EXC_ERR`, `transition`, `protocol`, ... */
  readonly code: string;
  /** What was attempted, for people: `register 4194304 bytes`. The doctor makes "cannot ..." of it. */
  readonly attempt?: string;
  /** Facts that only the caller knows: requested sizes, GID table, port state. */
  readonly details?: readonly string[];
  /** Numbers that rules compare with the evidence. */
  readonly bytes?: number;
}

/** One row of the table. */
export interface Rule {
  readonly codes: readonly string[];
  /** Calls it applies to; all when absent. */
  readonly calls?: readonly string[];
  /** Whether the evidence agrees; always when absent. */
  readonly when?: (evidence: Evidence, incident: Incident) => boolean;
  /** Facts to read and show. */
  readonly look?: readonly FactName[];
  readonly cause: string;
  readonly remedy: string;
  readonly kind: ErrorKind;
}

const CREATE_CALLS = ['ibv_create_qp', 'ibv_create_cq', 'ibv_create_srq', 'ibv_resize_cq', 'ibv_modify_srq'];
const TO_INIT = ['RESET -> INIT'];
const TO_RTR = ['INIT -> RTR'];
const TO_RTS = ['RTR -> RTS'];

/** The fact is known and its value is below what is needed. */
function below(evidence: Evidence, name: FactName, needed: number): boolean {
  const fact = evidence.fact(name);
  return fact !== undefined && fact.value < needed;
}

const SMALL_MEMORY = 32 << 20;

const ERRNO_RULES: readonly Rule[] = [
  {
    codes: ['ENOMEM', 'EAGAIN', 'EPERM'],
    calls: ['ibv_reg_mr'],
    when: (evidence, { bytes = 0 }) => below(evidence, 'memlock', bytes),
    look: ['memlock'],
    cause: 'registered memory is locked, and the limit is smaller than the memory',
    remedy:
      'ulimit -l unlimited (as root, or for good in /etc/security/limits.d/rdma.conf: "* - memlock unlimited")',
    kind: 'environment',
  },
  {
    codes: ['ENOMEM'],
    when: (evidence) => below(evidence, 'mapCount', 16),
    look: ['mapCount'],
    cause: 'the process has used up its memory mappings',
    remedy: 'sudo sysctl vm.max_map_count=262144',
    kind: 'environment',
  },
  {
    codes: ['ENOMEM', 'ENOSPC', 'EFBIG'],
    when: (evidence) => below(evidence, 'sharedMemory', SMALL_MEMORY),
    look: ['sharedMemory'],
    cause: 'the embedded device keeps its queues in shared memory, and that is nearly full',
    remedy: 'free space in /dev/shm (ls -l /dev/shm), or: sudo mount -o remount,size=50% /dev/shm',
    kind: 'environment',
  },
  {
    codes: ['ENOMEM'],
    calls: ['mmap'],
    look: ['memory', 'hugePages', 'memlock'],
    cause: 'the system has not enough free memory, or too few free huge pages when those were asked for',
    remedy: 'ask for less memory, or: sudo sysctl vm.nr_hugepages=512',
    kind: 'environment',
  },
  {
    codes: ['ENOMEM', 'ENOSPC'],
    calls: CREATE_CALLS,
    look: ['memory', 'memlock'],
    cause:
      'the queues asked for are larger than the device or the memory allows, or the device has no more objects',
    remedy:
      'ask for smaller queues or close unused ones; `rdmakit topo devices --json` shows what the device allows',
    kind: 'environment',
  },
  {
    codes: ['ENOMEM'],
    look: ['memory', 'memlock'],
    cause: 'the device or the system is out of memory for this object',
    remedy: 'close unused RDMA objects, or free memory (free -h)',
    kind: 'environment',
  },
  {
    codes: ['EACCES', 'EPERM'],
    calls: ['ibv_open_device', 'ibv_get_device_list'],
    look: ['deviceNodes', 'modules'],
    cause: 'this user may not open the device node',
    remedy:
      'sudo chmod 666 /dev/infiniband/uverbs* (for good: a udev rule), or use the embedded device with --provider soft',
    kind: 'environment',
  },
  {
    codes: ['EADDRINUSE'],
    calls: ['ibv_open_device', 'ibv_create_qp', 'ibv_modify_qp', ...TO_RTR],
    look: ['rxe'],
    cause: 'another program holds UDP port 4791, on which the embedded device speaks RoCEv2',
    remedy:
      "find it with `ss -ulnp 'sport = :4791'`; for the kernel's Soft-RoCE: sudo rmmod rdma_rxe, or --provider system",
    kind: 'environment',
  },
  {
    codes: ['EMFILE', 'ENFILE'],
    look: ['openFiles'],
    cause: 'no file descriptor is left for the device or the channel',
    remedy: 'ulimit -n 65536',
    kind: 'environment',
  },
  {
    codes: ['ENOSYS', 'ENOENT', 'ENODEV', 'ENXIO'],
    calls: ['ibv_open_device', 'ibv_get_device_list', 'rdma_create_event_channel'],
    look: ['deviceNodes', 'modules'],
    cause: 'the kernel side of RDMA is not there',
    remedy: 'sudo modprobe ib_uverbs rdma_ucm, or use the embedded device with --provider soft',
    kind: 'environment',
  },
  {
    codes: ['EIO', 'EPROTO'],
    calls: ['ibv_open_device'],
    look: ['modules', 'deviceNodes'],
    cause: 'the kernel driver and the user-space driver do not fit each other, or the device has failed',
    remedy: 'dmesg | tail; reinstall rdma-core (apt install --reinstall ibverbs-providers)',
    kind: 'environment',
  },
  {
    codes: ['no-device'],
    look: ['deviceNodes', 'modules', 'interfaces'],
    cause: 'the verbs library lists no RDMA device',
    remedy:
      'bring an interface up (ip link set dev lo up) and use --provider soft, or load a driver: sudo modprobe rdma_rxe',
    kind: 'environment',
  },
  {
    codes: ['no-such-device', 'no-such-gid', 'no-such-port'],
    look: [],
    cause: 'the name, index or address does not exist on this machine',
    remedy: 'rdmakit topo devices',
    kind: 'usage',
  },
  {
    codes: ['EFAULT'],
    calls: ['ibv_reg_mr'],
    look: [],
    cause: 'the address range is not mapped, or not all of it',
    remedy: 'register only memory that is allocated, from its start and no longer than it is',
    kind: 'internal',
  },
  {
    codes: ['EACCES', 'EPERM'],
    calls: ['ibv_reg_mr'],
    look: [],
    cause: 'the memory is read-only, and writing access was asked for',
    remedy: 'register read-only memory without local-write and the remote rights that write',
    kind: 'usage',
  },
  {
    codes: ['EINVAL'],
    calls: ['ibv_reg_mr'],
    look: [],
    cause:
      'the access rights contradict each other (remote-write and remote-atomic need local-write), or the range wraps around',
    remedy: "add 'local-write' to the access rights",
    kind: 'usage',
  },
  {
    codes: ['EINVAL'],
    calls: CREATE_CALLS,
    look: [],
    cause: 'a queue size is beyond what the device allows',
    remedy: 'ask for smaller queues; `rdmakit topo devices --json` shows what the device allows',
    kind: 'usage',
  },
  {
    codes: ['EINVAL', 'ENODEV', 'ENODATA', 'ENOENT'],
    calls: ['ibv_query_port', 'ibv_query_gid', '_ibv_query_gid_table', 'ibv_query_pkey'],
    look: [],
    cause: 'the device has no such port or table row',
    remedy: 'rdmakit topo devices',
    kind: 'usage',
  },
  {
    codes: ['EINVAL', 'EPERM', 'EOPNOTSUPP'],
    calls: TO_INIT,
    look: [],
    cause: 'the port number, P_Key index, Q_Key or access rights do not fit this queue pair',
    remedy: 'check the port with `rdmakit topo devices`',
    kind: 'usage',
  },
  {
    codes: ['ENETUNREACH', 'EHOSTUNREACH', 'ENETDOWN', 'EADDRNOTAVAIL'],
    calls: [...TO_RTR, 'ibv_create_ah'],
    look: ['interfaces'],
    cause: "there is no route from this GID's address to the peer's",
    remedy:
      'ip route get PEER_ADDRESS from GID_ADDRESS; choose another GID with --gid-index (rdmakit topo devices)',
    kind: 'peer',
  },
  {
    codes: ['ETIMEDOUT'],
    calls: [...TO_RTR, 'ibv_create_ah'],
    look: ['interfaces'],
    cause: "the peer's Ethernet address could not be resolved: nobody answered ARP or neighbour discovery",
    remedy: 'ping PEER_ADDRESS; ip neigh',
    kind: 'peer',
  },
  {
    codes: ['EINVAL', 'ENOENT', 'ENODATA'],
    calls: [...TO_RTR, 'ibv_create_ah'],
    look: [],
    cause:
      "the GID index is empty or its type does not match the peer's GID, or the path MTU is larger than the port's",
    remedy: 'rdmakit topo devices; choose a GID of the same kind at both ends with --gid-index',
    kind: 'usage',
  },
  {
    codes: ['EINVAL'],
    calls: TO_RTS,
    look: [],
    cause: 'a timer, retry count, or the number of outstanding reads is out of range for this device',
    remedy: 'use the default timeouts and retry counts',
    kind: 'usage',
  },
  {
    codes: ['transition'],
    look: [],
    cause: 'a queue pair moves RESET -> INIT -> RTR -> RTS, and may be reset from any state',
    remedy: 'reset the queue pair first, or make the missing transitions',
    kind: 'internal',
  },
  {
    codes: ['EBUSY'],
    look: [],
    cause: 'objects that were made from this one still exist',
    remedy:
      'close queue pairs first, then queues and memory regions, then the protection domain, then the device',
    kind: 'internal',
  },
  {
    codes: ['in-use', 'closed'],
    look: [],
    cause: 'RDMA objects must be closed in the reverse order of their making, and not be used afterwards',
    remedy:
      'close queue pairs first, then queues and memory regions, then the protection domain, then the device',
    kind: 'internal',
  },
  {
    codes: ['bad-value'],
    look: [],
    cause: 'the value is outside of what the verbs interface can carry',
    remedy: 'give a value in the range named above',
    kind: 'usage',
  },
  {
    codes: ['ECONNREFUSED'],
    look: [],
    cause: 'nothing listens at that address and port',
    remedy: 'start the far end first (the same command with --listen), and check the port',
    kind: 'peer',
  },
  {
    codes: ['ENOTFOUND', 'EAI_AGAIN', 'EAI_NONAME'],
    look: [],
    cause: 'the host name has no address',
    remedy: 'getent hosts NAME; or give a numeric address',
    kind: 'peer',
  },
  {
    codes: ['EADDRINUSE'],
    calls: ['listen'],
    look: [],
    cause: 'another program listens on that port',
    remedy: 'choose another port, or find the program with `ss -ltnp`',
    kind: 'environment',
  },
  {
    codes: ['EADDRNOTAVAIL'],
    calls: ['listen'],
    look: ['interfaces'],
    cause: 'no interface of this machine has that address',
    remedy: 'ip -brief address',
    kind: 'usage',
  },
  {
    codes: ['EACCES', 'EPERM'],
    calls: ['listen'],
    look: [],
    cause: 'ports below 1024 need privileges',
    remedy: 'choose a port of 1024 or above',
    kind: 'usage',
  },
  {
    codes: ['ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH'],
    calls: ['connect'],
    look: ['interfaces'],
    cause: 'the host does not answer: it is down, or a firewall drops the packets',
    remedy: 'ping the host; open the TCP port in its firewall',
    kind: 'peer',
  },
  {
    codes: ['timeout'],
    look: [],
    cause:
      'the peer is there but said nothing within the time allowed: it hangs, or waits for something else',
    remedy: 'look at the far end, or allow more time',
    kind: 'peer',
  },
  {
    codes: ['ECONNRESET', 'EPIPE', 'ECONNABORTED', 'peer-gone'],
    look: [],
    cause: 'the peer closed the connection: it ended or failed',
    remedy: "look at the far end's error message",
    kind: 'peer',
  },
  {
    codes: ['peer-failed'],
    look: [],
    cause: 'the far end gave up',
    remedy: "look at the far end's error message",
    kind: 'peer',
  },
  {
    codes: ['version'],
    look: [],
    cause: 'the two ends run different versions of rdmakit',
    remedy: 'install the same version at both ends (rdmakit --version)',
    kind: 'peer',
  },
  {
    codes: ['protocol'],
    look: [],
    cause: 'what answers there is not the same rdmakit command, or the connection is tampered with',
    remedy: 'check host and port, and run the same command at both ends',
    kind: 'peer',
  },
  {
    codes: ['EOPNOTSUPP', 'ENOSYS', 'EPROTONOSUPPORT', 'ENOTSUP'],
    look: [],
    cause: 'this device or its driver does not implement that',
    remedy: 'use another transport or operation, or another provider (--provider soft has the most)',
    kind: 'environment',
  },
  {
    codes: ['EACCES', 'EPERM'],
    look: ['deviceNodes'],
    cause: 'this user lacks the right for that',
    remedy: 'run as root or with CAP_NET_RAW and CAP_IPC_LOCK, or use --provider soft',
    kind: 'environment',
  },
  {
    codes: ['ENODEV', 'ENXIO', 'EIO', 'ESTALE'],
    look: ['modules', 'interfaces'],
    cause: 'the device is gone or has failed',
    remedy: 'dmesg | tail; rdmakit topo devices',
    kind: 'environment',
  },
  {
    codes: ['EADDRINUSE', 'EADDRNOTAVAIL', 'ENETDOWN', 'ENETUNREACH', 'EHOSTUNREACH', 'ETIMEDOUT'],
    look: ['interfaces'],
    cause: 'the network under the device does not carry the traffic',
    remedy: 'ip -brief address; ip route',
    kind: 'peer',
  },
  {
    codes: ['EFAULT', 'EBADF', 'EDOM', 'ERANGE'],
    look: [],
    cause: 'the library was called with something that it cannot use',
    remedy: 'this is a bug of rdmakit: please report it with RDMAKIT_DEBUG=1',
    kind: 'internal',
  },
  {
    codes: ['EINTR', 'EAGAIN', 'EWOULDBLOCK'],
    look: [],
    cause: 'the call was interrupted or a resource is busy for the moment',
    remedy: 'try again',
    kind: 'environment',
  },
  {
    codes: ['EINVAL'],
    look: [],
    cause: 'a value is out of range for this device',
    remedy: 'compare it with what the device allows: rdmakit topo devices --json',
    kind: 'usage',
  },
];

/** The whole table. */
export const RULES: readonly Rule[] = [...ERRNO_RULES, ...COMPLETION_RULES];
