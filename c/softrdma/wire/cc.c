/* cc.c - see cc.h for the algorithm and its source. */
#include "cc.h"

#define Q8(packets) ((uint32_t)(packets) << 8)

static uint32_t square_root(uint32_t v)
{
	uint32_t root = 0;
	for (uint32_t bit = 1u << 15; bit; bit >>= 1)
		if ((root | bit) * (root | bit) <= v)
			root |= bit;
	return root;
}

static void clamp(struct sr_cc *cc)
{
	if (cc->cwnd_q8 < Q8(SR_CC_MIN_PACKETS))
		cc->cwnd_q8 = Q8(SR_CC_MIN_PACKETS);
	if (cc->cwnd_q8 > Q8(SR_CC_MAX_PACKETS))
		cc->cwnd_q8 = Q8(SR_CC_MAX_PACKETS);
}

void sr_cc_init(struct sr_cc *cc, uint32_t now_us)
{
	*cc = (struct sr_cc){ .cwnd_q8 = Q8(SR_CC_START_PACKETS), .slow_start = true, .round_start_us = now_us,
			      .judged_us = now_us, .epoch_start_us = now_us };
}

uint32_t sr_cc_target_us(const struct sr_cc *cc)
{
	uint32_t root = square_root(sr_cc_window(cc));
	return cc->min_rtt_us + SR_CC_QUEUE_US + SR_CC_SCALING_US / (root ? root : 1);
}

/* Two epochs of minima: the smallest round trip of the last ten to twenty seconds, so a changed route is learnt. */
static void measure(struct sr_cc *cc, uint32_t rtt_us, uint32_t now_us)
{
	if (cc->srtt_us == 0) {
		cc->srtt_us = rtt_us;
		cc->rttvar_us = rtt_us / 2;
		cc->min_rtt_us = cc->epoch_min_us = rtt_us;
		return;
	}
	uint32_t deviation = rtt_us > cc->srtt_us ? rtt_us - cc->srtt_us : cc->srtt_us - rtt_us;
	cc->rttvar_us += (uint32_t)(((int64_t)deviation - cc->rttvar_us) / 4);
	cc->srtt_us += (uint32_t)(((int64_t)rtt_us - cc->srtt_us) / 8);
	if (now_us - cc->epoch_start_us > SR_CC_MIN_RTT_EPOCH_US) {
		cc->epoch_start_us = now_us;
		cc->min_rtt_us = cc->epoch_min_us;
		cc->epoch_min_us = rtt_us;
	}
	if (rtt_us < cc->epoch_min_us)
		cc->epoch_min_us = rtt_us;
	if (rtt_us < cc->min_rtt_us)
		cc->min_rtt_us = rtt_us;
}

/* Once a round trip: the smoothed loss rate, and the one reaction to it. */
static void end_round(struct sr_cc *cc, uint32_t now_us)
{
	if (now_us - cc->round_start_us < cc->srtt_us + 50 || cc->round_acked + cc->round_lost < 16)
		return;
	uint64_t lost_q16 = ((uint64_t)cc->round_lost << 16) / (cc->round_acked + cc->round_lost);
	cc->loss_q16 += (uint32_t)(((int64_t)lost_q16 - cc->loss_q16) / 8);
	cc->round_start_us = now_us;
	cc->round_acked = cc->round_lost = 0;
	if (cc->loss_q16 > (SR_CC_LOSS_PERCENT << 16) / 100) {
		cc->cwnd_q8 /= 2;
		cc->loss_q16 /= 2;
		cc->slow_start = false;
	}
}

/* One late sample is a CPU that was busy elsewhere. When the smallest of several is late, there is a queue. */
static void judge(struct sr_cc *cc, uint32_t target_us, uint32_t now_us)
{
	uint32_t rtt_us = cc->judged_min_us;
	if (rtt_us > target_us) {
		uint64_t cut = (uint64_t)cc->cwnd_q8 * 4 / 5 * (rtt_us - target_us) / rtt_us;
		cc->cwnd_q8 -= cut > cc->cwnd_q8 / 2 ? cc->cwnd_q8 / 2 : (uint32_t)cut;
		cc->slow_start = false;
	}
	cc->judged_us = now_us;
	cc->judged_samples = 0;
}

void sr_cc_ack(struct sr_cc *cc, uint32_t acked, uint32_t rtt_us, bool limited, uint32_t now_us)
{
	cc->round_acked += acked;
	if (rtt_us) {
		cc->rtt_us = rtt_us;
		cc->judged_min_us = cc->judged_samples++ && cc->judged_min_us < rtt_us ? cc->judged_min_us : rtt_us;
		measure(cc, rtt_us, now_us);
	}
	end_round(cc, now_us);
	if (!limited)
		return;
	uint32_t target = sr_cc_target_us(cc);
	if (cc->rtt_us <= target) {
		if (cc->slow_start)
			cc->cwnd_q8 += Q8(acked);
		else
			cc->cwnd_q8 += (uint32_t)((uint64_t)Q8(acked) * Q8(4) / cc->cwnd_q8); /* four packets a round trip */
	}
	if (rtt_us && cc->judged_samples >= SR_CC_SAMPLES && now_us - cc->judged_us >= cc->srtt_us)
		judge(cc, target, now_us);
	clamp(cc);
}

void sr_cc_hint(struct sr_cc *cc, uint32_t min_rtt_us)
{
	if (cc->srtt_us && min_rtt_us < cc->min_rtt_us)
		cc->min_rtt_us = min_rtt_us;
}

void sr_cc_loss(struct sr_cc *cc, uint32_t lost) { cc->round_lost += lost; }

void sr_cc_timeout(struct sr_cc *cc)
{
	cc->cwnd_q8 /= 2;
	clamp(cc);
}
