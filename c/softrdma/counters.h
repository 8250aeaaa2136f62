/*
 * counters.h - what the device counts, in one list: the struct, the names and the exported reader come from it.
 * Names follow the kernel's hw_counters where it has them.
 */
#ifndef SR_COUNTERS_H
#define SR_COUNTERS_H
#include <stdint.h>

#define SR_COUNTERS(X) \
	X(port_xmit_packets)          /* wire: packets sent */ \
	X(port_rcv_packets)           /* wire: packets received */ \
	X(port_xmit_data)             /* wire: payload bytes sent */ \
	X(port_rcv_data)              /* wire: payload bytes received */ \
	X(shm_messages_sent)          /* road 1: ring messages */ \
	X(shm_messages_received) \
	X(shm_direct_operations)      /* road 1: operations done in the peer's memory without its help */ \
	X(shm_direct_bytes) \
	X(shm_doorbells)              /* road 1: times a sleeping peer was woken */ \
	X(shm_bad_messages)           /* road 1: malformed or misaddressed, dropped */ \
	X(shm_links_lost)             /* peers that died */ \
	X(out_of_buffer)              /* messages that met an empty receive queue */ \
	X(rnr_nak_retry_err)          /* RNR NAKs received */ \
	X(local_ack_timeout_err)      /* retransmission timeouts */ \
	X(packet_seq_err)             /* sequence-error NAKs received */ \
	X(out_of_sequence)            /* packets that arrived ahead of a gap */ \
	X(duplicate_request)          /* requests seen before */ \
	X(implied_nak_seq_err) \
	X(resp_remote_access_errors)  /* remote access errors found as responder */ \
	X(req_remote_access_errors) \
	X(req_remote_invalid_request) \
	X(req_cqe_error)              /* send completions with error */ \
	X(resp_cqe_error)             /* receive completions with error */ \
	X(retransmitted_packets) \
	X(selective_retransmits)      /* of these, by selective recovery */ \
	X(probes_sent)                /* packets sent again to learn what has arrived */ \
	X(sacks_sent) \
	X(sacks_received) \
	X(rx_icrc_encapsulated)       /* dropped: bad ICRC */ \
	X(rx_malformed)               /* dropped: bad length, version, opcode */ \
	X(rx_unknown_opcode) \
	X(rx_no_qp)                   /* dropped: no such queue pair, or not ready to receive */ \
	X(rx_wrong_peer)              /* dropped: not from the address this queue pair is connected to */ \
	X(rx_pkey_mismatch) \
	X(rx_qkey_mismatch)           /* also called bad_qkey */ \
	X(rx_ud_dropped)              /* UD datagrams without a receive WQE or too long for it */ \
	X(rx_uc_dropped)              /* UC messages dropped */ \
	X(rx_misrouted)               /* arrived at a process that does not own the queue pair, passed on */ \
	X(rx_misrouted_lost) \
	X(gsi_received)               /* management datagrams for this process */ \
	X(gsi_sent) \
	X(gsi_dropped)                /* malformed, or nobody fetched those before */ \
	X(gsi_answered)               /* refused because no living process claims them */ \
	X(tx_errors)                  /* sends the kernel refused */ \
	X(tx_no_buffer)               /* sends deferred because the socket was full */ \
	X(memory_faults)              /* accesses to registered memory that was unmapped or made read-only meanwhile */ \
	X(fault_injected)             /* packets touched by RDMAKIT_FAULT */

struct sr_counters {
#define X(name) uint64_t name;
	SR_COUNTERS(X)
#undef X
};
/* engine/counters.c: at the end of the process. */
void sr_counters_report(void);
#define SR_COUNT(name) (sr.counters.name++)
#define SR_COUNT_N(name, n) (sr.counters.name += (n))
#endif
