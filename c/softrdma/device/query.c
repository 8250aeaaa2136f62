/*
 * query.c - the exported calls that ask for port attributes, GIDs and P_Keys. Each first hears what the kernel has to say
 * about changed interfaces, so the answers are right although nobody polls.
 */
#include <errno.h>
#include <endian.h>
#include <string.h>
#include "../core.h"
#include "device.h"

int sr_query_port(struct ibv_context *ctx, uint8_t port_num, struct ibv_port_attr *attr, size_t attr_size)
{
	struct ibv_port_attr all;
	if (port_num != 1)
		return EINVAL;
	sr_device_freshen();
	sr_port_attr(sr_dev(ctx->device), &all);
	all.bad_pkey_cntr = (uint32_t)sr.counters.rx_pkey_mismatch;
	all.qkey_viol_cntr = (uint32_t)sr.counters.rx_qkey_mismatch;
	memset(attr, 0, attr_size);
	memcpy(attr, &all, attr_size < sizeof(all) ? attr_size : sizeof(all));
	return 0;
}

/* Programs that were not compiled with the extended interface come here; their struct ends before port_cap_flags2. */
#undef ibv_query_port
int ibv_query_port(struct ibv_context *context, uint8_t port_num, struct _compat_ibv_port_attr *port_attr)
{
	return sr_query_port(context, port_num, (struct ibv_port_attr *)port_attr,
			     offsetof(struct ibv_port_attr, port_cap_flags2));
}

/* One row of the GID table. 0 or an errno: ENODATA for an empty row. entry_size is the caller's idea of the struct. */
int _ibv_query_gid_ex(struct ibv_context *context, uint32_t port_num, uint32_t gid_index, struct ibv_gid_entry *entry,
		      uint32_t flags, size_t entry_size)
{
	struct ibv_gid_entry e;
	if (port_num != 1 || entry_size < sizeof(e))
		return EINVAL;
	if (flags)
		return EOPNOTSUPP;
	sr_device_freshen();
	int rc = sr_gid_row(sr_dev(context->device), gid_index, &e);
	if (rc)
		return rc;
	memset(entry, 0, entry_size);
	memcpy(entry, &e, sizeof(e));
	return 0;
}

/* All rows in use. Returns how many, or a negative errno: -EINVAL when max_entries do not suffice. */
ssize_t _ibv_query_gid_table(struct ibv_context *context, struct ibv_gid_entry *entries, size_t max_entries,
			     uint32_t flags, size_t entry_size)
{
	size_t n = 0;
	struct ibv_gid_entry e;
	if (entry_size < sizeof(e))
		return -EINVAL;
	if (flags)
		return -EOPNOTSUPP;
	sr_device_freshen();
	for (uint32_t i = 0; i < SR_LIMIT_GIDS; i++) {
		if (sr_gid_row(sr_dev(context->device), i, &e))
			continue;
		if (n == max_entries)
			return -EINVAL;
		char *out = (char *)entries + n++ * entry_size;
		memset(out, 0, entry_size);
		memcpy(out, &e, sizeof(e));
	}
	return (ssize_t)n;
}

/* One GID; an empty row reads as zeros. 0, or -1 and errno. */
int ibv_query_gid(struct ibv_context *context, uint8_t port_num, int index, union ibv_gid *gid)
{
	struct ibv_gid_entry e;
	int rc = index < 0 ? EINVAL : _ibv_query_gid_ex(context, port_num, (uint32_t)index, &e, 0, sizeof(e));
	if (rc && rc != ENODATA) {
		errno = rc;
		return -1;
	}
	memset(gid, 0, sizeof(*gid));
	if (!rc)
		*gid = e.gid;
	return 0;
}

/* One P_Key, network byte order. 0, or -1 and errno. */
int ibv_query_pkey(struct ibv_context *context, uint8_t port_num, int index, __be16 *pkey)
{
	(void)context;
	if (port_num != 1 || index != 0) {
		errno = EINVAL;
		return -1;
	}
	*pkey = htobe16(SR_PKEY);
	return 0;
}

/* Row of a P_Key, or -1 and errno. */
int ibv_get_pkey_index(struct ibv_context *context, uint8_t port_num, __be16 pkey)
{
	(void)context;
	if (port_num != 1 || pkey != htobe16(SR_PKEY)) {
		errno = EINVAL;
		return -1;
	}
	return 0;
}
