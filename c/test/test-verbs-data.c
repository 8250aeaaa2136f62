/*
 * Every operation over every size, alignment and kind of path: data arrive whole, nothing around them is touched, and the
 * completions say what happened. Between ends of one process and with a partner process.
 */
#include "verbs-kit.h"

#include <stdlib.h>
#include <unistd.h>

#define BIG ((1u << 20) + 3)
#define ROOM (BIG + 3 * VK_PAGE)
#define GUARD 64

static const size_t sizes[] = { 0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 63, 64, 65, 1023, 1024, 1025, 4095, 4096, 4097, 8191, 8192, 8193, 65536, 262144, BIG };
#define NSIZES (sizeof sizes / sizeof *sizes)

/* Two buffers with one registration each; `shift` bytes before the data make them unaligned. */
struct side {
	uint8_t *mem;
	struct ibv_mr *mr;
	bool pages;
};

static void side_make(struct side *s, struct vk_dev *d, bool pages)
{
	s->pages = pages;
	/* malloc'ed: whole pages inside are exported, the edges are not. Below a page nothing is. */
	s->mem = pages ? vk_pages(ROOM) : malloc(ROOM);
	VK(s->mem);
	s->mr = vk_reg(d, s->mem, ROOM, VK_RW);
}

static void side_free(struct side *s)
{
	VK_EQ(ibv_dereg_mr(s->mr), 0);
	if (s->pages)
		vk_unpages(s->mem, ROOM);
	else
		free(s->mem);
}

static void paint(struct side *s, size_t shift, size_t len)
{
	memset(s->mem + shift, 0xee, len + 2 * GUARD);
}

static void check_guards(const struct side *s, size_t shift, size_t len)
{
	for (size_t i = 0; i < GUARD; i++) {
		VK_EQ(s->mem[shift + i], 0xee);
		VK_EQ(s->mem[shift + GUARD + len + i], 0xee);
	}
}

/* One transfer from a to b (READ: from b to a) with all checks. */
static void transfer(struct vk_end e[2], struct side s[2], enum ibv_wr_opcode op, size_t len, size_t shift_a, size_t shift_b)
{
	static uint32_t seed;
	bool read = op == IBV_WR_RDMA_READ, ud = e[0].conf.type == IBV_QPT_UD;
	bool receives = op == IBV_WR_SEND || op == IBV_WR_SEND_WITH_IMM || op == IBV_WR_RDMA_WRITE_WITH_IMM;
	bool imm = op == IBV_WR_SEND_WITH_IMM || op == IBV_WR_RDMA_WRITE_WITH_IMM;
	struct side *from = read ? &s[1] : &s[0], *to = read ? &s[0] : &s[1];
	size_t from_shift = read ? shift_b : shift_a, to_shift = read ? shift_a : shift_b;
	size_t grh = ud ? 40 : 0;

	seed++;
	paint(to, to_shift, len + grh);
	vk_fill(from->mem + from_shift + GUARD, len, seed);
	if (receives && op == IBV_WR_RDMA_WRITE_WITH_IMM)
		vk_recv(&e[1], 77, NULL, 0);
	else if (receives)
		vk_recv1(&e[1], 77, s[1].mr, s[1].mem + shift_b + GUARD, len + grh);
	struct ibv_sge sge = vk_sge(s[0].mr, s[0].mem + shift_a + GUARD, len);
	vk_post(&e[0], &(struct vk_wr){
			       .op = op,
			       .id = seed,
			       .sge = &sge,
			       .n = 1,
			       .imm = imm ? htobe32(seed ^ 0xabcd0000u) : 0,
			       .remote = (uintptr_t)s[1].mem + shift_b + GUARD,
			       .rkey = s[1].mr->rkey,
		       });
	struct ibv_wc wc = vk_wait_ok(e[0].scq);
	VK_EQ(wc.wr_id, seed);
	VK_EQ(wc.qp_num, e[0].qp->qp_num);
	VK_EQ(wc.opcode, read ? IBV_WC_RDMA_READ : op == IBV_WR_RDMA_WRITE || op == IBV_WR_RDMA_WRITE_WITH_IMM ? IBV_WC_RDMA_WRITE : IBV_WC_SEND);
	if (read)
		VK_EQ(wc.byte_len, len);
	if (receives) {
		wc = vk_wait_ok(e[1].rcq);
		VK_EQ(wc.wr_id, 77);
		VK_EQ(wc.byte_len, len + grh);
		VK_EQ(wc.qp_num, e[1].qp->qp_num);
		VK_EQ(wc.opcode, op == IBV_WR_RDMA_WRITE_WITH_IMM ? IBV_WC_RECV_RDMA_WITH_IMM : IBV_WC_RECV);
		VK_EQ(!!(wc.wc_flags & IBV_WC_WITH_IMM), imm);
		if (imm)
			VK_EQ(wc.imm_data, htobe32(seed ^ 0xabcd0000u));
		if (ud) {
			VK_EQ(wc.src_qp, e[0].qp->qp_num);
			VK(wc.wc_flags & IBV_WC_GRH);
		}
	} else if (e[0].conf.type == IBV_QPT_UC) {
		/* UC completes when sent: a message behind it says when it has arrived. */
		vk_recv(&e[1], 78, NULL, 0);
		vk_post(&e[0], &(struct vk_wr){ .op = IBV_WR_SEND });
		vk_wait_ok(e[0].scq);
		vk_wait_ok(e[1].rcq);
	}
	VK(vk_is(to->mem + to_shift + GUARD + grh, len, seed));
	check_guards(to, to_shift, len + grh);
}

static void all_sizes(enum ibv_qp_type type, const enum ibv_wr_opcode *ops, int nops, bool pages, size_t limit)
{
	struct vk_dev d;
	struct vk_end e[2];
	struct side s[2];
	vk_open(&d);
	vk_pair_make(e, &d, &(struct vk_conf){ .type = type });
	side_make(&s[0], &d, pages);
	side_make(&s[1], &d, pages);
	for (int o = 0; o < nops; o++)
		for (size_t i = 0; i < NSIZES && sizes[i] <= limit; i++) {
			transfer(e, s, ops[o], sizes[i], 0, 0);
			transfer(e, s, ops[o], sizes[i], 1, 3);
			transfer(e, s, ops[o], sizes[i], VK_PAGE - 65, 17);
		}
	side_free(&s[0]);
	side_free(&s[1]);
	vk_pair_free(e);
	vk_close(&d);
}

static const enum ibv_wr_opcode rc_ops[] = { IBV_WR_SEND, IBV_WR_SEND_WITH_IMM, IBV_WR_RDMA_WRITE, IBV_WR_RDMA_WRITE_WITH_IMM, IBV_WR_RDMA_READ };

static void rc_pages(void **state) { (void)state; all_sizes(IBV_QPT_RC, rc_ops, 5, true, BIG); }
static void rc_malloc(void **state) { (void)state; all_sizes(IBV_QPT_RC, rc_ops, 5, false, BIG); }
static void uc_pages(void **state) { (void)state; all_sizes(IBV_QPT_UC, rc_ops, 4, true, BIG); }
static void uc_malloc(void **state) { (void)state; all_sizes(IBV_QPT_UC, rc_ops, 4, false, BIG); }
static void ud_pages(void **state) { (void)state; all_sizes(IBV_QPT_UD, rc_ops, 2, true, 4096); }

/* The same with memory that can never be exported: parts of pages. */
static void small_unexported(void **state)
{
	(void)state;
	struct vk_dev d;
	struct vk_end e[2];
	vk_open(&d);
	vk_pair_make(e, &d, NULL);
	struct side s[2];
	for (int i = 0; i < 2; i++) {
		s[i].mem = malloc(3000);
		s[i].mr = vk_reg(&d, s[i].mem, 3000, VK_RW);
	}
	for (int o = 0; o < 5; o++)
		for (size_t len = 0; len < 2800; len += 1 + len / 3)
			transfer(e, s, rc_ops[o], len, len % 7, len % 5);
	for (int i = 0; i < 2; i++) {
		VK_EQ(ibv_dereg_mr(s[i].mr), 0);
		free(s[i].mem);
	}
	vk_pair_free(e);
	vk_close(&d);
}

/* Many sges of odd lengths, some empty, from several regions, on both sides. */
static void scatter_gather(void **state)
{
	(void)state;
	struct vk_dev d;
	struct vk_end e[2];
	vk_open(&d);
	for (int t = 0; t < 3; t++) {
		static const enum ibv_qp_type types[] = { IBV_QPT_RC, IBV_QPT_UC, IBV_QPT_UD };
		vk_pair_make(e, &d, &(struct vk_conf){ .type = types[t], .sge = 32 });
		for (int n = 1; n <= 32; n += n < 4 ? 1 : 7)
			for (size_t unit = 1; unit <= (t == 2 ? 100 : 9000); unit = unit * 5 + 2) {
				size_t total = 0, grh = t == 2 ? 40 : 0, room = 32 * (unit + 64) + 40;
				struct ibv_sge from[32], to[32];
				uint8_t *a = malloc(room), *b = vk_pages(room), *flat = malloc(room);
				struct ibv_mr *ma = vk_reg(&d, a, room, VK_RW), *mb = vk_reg(&d, b, room, VK_RW);
				vk_fill(a, room, (uint32_t)(n * 1000 + unit));
				for (int i = 0; i < n; i++) {
					size_t len = i % 5 == 3 ? 0 : unit + (size_t)i % 3;
					from[i] = vk_sge(ma, a + (size_t)i * (unit + 32) + 5, len);
					memcpy(flat + total, (char *)(uintptr_t)from[i].addr, len);
					total += len;
				}
				/* the same bytes into n pieces of another shape */
				size_t left = total + grh;
				for (int i = 0; i < n; i++) {
					size_t len = i == n - 1 ? left : left / 2 < unit ? left / 2 : unit;
					to[i] = vk_sge(mb, b + (total + grh - left), len);
					left -= len;
				}
				vk_recv(&e[1], 1, to, n);
				vk_post(&e[0], &(struct vk_wr){ .op = IBV_WR_SEND, .sge = from, .n = n });
				vk_wait_ok(e[0].scq);
				VK_EQ(vk_wait_ok(e[1].rcq).byte_len, total + grh);
				VK(!memcmp(b + grh, flat, total));
				if (t < 2) { /* gathered write, and in RC a scattered read of it */
					memset(b, 0, room);
					vk_recv(&e[1], 2, NULL, 0);
					vk_post(&e[0], &(struct vk_wr){ .op = IBV_WR_RDMA_WRITE_WITH_IMM, .sge = from, .n = n, .remote = (uintptr_t)b + 1, .rkey = mb->rkey });
					vk_wait_ok(e[0].scq);
					vk_wait_ok(e[1].rcq);
					VK(!memcmp(b + 1, flat, total));
				}
				if (t == 0) {
					memset(a, 0, room);
					vk_post(&e[0], &(struct vk_wr){ .op = IBV_WR_RDMA_READ, .sge = from, .n = n, .remote = (uintptr_t)b + 1, .rkey = mb->rkey });
					vk_wait_ok(e[0].scq);
					size_t off = 0;
					for (int i = 0; i < n; off += from[i++].length)
						VK(!memcmp((char *)(uintptr_t)from[i].addr, flat + off, from[i].length));
				}
				VK(!ibv_dereg_mr(ma) && !ibv_dereg_mr(mb));
				free(a);
				free(flat);
				vk_unpages(b, room);
			}
		vk_pair_free(e);
	}
	vk_close(&d);
}

static void inline_data(void **state)
{
	(void)state;
	struct vk_dev d;
	struct vk_end e[2];
	uint8_t *b = vk_pages(VK_PAGE);
	vk_open(&d);
	struct ibv_mr *mr = vk_reg(&d, b, VK_PAGE, VK_RW);
	for (int t = 0; t < 3; t++) {
		static const enum ibv_qp_type types[] = { IBV_QPT_RC, IBV_QPT_UC, IBV_QPT_UD };
		size_t grh = t == 2 ? 40 : 0;
		vk_pair_make(e, &d, &(struct vk_conf){ .type = types[t], .inline_bytes = 1024 });
		for (size_t len = 0; len <= 1024; len = len * 3 + 1) {
			uint8_t local[1024]; /* not registered, and gone at once */
			vk_fill(local, len, (uint32_t)len);
			struct ibv_sge s[2] = { vk_sge(NULL, local, len / 2), vk_sge(NULL, local + len / 2, len - len / 2) };
			vk_recv1(&e[1], 1, mr, b, VK_PAGE);
			vk_post(&e[0], &(struct vk_wr){ .op = IBV_WR_SEND, .flags = IBV_SEND_INLINE, .sge = s, .n = 2 });
			memset(local, 0, sizeof local);
			vk_wait_ok(e[0].scq);
			VK_EQ(vk_wait_ok(e[1].rcq).byte_len, len + grh);
			VK(vk_is(b + grh, len, (uint32_t)len));
		}
		uint8_t local[1025] = { 0 };
		struct ibv_sge s = vk_sge(NULL, local, 1025);
		VK(vk_try_post(&e[0], &(struct vk_wr){ .op = IBV_WR_SEND, .flags = IBV_SEND_INLINE, .sge = &s, .n = 1 }));
		vk_pair_free(e);
	}
	VK_EQ(ibv_dereg_mr(mr), 0);
	vk_close(&d);
	vk_unpages(b, VK_PAGE);
}

/* ---- with another process ---------------------------------------------------------------------------------------------- */

/* The partner mirrors: its memory is the target, and it says by message whether what arrived is right. */
static void mirror(int fd)
{
	struct vk_dev d;
	struct vk_end e;
	bool pages;
	vk_get(fd, &pages, sizeof pages);
	uint8_t *mem = pages ? vk_pages(ROOM) : malloc(ROOM);
	vk_open(&d);
	struct ibv_mr *mr = vk_reg(&d, mem, ROOM, VK_RW);
	vk_end_make(&e, &d, NULL);
	vk_meet(&e, fd, mr);
	for (uint32_t seed = 1;; seed++) {
		struct {
			uint32_t op, len, shift;
		} o;
		vk_get(fd, &o, sizeof o);
		if (o.op == 99)
			break;
		memset(mem, 0xee, ROOM);
		if (o.op == IBV_WR_RDMA_READ)
			vk_fill(mem + o.shift, o.len, seed);
		else if (o.op == IBV_WR_SEND)
			vk_recv1(&e, 1, mr, mem + o.shift, o.len);
		else if (o.op == IBV_WR_RDMA_WRITE_WITH_IMM)
			vk_recv(&e, 1, NULL, 0);
		vk_sync(fd);
		if (o.op == IBV_WR_SEND || o.op == IBV_WR_RDMA_WRITE_WITH_IMM)
			VK_EQ(vk_wait_ok(e.rcq).byte_len, o.len);
		vk_sync(fd);
		if (o.op != IBV_WR_RDMA_READ)
			VK(vk_is(mem + o.shift, o.len, seed));
		VK_EQ(mem[o.shift + o.len], 0xee);
	}
	vk_end_free(&e);
	VK_EQ(ibv_dereg_mr(mr), 0);
	vk_close(&d);
}

static void with_partner(bool my_pages, bool its_pages)
{
	struct vk_dev d;
	struct vk_end e;
	struct vk_partner p;
	struct side s;
	vk_spawn(&p, "mirror");
	vk_put(p.fd, &its_pages, sizeof its_pages);
	vk_open(&d);
	side_make(&s, &d, my_pages);
	vk_end_make(&e, &d, NULL);
	struct vk_name peer = vk_meet(&e, p.fd, s.mr);
	uint32_t seed = 0;
	for (int o = 0; o < 5; o++)
		for (size_t i = 0; i < NSIZES; i += 2) {
			struct {
				uint32_t op, len, shift;
			} order = { rc_ops[o] == IBV_WR_SEND_WITH_IMM ? IBV_WR_SEND : rc_ops[o], (uint32_t)sizes[i], (uint32_t)(i * 13) };
			seed++;
			vk_put(p.fd, &order, sizeof order);
			uint8_t *mine = s.mem + 7 + i;
			if (order.op != IBV_WR_RDMA_READ)
				vk_fill(mine, order.len, seed);
			struct ibv_sge sge = vk_sge(s.mr, mine, order.len);
			vk_sync(p.fd);
			vk_post(&e, &(struct vk_wr){ .op = order.op, .sge = &sge, .n = 1, .remote = peer.addr + order.shift, .rkey = peer.rkey });
			vk_wait_ok(e.scq);
			vk_sync(p.fd);
			if (order.op == IBV_WR_RDMA_READ)
				VK(vk_is(mine, order.len, seed));
		}
	struct {
		uint32_t op, len, shift;
	} end = { 99, 0, 0 };
	vk_put(p.fd, &end, sizeof end);
	vk_join(&p);
	vk_end_free(&e);
	side_free(&s);
	vk_close(&d);
}

static void partner_pages(void **state) { (void)state; with_partner(true, true); }
static void partner_malloc(void **state) { (void)state; with_partner(false, false); }
static void partner_mixed(void **state) { (void)state; with_partner(false, true); }

int main(int argc, char **argv)
{
	static const struct vk_role roles[] = { { "mirror", mirror } };
	vk_start(argc, argv, roles, 1);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rc_pages), cmocka_unit_test(rc_malloc), cmocka_unit_test(uc_pages),
		cmocka_unit_test(uc_malloc), cmocka_unit_test(ud_pages), cmocka_unit_test(small_unexported),
		cmocka_unit_test(scatter_gather), cmocka_unit_test(inline_data), cmocka_unit_test(partner_pages),
		cmocka_unit_test(partner_malloc), cmocka_unit_test(partner_mixed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
