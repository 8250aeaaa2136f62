/* table.c - the machine's connections: made, found, freed. */
#include "table.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 8192u

/* Heads are made into empty lists when they are first used. */
static struct sr_list *table_new(void) { return calloc(BUCKETS, sizeof(struct sr_list)); }

static struct sr_list *bucket(struct sr_list *table, uint32_t number)
{
	struct sr_list *head = &table[(number * 2654435761u) >> 19];
	if (!head->next)
		sr_list_init(head);
	return head;
}

static bool same_gid(const union ibv_gid *a, const union ibv_gid *b) { return !memcmp(a, b, sizeof(*a)); }

int sr_cm_machine_init(struct sr_cm_machine *m, const struct sr_cm_ops *ops, unsigned slot)
{
	*m = (struct sr_cm_machine){ .ops = *ops, .slot = slot };
	m->by_id = table_new();
	m->by_remote = table_new();
	m->by_qpn = table_new();
	if (m->by_id && m->by_remote && m->by_qpn)
		return 0;
	free(m->by_id);
	free(m->by_remote);
	free(m->by_qpn);
	return ENOMEM;
}

void sr_cm_machine_free(struct sr_cm_machine *m)
{
	for (uint32_t i = 0; i < BUCKETS; i++)
		if (m->by_id[i].next)
			sr_list_for(n, next, &m->by_id[i]) free(sr_list_entry(n, struct sr_cm_conn, by_id));
	free(m->by_id);
	free(m->by_remote);
	free(m->by_qpn);
	sr_cm_timers_free(&m->timers);
}

struct sr_cm_conn *sr_cm_find(struct sr_cm_machine *m, uint32_t local_id)
{
	sr_list_for(n, next, bucket(m->by_id, local_id)) {
		struct sr_cm_conn *c = sr_list_entry(n, struct sr_cm_conn, by_id);
		if (c->local_id == local_id)
			return c;
	}
	return NULL;
}

struct sr_cm_conn *sr_cm_find_remote(struct sr_cm_machine *m, uint32_t remote_id, const union ibv_gid *gid)
{
	sr_list_for(n, next, bucket(m->by_remote, remote_id)) {
		struct sr_cm_conn *c = sr_list_entry(n, struct sr_cm_conn, by_remote);
		if (c->remote_id == remote_id && c->passive && same_gid(&c->path.remote, gid))
			return c;
	}
	return NULL;
}

struct sr_cm_conn *sr_cm_find_qpn(struct sr_cm_machine *m, uint32_t remote_qpn, const union ibv_gid *gid,
				  const struct sr_cm_conn *but)
{
	sr_list_for(n, next, bucket(m->by_qpn, remote_qpn)) {
		struct sr_cm_conn *c = sr_list_entry(n, struct sr_cm_conn, by_qpn);
		if (c != but && c->terms.remote_qpn == remote_qpn && same_gid(&c->path.remote, gid))
			return c;
	}
	return NULL;
}

void sr_cm_know_remote(struct sr_cm_machine *m, struct sr_cm_conn *c)
{
	sr_list_del(&c->by_remote);
	sr_list_add_tail(bucket(m->by_remote, c->remote_id), &c->by_remote);
}

void sr_cm_know_qpn(struct sr_cm_machine *m, struct sr_cm_conn *c)
{
	sr_list_del(&c->by_qpn);
	sr_list_add_tail(bucket(m->by_qpn, c->terms.remote_qpn), &c->by_qpn);
}

struct sr_cm_conn *sr_cm_conn_new(struct sr_cm_machine *m, void *user, const struct sr_gsi_path *path)
{
	struct sr_cm_conn *c = sr_cm_timers_reserve(&m->timers, m->count + 1) ? NULL : calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	do
		c->local_id = m->slot << 24 | (m->ops.random(m->ops.arg) & 0xffffff);
	while (sr_cm_find(m, c->local_id));
	c->user = user;
	c->path = *path;
	sr_list_add_tail(bucket(m->by_id, c->local_id), &c->by_id);
	sr_list_init(&c->by_remote);
	sr_list_init(&c->by_qpn);
	m->count++;
	return c;
}

void sr_cm_conn_free(struct sr_cm_machine *m, struct sr_cm_conn *c)
{
	sr_cm_timer_stop(&m->timers, &c->timer);
	sr_list_del(&c->by_id);
	sr_list_del(&c->by_remote);
	sr_list_del(&c->by_qpn);
	free(c);
	m->count--;
}

unsigned sr_cm_leaving(const struct sr_cm_machine *m)
{
	unsigned n = 0;
	for (uint32_t i = 0; i < BUCKETS; i++)
		if (m->by_id[i].next)
			sr_list_for(node, next, &m->by_id[i])
				n += sr_list_entry(node, struct sr_cm_conn, by_id)->state == SR_CM_DREQ_SENT;
	return n;
}
