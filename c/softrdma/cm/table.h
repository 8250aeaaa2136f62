/* table.h - the machine's connections by our ID, by the peer's ID and by the peer's queue pair. */
#ifndef SR_CM_TABLE_H
#define SR_CM_TABLE_H
#include "machine.h"

struct sr_cm_conn *sr_cm_find(struct sr_cm_machine *m, uint32_t local_id);
/* The one that a request made: its sender repeats itself. */
struct sr_cm_conn *sr_cm_find_remote(struct sr_cm_machine *m, uint32_t remote_id, const union ibv_gid *gid);
/* One that believes to be connected to that queue pair, other than `but`. */
struct sr_cm_conn *sr_cm_find_qpn(struct sr_cm_machine *m, uint32_t remote_qpn, const union ibv_gid *gid,
				  const struct sr_cm_conn *but);
/* Enters it by remote_id, and by terms.remote_qpn. */
void sr_cm_know_remote(struct sr_cm_machine *m, struct sr_cm_conn *c);
void sr_cm_know_qpn(struct sr_cm_machine *m, struct sr_cm_conn *c);
void sr_cm_conn_free(struct sr_cm_machine *m, struct sr_cm_conn *c);
#endif
