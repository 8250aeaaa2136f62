/* list.h - a circular intrusive doubly linked list. A node that is in no list points to itself. */
#ifndef SR_LIST_H
#define SR_LIST_H
#include <stdbool.h>
#include <stddef.h>

struct sr_list {
	struct sr_list *next, *prev;
};

#define SR_LIST_INIT(name) { &(name), &(name) }
#define sr_list_entry(node, type, member) ((type *)((char *)(node) - offsetof(type, member)))
/* Safe against removal of the current node. */
#define sr_list_for(pos, tmp, head) \
	for (struct sr_list *pos = (head)->next, *tmp = pos->next; pos != (head); pos = tmp, tmp = pos->next)

static inline void sr_list_init(struct sr_list *l) { l->next = l->prev = l; }
static inline bool sr_list_empty(const struct sr_list *l) { return l->next == l; }
static inline void sr_list_add_tail(struct sr_list *head, struct sr_list *n)
{
	n->prev = head->prev;
	n->next = head;
	head->prev->next = n;
	head->prev = n;
}
/* Removing a node that is in no list is allowed and does nothing. */
static inline void sr_list_del(struct sr_list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	n->next = n->prev = n;
}
#endif
