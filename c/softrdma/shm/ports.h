/*
 * ports.h - who listens to which rdma_cm port, among all processes of this user in this network namespace: a table of rows
 * in the registry's file. A row belongs to a process; it is worth nothing once its owner is dead.
 *
 * Rows are written under a file lock and read without one.
 */
#ifndef SR_PORTS_H
#define SR_PORTS_H
#include <infiniband/verbs.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct sr_port_bind {
	uint16_t space;      /* enum rdma_port_space */
	uint16_t port;       /* host order */
	union ibv_gid addr;  /* ::ffff:a.b.c.d for IPv4; all zero: any IPv6 address; ::ffff:0.0.0.0: any IPv4 address */
	bool v4_too;         /* any IPv6 address, and IPv4 as well */
	bool reuse;          /* may share the port with others that say the same, as long as none of them listens */
};

#define SR_PORT_ROWS 4096
struct sr_port_row {
	_Atomic uint32_t listening; /* 0 free, 1 bound, 2 listening */
	uint32_t slot;
	uint64_t generation;
	struct sr_port_bind bind;
};
struct sr_port_table {
	_Atomic uint32_t high; /* rows from here on were never used */
	struct sr_port_row rows[SR_PORT_ROWS];
};

/* Takes a port; port 0 chooses a free one in the dynamic range and stores it in *bind. Returns the row (>= 0) or -errno
 * (EADDRINUSE, ENOMEM: table full). The device must have been started. */
int rdmakit_port_bind(struct sr_port_bind *bind);
/* From now on requests find the row. 0, or EADDRINUSE when one that shares the port listens already. */
int rdmakit_port_listen(int row);
void rdmakit_port_release(int row);
/* Slot of the living process that listens to the port at that address (the most specific one), 0: nobody. */
unsigned sr_port_listener(uint16_t space, uint16_t port, const union ibv_gid *addr);
#endif
