/* shm.h - road 1 as the engine and the verbs see it. Everything but start, listen and link calls runs under sr.lock. */
#ifndef SR_SHM_H
#define SR_SHM_H
#include "../core.h"

int sr_shm_start(void);   /* slot, segment; 0 or errno */
int sr_shm_listen(void);  /* the private socket on which peers introduce themselves; needs the helper's epoll */
void sr_shm_after_fork(void);

int sr_shm_progress(void);
void sr_shm_flush_acks(void);
uint64_t sr_shm_next_deadline_ns(void);
/* Links whose socket ended while the process lived: have they died since? On the helper thread, without sr.lock; cheap when it is not yet
 * time. */
void sr_shm_look_for_dead(void);
uint64_t sr_shm_look_at_ns(void); /* when to call that; UINT64_MAX never */
/* Tells peers whether to ring. true comes with a full fence on behalf of every peer. */
void sr_shm_set_asleep(bool asleep);

/* The link to a slot's process, opened when there is none. May sleep: never under sr.lock. NULL: not reachable on this road. */
struct sr_link *sr_shm_link(unsigned slot);
/* The same with little patience: a slot whose process did not answer in a second is not asked again for some, so that posting a
 * datagram to a stopped process does not stop the sender. */
struct sr_link *sr_shm_link_for_datagram(unsigned slot);
/* Is it still the link to that slot? The pointer may be stale. */
static inline bool sr_shm_link_alive(const struct sr_link *link, unsigned slot) { return sr.link_by_slot[slot] == link; }

void sr_shm_qp_rtr(struct sr_qp *qp, struct sr_link *link);
void sr_shm_qp_reset(struct sr_qp *qp);
void sr_shm_kick(struct sr_qp *qp);
/* Was sq.next begun already: half of it sent, or sent and refused for now? */
bool sr_shm_begun(const struct sr_qp *qp);
enum sr_ud_sent {
	SR_UD_SENT,
	SR_UD_FULL,        /* the queue pair waits for room; it is kicked when there is some, or drops the datagram after a while */
	SR_UD_FAULT,       /* the datagram's memory is gone */
	SR_UD_UNREACHABLE, /* no link to that queue pair's process: the wire may know better */
};
enum sr_ud_sent sr_shm_ud_send(struct sr_qp *qp, struct sr_swqe *w, const struct iovec *iov, int n);

/* A receive WQE was posted to a UD queue pair: datagrams may be waiting for it. */
void sr_shm_ud_receive_posted(struct sr_qp *qp);

/* The queue pair's or key's row in the shared tables, kept in step with the private objects. */
void sr_shm_publish_qp(struct sr_qp *qp);
void sr_shm_retract_qp(struct sr_qp *qp);
void sr_shm_publish_key(struct sr_key *key);
/* Returns true when no peer was in the middle of using the key. */
bool sr_shm_retract_key(struct sr_key *key);
#endif
