/* helper.h - the thread that makes progress when nobody polls. */
#ifndef SR_HELPER_H
#define SR_HELPER_H
#include "../core.h"

int sr_helper_start(void); /* 0 or errno; under sr.control */
void sr_helper_after_fork(void);
/* Somebody polls again: peers stop ringing the doorbell, the helper only looks in every tick. Under sr.lock. */
void sr_helper_stand_back(void);
/* Watch or forget a descriptor; on readiness handler(arg) runs on the helper thread without sr.lock. */
struct sr_watch {
	int fd;
	void (*handler)(void *arg);
	void *arg;
};
int sr_helper_watch(struct sr_watch *w); /* 0 or errno; *w stays the caller's and must live until unwatched */
void sr_helper_unwatch(struct sr_watch *w);
int sr_helper_doorbell_fd(void); /* eventfd that peers write to */
#endif
