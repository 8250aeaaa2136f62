/* Datagrams: the header in front, keys, what is dropped without harm, answers by the header, multicast groups on this host. */
#include "verbs-world.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

extern int rdmakit_counter_count(void);
extern const char *rdmakit_counter_name(int i);
extern uint64_t rdmakit_counter_value(int i);

static uint64_t counter(const char *name)
{
	for (int i = 0; i < rdmakit_counter_count(); i++)
		if (!strcmp(rdmakit_counter_name(i), name))
			return rdmakit_counter_value(i);
	VK(!"a counter of this name");
	return 0;
}

/* A late receiver is waited for a moment, so drops are counted when they are. Nothing arrives meanwhile. */
static void wait_counter(struct world *w, const char *name, uint64_t value)
{
	for (unsigned i = 0; counter(name) != value; i++) {
		vk_quiet(w->e[1].rcq);
		VK(i < 2000000 && "counted");
	}
	vk_quiet(w->e[1].rcq);
}

static void ud_world(struct world *w) { world_make(w, &(struct vk_conf){ .type = IBV_QPT_UD }); }

static int send_key(struct world *w, size_t len, uint32_t qkey)
{
	struct ibv_sge s = vk_sge(w->ma, w->a, len);
	return vk_try_post(&w->e[0], &(struct vk_wr){ .op = IBV_WR_SEND, .sge = &s, .n = 1, .qkey = qkey });
}

static void header(void **state)
{
	(void)state;
	struct world w;
	ud_world(&w);
	vk_recv1(&w.e[1], 1, w.mb, w.b, 1000);
	VK_EQ(send_key(&w, 100, 0), 0);
	vk_wait_ok(w.e[0].scq);
	struct ibv_wc wc = vk_wait_ok(w.e[1].rcq);
	VK(wc.byte_len == 140 && wc.src_qp == w.e[0].qp->qp_num && (wc.wc_flags & IBV_WC_GRH));
	VK_EQ(wc.sl, 10); /* RoCE v2 over IPv4 */
	/* 20 zero bytes and an IPv4 header with a right checksum */
	VK(untouched(w.b, 20, 0));
	uint8_t *ip = w.b + 20;
	uint32_t sum = 0;
	for (int i = 0; i < 20; i += 2)
		sum += (uint32_t)(ip[i] << 8 | ip[i + 1]);
	sum = (sum & 0xffff) + (sum >> 16);
	VK_EQ(sum, 0xffff);
	VK_EQ(ip[0], 0x45);
	VK_EQ(ip[9], 17);
	VK(!memcmp(ip + 12, "\177\0\0\1", 4) && !memcmp(ip + 16, "\177\0\0\1", 4));
	/* answered with nothing but that */
	struct ibv_ah *ah = ibv_create_ah_from_wc(w.d.pd, &wc, (struct ibv_grh *)(void *)w.b, 1);
	VK(ah);
	struct ibv_ah *mine = w.e[1].ah;
	w.e[1].ah = ah;
	w.e[1].peer_qpn = wc.src_qp;
	vk_recv1(&w.e[0], 2, w.ma, w.a, 1000);
	vk_send(&w.e[1], 3, w.mb, w.b, 60);
	vk_wait_ok(w.e[1].scq);
	VK_EQ(vk_wait_ok(w.e[0].rcq).byte_len, 100);
	w.e[1].ah = mine;
	VK_EQ(ibv_destroy_ah(ah), 0);
	world_free(&w);
}

/* Wrong keys, no receive, too long for the buffer, no such queue pair: dropped and counted; the next one arrives. */
static void drops(void **state)
{
	(void)state;
	struct world w;
	ud_world(&w);
	uint64_t bad_key = counter("rx_qkey_mismatch"), dropped = counter("rx_ud_dropped");
	VK_EQ(send_key(&w, 10, 0), 0); /* no receive */
	vk_wait_ok(w.e[0].scq);
	wait_counter(&w, "rx_ud_dropped", dropped + 1);
	vk_recv1(&w.e[1], 1, w.mb, w.b, 100);
	VK_EQ(send_key(&w, 10, 0x12121212), 0);
	vk_wait_ok(w.e[0].scq);
	wait_counter(&w, "rx_qkey_mismatch", bad_key + 1);
	VK_EQ(send_key(&w, 61, 0), 0); /* one byte too long */
	vk_wait_ok(w.e[0].scq);
	wait_counter(&w, "rx_ud_dropped", dropped + 2);
	uint32_t right = w.e[0].peer_qpn;
	w.e[0].peer_qpn ^= 0x1234;
	VK_EQ(send_key(&w, 10, 0), 0);
	vk_wait_ok(w.e[0].scq);
	vk_quiet(w.e[1].rcq);
	w.e[0].peer_qpn = right;
	VK(untouched(w.b, LEN, 0x22));
	VK_EQ(send_key(&w, 60, 0), 0);
	vk_wait_ok(w.e[0].scq);
	VK_EQ(vk_wait_ok(w.e[1].rcq).byte_len, 100);
	/* the top bit asks for the sender's own key */
	vk_recv1(&w.e[1], 1, w.mb, w.b, 100);
	VK_EQ(send_key(&w, 10, 0x80000001), 0);
	vk_wait_ok(w.e[0].scq);
	vk_wait_ok(w.e[1].rcq);
	/* longer than the MTU cannot be sent */
	size_t mtu = 128u << w.d.mtu;
	vk_recv1(&w.e[1], 2, w.mb, w.b, LEN);
	VK_EQ(send_key(&w, mtu, 0), 0);
	vk_wait_ok(w.e[0].scq);
	VK_EQ(vk_wait_ok(w.e[1].rcq).byte_len, mtu + 40);
	VK_EQ(send_key(&w, mtu + 1, 0), 0);
	vk_wait_status(w.e[0].scq, IBV_WC_LOC_LEN_ERR);
	VK_EQ(vk_state(&w.e[0]), IBV_QPS_SQE);
	world_free(&w);
}

/* A burst far beyond the ring and the receives: who sends never hangs, what arrives is whole and in order. All receives share one
 * buffer, which the device may fill again while it is read: a race by design, which ThreadSanitizer is not to judge. */
__attribute__((no_sanitize("thread"))) static void flood(void **state)
{
	(void)state;
	struct world w;
	ud_world(&w);
	uint32_t sent = 0, got = 0, expect = 0;
	for (int i = 0; i < 64; i++)
		vk_recv1(&w.e[1], 0, w.mb, w.b, LEN);
	while (sent < 5000) {
		memcpy(w.a, &sent, 4);
		VK_EQ(send_key(&w, 4000, 0), 0);
		sent++;
		vk_wait_ok(w.e[0].scq);
		struct ibv_wc wc;
		if (sent % 7 == 0)
			while (ibv_poll_cq(w.e[1].rcq, 1, &wc) == 1) {
				uint32_t v;
				VK_EQ(wc.status, IBV_WC_SUCCESS);
				memcpy(&v, w.b + 40, 4); /* all into one buffer: the last one's number */
				VK(v >= expect && v < sent);
				expect = v;
				got++;
				vk_recv1(&w.e[1], 0, w.mb, w.b, LEN);
			}
	}
	VK(got > 0 && got <= sent);
	world_free(&w);
}

/* More datagrams than the ring holds, to a receiver with a receive WQE for each that is off the CPU meanwhile: none is lost. To one that
 * stays away for ever the sender does not wait for ever. */
#define MANY 6000u
#define MANY_BYTES 64u

static void absent(int fd)
{
	struct vk_dev d;
	struct vk_end e;
	uint8_t *mem = vk_pages(LEN);
	vk_open(&d);
	struct ibv_mr *mr = vk_reg(&d, mem, LEN, VK_RW);
	vk_end_make(&e, &d, &(struct vk_conf){ .type = IBV_QPT_UD, .depth = MANY, .cqe = 2 * MANY });
	vk_to_init(&e);
	for (uint32_t i = 0; i < MANY; i++)
		vk_recv1(&e, i, mr, mem, 2 * MANY_BYTES);
	vk_meet(&e, fd, mr);
	VK_EQ(vk_wait_ok(e.rcq).imm_data, 0); /* that the two processes know each other */
	vk_sync(fd); /* stopped about here */
	for (uint32_t i = 1; i < MANY; i++)
		VK_EQ(vk_wait_ok(e.rcq).imm_data, i);
	vk_sync(fd);
	vk_sync(fd); /* stopped here again */
	vk_end_free(&e);
	VK_EQ(ibv_dereg_mr(mr), 0);
	vk_close(&d);
}

static void absent_receiver(void **state)
{
	(void)state;
	const char *road = getenv("RDMAKIT_ROAD");
	if (road && !strcmp(road, "wire")) {
		print_message("only shared memory holds senders back\n");
		skip();
	}
	struct vk_partner p;
	struct vk_dev d;
	struct vk_end e;
	uint8_t *mem = vk_pages(LEN);
	vk_spawn(&p, "absent");
	vk_open(&d);
	struct ibv_mr *mr = vk_reg(&d, mem, LEN, VK_RW);
	vk_end_make(&e, &d, &(struct vk_conf){ .type = IBV_QPT_UD, .depth = MANY, .cqe = 2 * MANY });
	vk_to_init(&e);
	vk_meet(&e, p.fd, mr);
	uint64_t dropped = counter("rx_ud_dropped");
	struct ibv_sge s = vk_sge(mr, mem, MANY_BYTES);
	for (uint32_t i = 0; i < MANY; i++) {
		vk_post(&e, &(struct vk_wr){ .op = IBV_WR_SEND_WITH_IMM, .sge = &s, .n = 1, .imm = i });
		if (i == 0) {
			vk_sync(p.fd);
			kill(p.pid, SIGSTOP);
		}
	}
	usleep(50000);
	kill(p.pid, SIGCONT);
	for (uint32_t i = 0; i < MANY; i++)
		vk_wait_ok(e.scq);
	vk_sync(p.fd);
	VK_EQ(counter("rx_ud_dropped"), dropped);

	kill(p.pid, SIGSTOP);
	for (uint32_t i = 0; i < MANY; i++)
		vk_post(&e, &(struct vk_wr){ .op = IBV_WR_SEND_WITH_IMM, .sge = &s, .n = 1, .imm = i });
	for (uint32_t i = 0; i < MANY; i++)
		vk_wait_ok(e.scq);
	VK(counter("rx_ud_dropped") > dropped);
	kill(p.pid, SIGCONT);
	vk_sync(p.fd);
	vk_join(&p);
	vk_end_free(&e);
	VK_EQ(ibv_dereg_mr(mr), 0);
	vk_close(&d);
	vk_unpages(mem, LEN);
}

static void address_handles(void **state)
{
	(void)state;
	struct vk_dev d;
	vk_open(&d);
	struct ibv_ah_attr a = { .is_global = 1, .port_num = 1, .grh = { .dgid = d.gid, .sgid_index = d.gid_index } };
	struct ibv_ah *ah = ibv_create_ah(d.pd, &a);
	VK(ah);
	VK_EQ(ibv_dealloc_pd(d.pd), EBUSY);
	VK_EQ(ibv_destroy_ah(ah), 0);
	a.is_global = 0;
	VK(!ibv_create_ah(d.pd, &a) && errno == EINVAL);
	a.is_global = 1;
	a.port_num = 2;
	VK(!ibv_create_ah(d.pd, &a) && errno == EINVAL);
	a.port_num = 1;
	a.grh.sgid_index = 250;
	VK(!ibv_create_ah(d.pd, &a) && errno == EINVAL);
	a.grh.sgid_index = d.gid_index;
	memset(&a.grh.dgid, 0x20, 16); /* IPv6, from an IPv4 address */
	VK(!ibv_create_ah(d.pd, &a) && errno == EINVAL);
	vk_close(&d);
}

static void group_membership(void **state)
{
	(void)state;
	struct world w;
	union ibv_gid group = { .raw = { [10] = 0xff, 0xff, 239, 1, 2, 3 } }, plain;
	ud_world(&w);
	plain = w.d.gid;
	VK_EQ(ibv_attach_mcast(w.e[1].qp, &plain, 0), EINVAL);
	VK_EQ(ibv_detach_mcast(w.e[1].qp, &group, 0), EINVAL);
	int err = ibv_attach_mcast(w.e[1].qp, &group, 0);
	VK_EQ(err, 0);
	VK_EQ(ibv_attach_mcast(w.e[1].qp, &group, 0), 0);
	VK_EQ(ibv_destroy_qp(w.e[1].qp), EBUSY);
	VK_EQ(ibv_detach_mcast(w.e[1].qp, &group, 0), 0);
	VK_EQ(ibv_detach_mcast(w.e[1].qp, &group, 0), EINVAL);
	world_free(&w);
	world_make(&w, NULL);
	VK_EQ(ibv_attach_mcast(w.e[1].qp, &group, 0), EINVAL); /* only datagrams have groups */
	world_free(&w);
}

/* Everybody attached to a group gets what is sent to it, in this process and in others, the sender's too; once detached, no more. */
static const union ibv_gid everybody = { .raw = { [10] = 0xff, 0xff, 239, 77, 1, 9 } };

static void member(int fd)
{
	struct vk_dev d;
	struct vk_end e;
	uint8_t *mem = vk_pages(LEN);
	vk_open(&d);
	struct ibv_mr *mr = vk_reg(&d, mem, LEN, VK_RW);
	vk_end_make(&e, &d, &(struct vk_conf){ .type = IBV_QPT_UD });
	vk_to_init(&e);
	vk_recv1(&e, 0, mr, mem, LEN);
	vk_recv1(&e, 1, mr, mem + 1000, LEN - 1000);
	vk_meet(&e, fd, mr);
	VK_EQ(ibv_attach_mcast(e.qp, &everybody, 0), 0);
	vk_sync(fd);
	VK_EQ(vk_wait_ok(e.rcq).byte_len, 140);
	VK(vk_is(mem + 40, 100, 1) && !memcmp(mem + 36, everybody.raw + 12, 4));
	VK_EQ(ibv_detach_mcast(e.qp, &everybody, 0), 0);
	vk_sync(fd);
	vk_sync(fd); /* the second was sent */
	vk_quiet(e.rcq);
	vk_end_free(&e);
	VK_EQ(ibv_dereg_mr(mr), 0);
	vk_close(&d);
}

static void group_delivery(void **state)
{
	(void)state;
	struct vk_partner p;
	struct world w;
	vk_spawn(&p, "member");
	ud_world(&w);
	struct vk_end third;
	vk_end_make(&third, &w.d, &(struct vk_conf){ .type = IBV_QPT_UD });
	vk_to_init(&third);
	vk_meet(&third, p.fd, w.ma);
	for (int i = 0; i < 2; i++) {
		vk_recv1(&w.e[1], 1, w.mb, w.b + 200 * i, 200);
		vk_recv1(&third, 1, w.mb, w.b + 1000 + 200 * i, 200);
	}
	VK_EQ(ibv_attach_mcast(w.e[1].qp, &everybody, 0), 0);
	VK_EQ(ibv_attach_mcast(third.qp, &everybody, 0), 0);
	vk_sync(p.fd);

	struct ibv_ah_attr a = { .is_global = 1, .port_num = 1, .grh = { .dgid = everybody, .sgid_index = w.d.gid_index, .hop_limit = 1 } };
	struct ibv_ah *unicast = w.e[0].ah, *ah = ibv_create_ah(w.d.pd, &a);
	VK(ah);
	w.e[0].ah = ah;
	w.e[0].peer_qpn = 0xffffff;
	vk_fill(w.a, 100, 1);
	vk_send(&w.e[0], 1, w.ma, w.a, 100);
	vk_wait_ok(w.e[0].scq);
	struct ibv_wc wc = vk_wait_ok(w.e[1].rcq);
	VK(wc.byte_len == 140 && wc.src_qp == w.e[0].qp->qp_num && (wc.wc_flags & IBV_WC_GRH));
	VK_EQ(vk_wait_ok(third.rcq).byte_len, 140);
	VK(vk_is(w.b + 40, 100, 1) && vk_is(w.b + 1040, 100, 1));
	vk_sync(p.fd); /* the member has it, and left */

	/* one of two queue pairs leaves: the other stays a member */
	VK_EQ(ibv_detach_mcast(third.qp, &everybody, 0), 0);
	vk_send(&w.e[0], 2, w.ma, w.a, 100);
	vk_wait_ok(w.e[0].scq);
	vk_wait_ok(w.e[1].rcq);
	vk_quiet(third.rcq);
	vk_sync(p.fd);
	VK_EQ(ibv_detach_mcast(w.e[1].qp, &everybody, 0), 0);
	w.e[0].ah = unicast;
	VK_EQ(ibv_destroy_ah(ah), 0);
	vk_end_free(&third);
	vk_join(&p);
	world_free(&w);
}

int main(int argc, char **argv)
{
	static const struct vk_role roles[] = { { "absent", absent }, { "member", member } };
	vk_start(argc, argv, roles, 2);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(header), cmocka_unit_test(drops), cmocka_unit_test(flood), cmocka_unit_test(absent_receiver), cmocka_unit_test(address_handles),
		cmocka_unit_test(group_membership), cmocka_unit_test(group_delivery),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
