/* device.c - finding, opening and using an RDMA device without being linked with libibverbs. */
#define _GNU_SOURCE
#include "device.h"
#include "datagram.h"
#include "../sys.h"
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct vs_verbs vs_verbs;

static struct {
	struct ibv_device **(*get_device_list)(int *);
	void (*free_device_list)(struct ibv_device **);
	const char *(*get_device_name)(struct ibv_device *);
	struct ibv_context *(*open_device)(struct ibv_device *);
	int (*close_device)(struct ibv_context *);
	int (*query_port)(struct ibv_context *, uint8_t, struct _compat_ibv_port_attr *);
	int (*query_gid)(struct ibv_context *, uint8_t, int, union ibv_gid *);
	ssize_t (*query_gid_table)(struct ibv_context *, struct ibv_gid_entry *, size_t, uint32_t, size_t);
	struct ibv_pd *(*alloc_pd)(struct ibv_context *);
	struct ibv_comp_channel *(*create_comp_channel)(struct ibv_context *);
	struct ibv_cq *(*create_cq)(struct ibv_context *, int, void *, struct ibv_comp_channel *, int);
} lib;

static struct vs_device device;
static bool opened, loaded, failed;
/* When there was none the last time, and how long that is believed. */
static uint64_t missed_ns;
#define AGAIN_NS UINT64_C(50000000)

/* Devices of the kernel's; what socket-run starts may have the embedded one's in its view of sysfs, which then does no harm. */
static bool has_adapter(void)
{
	DIR *d = opendir("/sys/class/infiniband");
	bool found = false;
	for (struct dirent *e; d && (e = readdir(d));)
		found |= e->d_name[0] != '.';
	if (d)
		closedir(d);
	return found;
}

static void *load(void)
{
	const char *wish = getenv("RDMAKIT_PROVIDER");
	bool system = wish && !strcmp(wish, "system"), soft = wish && !strcmp(wish, "soft");
	char path[4096];
	Dl_info own;
	/* Its calls of the C library must not come to our replacements. Sanitizers cannot bear that, and then they do. */
	int flags = RTLD_NOW | RTLD_LOCAL;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	flags |= RTLD_DEEPBIND;
#endif
	if (system || (!soft && has_adapter()))
		return dlopen("libibverbs.so.1", flags);
	if (!dladdr((void *)(uintptr_t)&vs_device_open, &own) || !own.dli_fname)
		return NULL;
	const char *slash = strrchr(own.dli_fname, '/');
	int n = snprintf(path, sizeof path, "%.*s/softrdma/libibverbs.so.1", slash ? (int)(slash - own.dli_fname) : 1,
			 slash ? own.dli_fname : ".");
	return n > 0 && (size_t)n < sizeof path ? dlopen(path, flags) : NULL;
}

static bool look_up(void)
{
	void *h = load();
	if (!h)
		return false;
#define FIND(table, name, symbol) ((table).name = (__typeof__((table).name))dlsym(h, symbol))
	return FIND(lib, get_device_list, "ibv_get_device_list") && FIND(lib, free_device_list, "ibv_free_device_list") &&
	       FIND(lib, get_device_name, "ibv_get_device_name") && FIND(lib, open_device, "ibv_open_device") &&
	       FIND(lib, close_device, "ibv_close_device") && FIND(lib, query_port, "ibv_query_port") &&
	       FIND(lib, query_gid, "ibv_query_gid") && FIND(lib, alloc_pd, "ibv_alloc_pd") &&
	       FIND(lib, create_comp_channel, "ibv_create_comp_channel") && FIND(lib, create_cq, "ibv_create_cq") &&
	       FIND(vs_verbs, reg_mr, "ibv_reg_mr") && FIND(vs_verbs, dereg_mr, "ibv_dereg_mr") &&
	       FIND(vs_verbs, create_qp, "ibv_create_qp") && FIND(vs_verbs, modify_qp, "ibv_modify_qp") &&
	       FIND(vs_verbs, destroy_qp, "ibv_destroy_qp") && FIND(vs_verbs, create_ah, "ibv_create_ah") && FIND(vs_verbs, destroy_ah, "ibv_destroy_ah") &&
	       FIND(vs_verbs, get_cq_event, "ibv_get_cq_event") &&
	       FIND(vs_verbs, ack_cq_events, "ibv_ack_cq_events") && (FIND(lib, query_gid_table, "_ibv_query_gid_table"), true) &&
	       (FIND(vs_verbs, poll_cq_now, "rdmakit_poll_cq_now"), true);
#undef FIND
}

/* The port and GID index that carry `address`. RoCE v2 entries follow those of v1 for the same address. */
static bool find_gid(struct ibv_context *c, const uint8_t address[16], struct vs_device *d)
{
	struct ibv_gid_entry entry[64];
	ssize_t n = lib.query_gid_table ? lib.query_gid_table(c, entry, 64, 0, sizeof entry[0]) : -1;
	for (ssize_t i = 0; i < n; i++) {
		if (memcmp(entry[i].gid.raw, address, 16) || entry[i].gid_type == IBV_GID_TYPE_ROCE_V1)
			continue;
		d->port = (uint8_t)entry[i].port_num;
		d->gid_index = (uint8_t)entry[i].gid_index;
		d->gid = entry[i].gid;
		return true;
	}
	bool found = false;
	for (int i = 0; n < 0 && i < 64; i++) {
		union ibv_gid gid;
		if (lib.query_gid(c, 1, i, &gid) == 0 && !memcmp(gid.raw, address, 16)) {
			d->port = 1;
			d->gid_index = (uint8_t)i;
			d->gid = gid;
			found = true;
		}
	}
	return found;
}

static bool make(struct vs_device *d, struct ibv_context *c)
{
	struct ibv_port_attr port;
	memset(&port, 0, sizeof port);
	if (lib.query_port(c, d->port, (struct _compat_ibv_port_attr *)&port) || port.state != IBV_PORT_ACTIVE)
		return false;
	d->mtu = (uint8_t)port.active_mtu;
	d->lid = port.lid;
	d->context = c;
	d->pd = lib.alloc_pd(c);
	d->channel = d->pd ? lib.create_comp_channel(c) : NULL;
	d->cq = d->channel ? lib.create_cq(c, VS_CQ_DEPTH, NULL, d->channel, 0) : NULL;
	if (!d->cq)
		return false;
	fcntl(d->channel->fd, F_SETFL, fcntl(d->channel->fd, F_GETFL) | O_NONBLOCK);
	return true;
}

struct vs_device *vs_device_open(const uint8_t address[16], const char **why)
{
	if (opened) {
		if (!memcmp(device.gid.raw, address, 16))
			return &device;
		*why = "another address";
		return NULL;
	}
	*why = "no library";
	if (failed || (!loaded && !(loaded = look_up()))) {
		failed = true;
		return NULL;
	}
	int count = 0;
	*why = "no device";
	/* Many connections ask at the same time. */
	if (vs_now_ns() - missed_ns < AGAIN_NS)
		return NULL;
	struct ibv_device **list = lib.get_device_list(&count);
	for (int i = 0; list && i < count && !opened; i++) {
		struct ibv_context *c = lib.open_device(list[i]);
		if (!c)
			continue;
		struct vs_device d = { 0 };
		if (find_gid(c, address, &d) && make(&d, c)) {
			snprintf(d.name, sizeof d.name, "%s", lib.get_device_name(list[i]));
			device = d;
			opened = true;
		} else {
			lib.close_device(c);
		}
	}
	if (list)
		lib.free_device_list(list);
	if (!opened)
		missed_ns = vs_now_ns();
	return opened ? &device : NULL;
}

bool vs_device_may_come(const uint8_t address[16])
{
	return opened ? !memcmp(device.gid.raw, address, 16) : loaded && !failed;
}

struct ibv_qp *vs_device_qp(struct vs_device *d)
{
	struct ibv_qp_init_attr init = {
		.send_cq = d->cq,
		.recv_cq = d->cq,
		.cap = { .max_send_wr = VS_SENDS, .max_recv_wr = VS_RECVS, .max_send_sge = 1, .max_recv_sge = 1 },
		.qp_type = IBV_QPT_RC,
	};
	struct ibv_qp_attr a = { .qp_state = IBV_QPS_INIT, .port_num = d->port, .qp_access_flags = IBV_ACCESS_REMOTE_WRITE };
	struct ibv_qp *qp = vs_verbs.create_qp(d->pd, &init);
	if (!qp)
		return NULL;
	int r = vs_verbs.modify_qp(qp, &a, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
	if (r) {
		vs_verbs.destroy_qp(qp);
		errno = r;
		return NULL;
	}
	return qp;
}

struct ibv_qp *vs_device_ud(struct vs_device *d, uint32_t qkey, uint32_t sends, uint32_t receives)
{
	struct ibv_qp_init_attr init = {
		.send_cq = d->cq,
		.recv_cq = d->cq,
		.cap = { .max_send_wr = sends, .max_recv_wr = receives, .max_send_sge = 1, .max_recv_sge = 1 },
		.qp_type = IBV_QPT_UD,
	};
	struct ibv_qp_attr a = { .qp_state = IBV_QPS_INIT, .port_num = d->port, .qkey = qkey };
	struct ibv_qp *qp = vs_verbs.create_qp(d->pd, &init);
	if (!qp)
		return NULL;
	int r = vs_verbs.modify_qp(qp, &a, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_QKEY);
	a.qp_state = IBV_QPS_RTR;
	r = r ? r : vs_verbs.modify_qp(qp, &a, IBV_QP_STATE);
	a.qp_state = IBV_QPS_RTS;
	r = r ? r : vs_verbs.modify_qp(qp, &a, IBV_QP_STATE | IBV_QP_SQ_PSN);
	if (r) {
		vs_verbs.destroy_qp(qp);
		errno = r;
		return NULL;
	}
	return qp;
}

static struct ibv_ah_attr way_to(const struct vs_device *d, const struct vs_qp_address *peer)
{
	struct ibv_ah_attr a = { .is_global = 1, .dlid = peer->lid, .port_num = d->port, .grh = { .hop_limit = 64, .sgid_index = d->gid_index } };
	memcpy(a.grh.dgid.raw, peer->gid, 16);
	return a;
}

struct ibv_ah *vs_device_way(struct vs_device *d, const struct vs_qp_address *peer)
{
	struct ibv_ah_attr a = way_to(d, peer);
	return vs_verbs.create_ah(d->pd, &a);
}

int vs_device_connect(struct vs_device *d, struct ibv_qp *qp, uint32_t psn, const struct vs_qp_address *peer)
{
	struct ibv_qp_attr a = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = (enum ibv_mtu)(peer->mtu < d->mtu ? peer->mtu : d->mtu),
		.dest_qp_num = peer->number,
		.rq_psn = peer->psn,
		.max_dest_rd_atomic = 1,
		.min_rnr_timer = 1,
		.ah_attr = way_to(d, peer),
	};
	int r = vs_verbs.modify_qp(qp, &a, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
						   IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
	if (r)
		return r;
	struct ibv_qp_attr s = { .qp_state = IBV_QPS_RTS, .timeout = 12, .retry_cnt = 7, .rnr_retry = 7, .sq_psn = psn, .max_rd_atomic = 1 };
	return vs_verbs.modify_qp(qp, &s, IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
						  IBV_QP_MAX_QP_RD_ATOMIC);
}

void vs_device_forget(void)
{
	/* A process that has forked from one with a device stays with the kernel: drivers promise nothing to it. */
	failed = failed || opened;
	opened = false;
}
