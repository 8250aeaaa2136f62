/*
 * sysfs.c - what /sys/class/infiniband/<device>/... would say, from memory. The files do not exist, because no kernel
 * device does, but programs read them through ibv_read_sysfs_file(), where we can answer; sysfs_tree.c makes files of the
 * same answers. Any other path is really read.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../abi/exports.h"
#include "../core.h"
#include "device.h"
#include "sysfs.h"

/* Where sysfs is mounted. Static storage. SYSFS_PATH overrides it, except in set-user-ID programs. */
const char *ibv_get_sysfs_path(void)
{
	const char *env = secure_getenv("SYSFS_PATH");
	static char path[256] = "/sys";
	if (env && *env)
		snprintf(path, sizeof(path), "%s", env);
	size_t n = strlen(path);
	while (n > 1 && path[n - 1] == '/')
		path[--n] = 0;
	return path;
}

static int text(char *buf, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* snprintf() that reports what fits, as reading a file would. */
static int text(char *buf, size_t size, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	int n = vsnprintf(buf, size, format, ap);
	va_end(ap);
	return n < 0 ? -1 : (size_t)n < size ? n : (int)size - 1;
}

static int guid_text(char *buf, size_t size, uint64_t guid)
{
	uint64_t g = be64toh(guid);
	return text(buf, size, "%04x:%04x:%04x:%04x", (unsigned)(g >> 48), (unsigned)(g >> 32) & 0xffff,
		    (unsigned)(g >> 16) & 0xffff, (unsigned)g & 0xffff);
}

static int gid_text(char *buf, size_t size, const union ibv_gid *g)
{
	char s[40], *p = s;
	for (int i = 0; i < 16; i += 2)
		p += sprintf(p, "%02x%02x%s", g->raw[i], g->raw[i + 1], i < 14 ? ":" : "");
	return text(buf, size, "%s", s);
}

static int counter_text(const char *name, char *buf, size_t size)
{
#define X(field) \
	if (!strcmp(name, #field)) \
		return text(buf, size, "%llu", (unsigned long long)sr.counters.field);
	SR_COUNTERS(X)
#undef X
	return -1;
}

/* Files below ports/1/. */
static int port_file(struct sr_device *d, const char *file, char *buf, size_t size)
{
	struct ibv_port_attr a;
	union ibv_gid gid;
	int i;
	sr_port_attr(d, &a);
	uint32_t mbps = sr_speed_decode_mbps(a.active_width, a.active_speed);
	if (!strcmp(file, "state"))
		return text(buf, size, a.state == IBV_PORT_ACTIVE ? "4: ACTIVE" : "1: DOWN");
	if (!strcmp(file, "phys_state"))
		return text(buf, size, a.state == IBV_PORT_ACTIVE ? "5: LinkUp" : "3: Disabled");
	if (!strcmp(file, "link_layer"))
		return text(buf, size, "Ethernet");
	if (!strcmp(file, "rate"))
		return text(buf, size, mbps % 1000 ? "%u.%u Gb/sec" : "%u Gb/sec", mbps / 1000, mbps % 1000 / 100);
	if (!strcmp(file, "lid") || !strcmp(file, "sm_lid"))
		return text(buf, size, "0x0");
	if (!strcmp(file, "lid_mask_count") || !strcmp(file, "sm_sl"))
		return text(buf, size, "0");
	if (!strcmp(file, "cap_mask"))
		return text(buf, size, "0x%08x", a.port_cap_flags);
	if (!strcmp(file, "pkeys/0"))
		return text(buf, size, "0x%04x", SR_PKEY);
	if (!strncmp(file, "hw_counters/", 12))
		return counter_text(file + 12, buf, size);
	if (!strncmp(file, "counters/", 9))
		return counter_text(file + 9, buf, size);
	if (sscanf(file, "gids/%d", &i) == 1 && i >= 0 && i < SR_LIMIT_GIDS) {
		if (sr_device_gid(&d->dev, i, &gid))
			memset(&gid, 0, sizeof(gid)); /* the kernel shows an empty row as zeros */
		return gid_text(buf, size, &gid);
	}
	if (sscanf(file, "gid_attrs/types/%d", &i) == 1)
		return sr_device_gid(&d->dev, i, &gid) ? -1 : text(buf, size, "RoCE v2");
	if (sscanf(file, "gid_attrs/ndevs/%d", &i) == 1)
		return sr_device_gid(&d->dev, i, &gid) ? -1 : text(buf, size, "%s", d->link.name);
	return -1;
}

static int device_file(struct sr_device *d, const char *file, char *buf, size_t size)
{
	if (!strcmp(file, "node_guid") || !strcmp(file, "sys_image_guid"))
		return guid_text(buf, size, d->guid);
	if (!strcmp(file, "node_type"))
		return text(buf, size, "1: CA");
	if (!strcmp(file, "node_desc"))
		return text(buf, size, "rdmakit on %s", d->link.name);
	if (!strcmp(file, "fw_ver"))
		return text(buf, size, SR_FW_VER);
	if (!strcmp(file, "hca_type") || !strcmp(file, "board_id"))
		return text(buf, size, "rdmakit_soft");
	if (!strcmp(file, "hw_rev"))
		return text(buf, size, "0");
	if (!strcmp(file, "ibdev"))
		return text(buf, size, "%s", d->dev.name);
	if (!strcmp(file, "abi_version"))
		return text(buf, size, "1");
	if (!strncmp(file, "ports/1/", 8))
		return port_file(d, file + 8, buf, size);
	return -1;
}

const char *const sr_sysfs_files[] = {
	"node_guid", "sys_image_guid", "node_type", "node_desc", "fw_ver", "hca_type", "board_id", "hw_rev",
#define X(field) "ports/1/hw_counters/" #field,
	SR_COUNTERS(X)
#undef X
	"ports/1/counters/port_xmit_packets", "ports/1/counters/port_rcv_packets", "ports/1/counters/port_xmit_data",
	"ports/1/counters/port_rcv_data", "ports/1/state", "ports/1/phys_state", "ports/1/link_layer", "ports/1/rate",
	"ports/1/lid", "ports/1/lid_mask_count", "ports/1/sm_lid", "ports/1/sm_sl", "ports/1/cap_mask", "ports/1/pkeys/0",
	NULL,
};

/* Reads the file dir/file without its final newline into buf, always terminated. Returns its length, or -1 (and errno). */
int ibv_read_sysfs_file(const char *dir, const char *file, char *buf, size_t size)
{
	char path[512];
	const char *below = NULL;
	if (size == 0 || (size_t)snprintf(path, sizeof(path), "%s/%s", dir, file) >= sizeof(path)) {
		errno = EINVAL;
		return -1;
	}
	struct sr_device *d = strstr(path, "/rk_") ? sr_device_of_path(path, &below) : NULL;
	if (d) {
		int n = device_file(d, below, buf, size);
		sr_device_put(d);
		if (n < 0)
			errno = ENOENT;
		return n;
	}
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t n = read(fd, buf, size - 1);
	close(fd);
	if (n < 0)
		return -1;
	if (n > 0 && buf[n - 1] == '\n')
		n--;
	buf[n] = 0;
	return (int)n;
}
