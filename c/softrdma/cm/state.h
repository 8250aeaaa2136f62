/* state.h - steps that both halves of the machine take. */
#ifndef SR_CM_STATE_H
#define SR_CM_STATE_H
#include "machine.h"

/* An event for the user, if there still is one; with the private data of `in`, if that is not NULL. */
void sr_cm_tell(struct sr_cm_machine *m, struct sr_cm_conn *c, enum sr_cm_happening_type type, int status,
		const struct sr_cm_mad *in);
/* Nothing is left to say. Frees a released connection. */
void sr_cm_end(struct sr_cm_machine *m, struct sr_cm_conn *c);
void sr_cm_time_wait(struct sr_cm_machine *m, struct sr_cm_conn *c);
#endif
