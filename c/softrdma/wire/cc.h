/*
 * cc.h - the congestion window of a requester whose peer is one of our devices: delay decides, loss hardly.
 *
 * After G. Kumar et al., "Swift: Delay is Simple and Effective for Congestion Control in the Datacenter", SIGCOMM 2020:
 * additive increase while the round-trip time is below a target, multiplicative decrease in proportion to the excess at most
 * once a round trip. The target is the smallest round trip seen lately plus a fixed allowance for queues, and shrinks as the
 * window grows (flow scaling), which makes competing flows converge. Unlike Swift, a lost packet is not by itself a sign of
 * congestion: only a loss rate above SR_CC_LOSS_PERCENT halves the window (compare BBRv2's loss threshold), so random loss of
 * some percent costs nothing but the retransmissions.
 *
 * The round-trip time is the network's alone: from the send call to the kernel's receive timestamp of the acknowledgement, less
 * the time that the responder says it held the packet. How long processes waited for a CPU is no congestion.
 *
 * Pure arithmetic: no clock, no sockets, so that it can be simulated in a test.
 */
#ifndef SR_WIRE_CC_H
#define SR_WIRE_CC_H
#include <stdbool.h>
#include <stdint.h>

#define SR_CC_MIN_PACKETS 16 /* a process that was not scheduled looks like a long queue; do not starve on it */
#define SR_CC_START_PACKETS 64
#define SR_CC_MAX_PACKETS 4096
#define SR_CC_QUEUE_US 150	/* queueing that is always allowed on top of the smallest round trip */
#define SR_CC_SCALING_US 1600	/* flow scaling: this much more, divided by the square root of the window */
#define SR_CC_SAMPLES 3		/* round trips that must all be late before the window shrinks */
#define SR_CC_LOSS_PERCENT 12
#define SR_CC_MIN_RTT_EPOCH_US 10000000u

struct sr_cc {
	uint32_t cwnd_q8;	/* packets, 8 fractional bits */
	uint32_t rtt_us;	/* the latest; 0 = none yet */
	uint32_t srtt_us;	/* 0 = none yet */
	uint32_t rttvar_us;
	uint32_t min_rtt_us;	/* of this epoch and the one before */
	uint32_t epoch_min_us;
	uint32_t epoch_start_us;
	uint32_t judged_us;	/* when it was decided last whether there is a queue; and what was measured since: */
	uint32_t judged_samples, judged_min_us;
	bool slow_start;
	uint32_t round_start_us;
	uint32_t round_acked, round_lost;
	uint32_t loss_q16;	/* smoothed share of packets lost */
};

void sr_cc_init(struct sr_cc *cc, uint32_t now_us);
/* `acked` packets left the network; rtt_us of the newest, 0 when it cannot be measured: then the
 * latest measurement says whether the window may grow. `limited`: the window was what held the
 * sender back; one that is not used says nothing about the network and stays as it is. */
void sr_cc_ack(struct sr_cc *cc, uint32_t acked, uint32_t rtt_us, bool limited, uint32_t now_us);
/* Another flow to the same place measured a smaller round trip: a flow that began behind a queue learns how short the path is. */
void sr_cc_hint(struct sr_cc *cc, uint32_t min_rtt_us);
void sr_cc_loss(struct sr_cc *cc, uint32_t lost);
void sr_cc_timeout(struct sr_cc *cc);
static inline uint32_t sr_cc_window(const struct sr_cc *cc) { return cc->cwnd_q8 >> 8; }
uint32_t sr_cc_target_us(const struct sr_cc *cc);

#endif
