/*
 * domains.h - which XRC domains exist, among all processes of this user in this network namespace: a table of rows in the
 * registry's file, one an open handle of a domain that belongs to a file. A row is worth nothing once its process is dead.
 */
#ifndef SR_DOMAINS_H
#define SR_DOMAINS_H
#include "../core.h"

#define SR_DOMAIN_ROWS 1024
struct sr_domain_row {
	uint32_t slot; /* 0 free */
	uint64_t generation;
	struct sr_xrc_domain domain;
};
struct sr_domain_table {
	struct sr_domain_row rows[SR_DOMAIN_ROWS];
};

/* Opens the domain: `oflags` as in open(2), O_CREAT and O_EXCL count. Returns the row, or -errno as the kernel does it: EAGAIN when
 * there is none and O_CREAT is not set, EINVAL when there is one and O_EXCL is; ENOMEM: the table is full. */
int sr_domain_open(const struct sr_xrc_domain *domain, int oflags);
void sr_domain_close(int row);
#endif
