/*
 * device.h - the table of devices: one for each interface that is up and has an address.
 *
 * A device stays in the table (and its address stays valid) while its interface exists or anybody holds a reference: a
 * device list or an open context. Its GID table keeps every address at the index it was first given, as hardware does,
 * because queue pairs remember indices. Everything in struct sr_device that may change is guarded by sr_device_lock, a
 * lock under which nothing waits and only events_lock of a context is taken.
 */
#ifndef SR_DEVICE_H
#define SR_DEVICE_H
#include <infiniband/verbs.h>
#include <pthread.h>
#include <stdbool.h>
#include "../list.h"
#include "limits.h"
#include "netlink.h"

struct sr_device {
	struct ibv_device dev;	  /* first: the application's pointer is ours */
	struct sr_list node;	  /* in the table */
	struct sr_list users;	  /* of sr_device_user: open contexts */
	unsigned refs;
	uint64_t netns;		  /* inode of the network namespace it was found in */
	uint64_t guid;		  /* network byte order */
	struct sr_link_info link; /* as last read; flags 0 once the interface is gone */
	bool gone;
	bool listed;		  /* up and has an address */
	uint32_t speed_mbps;	  /* 0 unknown */
	struct {
		union ibv_gid gid;
		bool valid;
	} gids[SR_LIMIT_GIDS];
};

struct sr_device_user {
	struct sr_list node;
	struct ibv_context *context;
};

extern pthread_mutex_t sr_device_lock;
extern struct sr_list sr_device_table; /* of sr_device.node */

static inline struct sr_device *sr_dev(const struct ibv_device *d) { return (struct sr_device *)(uintptr_t)d; }

/* Reads the interfaces of this namespace and brings the table up to date, raising events on open contexts. 0 or errno. */
int sr_device_refresh(void);
/* The same, but only when the kernel told of a change since the last look. Cheap; for queries. */
void sr_device_freshen(void);
/* New array (NULL-terminated) of referenced devices to list, `*n` of them; NULL and errno on failure. */
struct ibv_device **sr_device_list(int *n);
/* The device whose sysfs folder a path lies in, referenced, and what of the path is below it; NULL when it is none of ours. */
struct sr_device *sr_device_of_path(const char *path, const char **below);
void sr_device_put(struct sr_device *d);
/* Removes and frees a device whose interface is gone and that nobody holds. Under sr_device_lock. */
void sr_device_drop_if_unused(struct sr_device *d);
/* From open to close a context hears of its device's changes. `u` is the caller's storage. Takes and drops a reference. */
void sr_device_attach(struct sr_device *d, struct sr_device_user *u);
void sr_device_detach(struct sr_device *d, struct sr_device_user *u);

/* gid.c: copies row `index`. 0; ENODATA for an empty row; EINVAL beyond the table. */
int sr_gid_row(struct sr_device *d, uint32_t index, struct ibv_gid_entry *entry);

/* guid.c: the 64-bit identifier of an interface, in network byte order. */
uint64_t sr_guid_of(const struct sr_link_info *link, uint64_t netns);
/* Inode number of the calling thread's network namespace; 0 when /proc tells nothing. */
uint64_t sr_netns_inode(void);

/* port.c: pure functions of an interface. */
enum ibv_mtu sr_mtu_of(uint32_t netdev_mtu_bytes);
bool sr_link_active(const struct sr_link_info *link);
/* Speed by ethtool in Mbit/s, 0 when the driver does not say. */
uint32_t sr_speed_read_mbps(const char *ifname);
/* Codes of the lanes and of a lane's speed for the highest link speed that is not above mbps (the lowest there is, if all are);
 * and back, 0 for codes never given. */
void sr_speed_encode(uint32_t mbps, uint8_t *width, uint8_t *speed);
uint32_t sr_speed_decode_mbps(uint8_t width, uint8_t speed);
/* Fills the port attributes of the device as they are now, violation counters (which the engine has) excepted. */
void sr_port_attr(struct sr_device *d, struct ibv_port_attr *attr);

/* attr.c: fills the device attributes. */
void sr_device_attr(struct sr_device *d, struct ibv_device_attr *attr);
int sr_query_device_ex(struct ibv_context *ctx, const struct ibv_query_device_ex_input *input,
		       struct ibv_device_attr_ex *attr, size_t attr_size);

/* query.c */
int sr_query_port(struct ibv_context *ctx, uint8_t port_num, struct ibv_port_attr *attr, size_t attr_size);
#endif
