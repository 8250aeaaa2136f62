/*
 * limits.h - what the device promises in its attributes, in one place. verbs/ checks against these, device/ reports them.
 * They are what this implementation can really do, not what would look good: each is bounded by an index width or a ring.
 */
#ifndef SR_LIMITS_H
#define SR_LIMITS_H

#define SR_LIMIT_QP 65535		  /* a process; the low 16 bits of a QPN, 0 is never given out */
#define SR_LIMIT_QP_WR 16384		  /* a queue, send or receive */
#define SR_LIMIT_SGE 32			  /* == SR_MAX_SGE */
#define SR_LIMIT_INLINE_BYTES 1024	  /* == SR_MAX_INLINE */
#define SR_LIMIT_CQ 65536
#define SR_LIMIT_CQE (1 << 22)
#define SR_LIMIT_KEYS ((1 << 20) - 1)	  /* memory regions and windows together */
#define SR_LIMIT_PD (1 << 20)
#define SR_LIMIT_AH (1 << 20)
#define SR_LIMIT_SRQ 65536
#define SR_LIMIT_SRQ_WR 65536
#define SR_LIMIT_RD_ATOMIC 128		  /* READs and atomics in flight on a queue pair, either side */
#define SR_LIMIT_MCAST_GROUPS 8192
#define SR_LIMIT_MCAST_QP 1024		  /* queue pairs in a group */
#define SR_LIMIT_MSG_BYTES (1u << 31)	  /* the specification's greatest message */
#define SR_LIMIT_GIDS 256		  /* ibv_global_route.sgid_index has 8 bits */
#define SR_LIMIT_COMP_VECTORS 1
#define SR_PKEY 0xffffu			  /* the one row of the P_Key table: default partition, full member */
#define SR_ACK_DELAY 15			  /* 4.096 us << 15 = 134 ms: a busy host may schedule us that late */
#define SR_FW_VER "1.0.0"		  /* of the device model: changes when its behaviour does */
#endif
