/* send.h - what the machine says. Each function fills in and sends one message; those that expect an answer start repeating. */
#ifndef SR_CM_SEND_H
#define SR_CM_SEND_H
#include "machine.h"

static inline uint64_t sr_cm_code_ns(uint8_t code) { return UINT64_C(4096) << (code & 31); }

/* A message of this connection with its IDs; the private data must fit (EMSGSIZE). */
int sr_cm_message(struct sr_cm_conn *c, struct sr_cm_mad *out, enum sr_cm_attr attr, struct sr_cm_data data);
/* Sends and forgets. */
void sr_cm_say(struct sr_cm_machine *m, const struct sr_gsi_path *path, const struct sr_cm_mad *out);
/* Sends, and keeps as c->last. */
void sr_cm_say_last(struct sr_cm_machine *m, struct sr_cm_conn *c, const struct sr_cm_mad *out);
/* Sends and repeats until the timer is stopped. */
void sr_cm_ask(struct sr_cm_machine *m, struct sr_cm_conn *c, const struct sr_cm_mad *out);
void sr_cm_say_again(struct sr_cm_machine *m, struct sr_cm_conn *c);

void sr_cm_send_mra(struct sr_cm_machine *m, struct sr_cm_conn *c, uint8_t about);
int sr_cm_send_rej(struct sr_cm_machine *m, struct sr_cm_conn *c, uint8_t about, uint16_t reason, struct sr_cm_data data);
int sr_cm_send_dreq(struct sr_cm_machine *m, struct sr_cm_conn *c);
void sr_cm_send_drep(struct sr_cm_machine *m, struct sr_cm_conn *c, uint64_t tid);
#endif
