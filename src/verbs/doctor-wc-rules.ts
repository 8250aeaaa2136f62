/**
 * The error doctor's table, part two: completion statuses (IBV_WC_*).
 *
 * What each status means follows the InfiniBand specification (volume 1, chapter
 * 9 and 11, "completion return status"): who detects the error decides whose fault
 * it is.
 */

import type { Rule } from './doctor-rules.ts';

/** One rule a status; every status of `enum ibv_wc_status` has one. */
export const COMPLETION_RULES: readonly Rule[] = [
  {
    codes: ['IBV_WC_SUCCESS'],
    cause: 'the work request completed',
    remedy: 'nothing to do',
    kind: 'internal',
  },
  {
    codes: ['IBV_WC_LOC_LEN_ERR'],
    cause:
      'a message was longer than its buffer: the receive posted here was too small, or the message exceeds what the port carries (UD: one MTU)',
    remedy:
      'use the same message size at both ends; for UD stay within the active MTU (UD receives need 40 bytes more)',
    kind: 'usage',
  },
  {
    codes: ['IBV_WC_LOC_QP_OP_ERR'],
    cause:
      'the queue pair cannot do this operation: it is not in the right state, or its type does not have it',
    remedy: 'bring the queue pair to RTS first; UC has no read and atomics, UD only sends',
    kind: 'internal',
  },
  {
    codes: ['IBV_WC_LOC_EEC_OP_ERR'],
    cause: 'an internal consistency error of the local end-to-end context (RD, which no current device has)',
    remedy: 'use RC, UC or UD',
    kind: 'internal',
  },
  {
    codes: ['IBV_WC_LOC_PROT_ERR'],
    cause:
      'a local buffer is not covered by the memory region of its lkey: wrong lkey, wrong range, or no local-write right for data that arrives',
    remedy: 'register the whole buffer with local-write and pass its lkey',
    kind: 'internal',
  },
  {
    codes: ['IBV_WC_WR_FLUSH_ERR'],
    cause:
      'the queue pair went to the error state before this request was done: an earlier completion holds the reason',
    remedy: 'look at the first completion that failed, not at this one; reset the queue pair to use it again',
    kind: 'peer',
  },
  {
    codes: ['IBV_WC_MW_BIND_ERR'],
    cause:
      'the memory window could not be bound: its region lacks the mw-bind right, or the range is outside of it',
    remedy: 'register the region with mw-bind, and bind within it',
    kind: 'usage',
  },
  {
    codes: ['IBV_WC_BAD_RESP_ERR'],
    cause: 'the peer answered with something that does not fit the request',
    remedy:
      'check that both queue pairs are connected to each other, with the same path MTU and packet sequence numbers',
    kind: 'peer',
  },
  {
    codes: ['IBV_WC_LOC_ACCESS_ERR'],
    cause: 'an incoming write, read or atomic touched local memory that its region does not allow',
    remedy: 'register the region with the remote right that the peer uses',
    kind: 'usage',
  },
  {
    codes: ['IBV_WC_REM_INV_REQ_ERR'],
    cause:
      'the peer found the request invalid: its receive buffer is too small, or its queue pair does not allow the operation',
    remedy: 'use the same message size at both ends, and give the peer queue pair the access rights at INIT',
    kind: 'peer',
  },
  {
    codes: ['IBV_WC_REM_ACCESS_ERR'],
    cause:
      'the peer refused access to its memory: wrong rkey, address outside of its region, or the region lacks the remote right',
    remedy:
      'check the rkey and address that the peer announced, and the access rights it registered the memory with',
    kind: 'peer',
  },
  {
    codes: ['IBV_WC_REM_OP_ERR'],
    cause: 'the peer could not finish the operation: its receive buffer was too small or its memory failed',
    remedy: "look at the peer's completions and async events",
    kind: 'peer',
  },
  {
    codes: ['IBV_WC_RETRY_EXC_ERR'],
    look: ['interfaces'],
    cause:
      'the peer did not acknowledge after all retries: its process ended, its queue pair is not in RTR or RTS, or packets are lost on the way (UDP port 4791 blocked, wrong GID)',
    remedy:
      "check that the far end still runs; let UDP port 4791 through (nft list ruleset); compare both ends' GIDs with `rdmakit topo devices`",
    kind: 'peer',
  },
  {
    codes: ['IBV_WC_RNR_RETRY_EXC_ERR'],
    cause: 'the peer had no receive posted each time the message arrived',
    remedy: 'post more receives at the peer, or raise rnr_retry (7 retries for ever)',
    kind: 'peer',
  },
  {
    codes: ['IBV_WC_LOC_RDD_VIOL_ERR'],
    cause: 'the reliable datagram domains do not match (RD, which no current device has)',
    remedy: 'use RC, UC or UD',
    kind: 'internal',
  },
  {
    codes: ['IBV_WC_REM_INV_RD_REQ_ERR'],
    cause: 'the peer found a reliable datagram request invalid (RD, which no current device has)',
    remedy: 'use RC, UC or UD',
    kind: 'internal',
  },
  {
    codes: ['IBV_WC_REM_ABORT_ERR'],
    cause: 'the peer aborted the operation: its queue pair was reset or closed meanwhile',
    remedy: 'let both ends finish before either closes its queue pair',
    kind: 'peer',
  },
  {
    codes: ['IBV_WC_INV_EECN_ERR', 'IBV_WC_INV_EEC_STATE_ERR'],
    cause: 'an invalid end-to-end context (RD, which no current device has)',
    remedy: 'use RC, UC or UD',
    kind: 'internal',
  },
  {
    codes: ['IBV_WC_FATAL_ERR'],
    look: ['modules', 'interfaces'],
    cause: 'the device failed and its queue pairs cannot be used any more',
    remedy: 'dmesg | tail; close and open the device again',
    kind: 'environment',
  },
  {
    codes: ['IBV_WC_RESP_TIMEOUT_ERR'],
    cause: 'no answer came within the time allowed',
    remedy: 'check that the far end still runs',
    kind: 'peer',
  },
  {
    codes: ['IBV_WC_GENERAL_ERR'],
    look: ['modules'],
    cause: 'the device reports an error that the specification has no name for; the vendor error tells more',
    remedy: "dmesg | tail; look the vendor error up in the device's manual",
    kind: 'environment',
  },
  {
    codes: ['IBV_WC_TM_ERR', 'IBV_WC_TM_RNDV_INCOMPLETE'],
    cause: 'tag matching failed or needs software to finish a rendezvous',
    remedy: 'rdmakit does not use tag matching: this is a bug, please report it',
    kind: 'internal',
  },
];
