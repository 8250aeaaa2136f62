/* test-vsocket-remote.c - the pure parts of the road to other hosts: notes, datagrams, and the choice between roads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "vsocket/remote/choice.h"
#include "vsocket/remote/group.h"
#include "vsocket/remote/datagram.h"
#include "vsocket/remote/note.h"
#include "vsocket/watch.h"

static struct vs_dir *rx, *tx;

static int set_up(void **state)
{
	(void)state;
	rx = aligned_alloc(VS_LINE, sizeof *rx);
	tx = aligned_alloc(VS_LINE, sizeof *tx);
	memset(rx, 0, sizeof *rx);
	memset(tx, 0, sizeof *tx);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	free(rx);
	free(tx);
	return 0;
}

static enum vs_note_result take(struct vs_note n)
{
	uint8_t flags;
	n.magic = VS_NOTE_MAGIC;
	return vs_note_take(rx, tx, &n, &flags);
}

static void an_epoch_from_start_to_end(void **state)
{
	(void)state;
	assert_int_equal(take((struct vs_note){ .kind = VS_NOTE_START, .epoch = 1, .size = VS_RING_MIN, .twin = 100 }), VS_NOTE_OK);
	assert_int_equal(rx->epoch_tx, 1);
	assert_int_equal(rx->twin_sent, 100);
	assert_true(vs_note_data(rx, 64 | VS_IMM_BELL));
	assert_int_equal(rx->tail, 64);
	assert_int_equal(rx->twin_sent, 101);
	assert_int_equal(rx->bell, VS_BELL(1, VS_RUNG));
	assert_int_equal(take((struct vs_note){ .kind = VS_NOTE_BELL }), VS_NOTE_OK);
	assert_int_equal(rx->twin_sent, 102);
	/* An end that does not fit what came would move bytes between the roads. */
	assert_int_equal(take((struct vs_note){ .kind = VS_NOTE_END, .epoch = 2, .twin = 101, .ring = 64 }), VS_NOTE_BAD);
	assert_int_equal(take((struct vs_note){ .kind = VS_NOTE_END, .epoch = 2, .twin = 102, .ring = 63 }), VS_NOTE_BAD);
	assert_int_equal(take((struct vs_note){ .kind = VS_NOTE_END, .epoch = 4, .twin = 102, .ring = 64 }), VS_NOTE_BAD);
	assert_int_equal(take((struct vs_note){ .kind = VS_NOTE_END, .epoch = 2, .twin = 102, .ring = 64 }), VS_NOTE_OK);
	assert_int_equal(rx->epoch_tx, 2);
	/* The reader is still two epochs behind. */
	assert_int_equal(take((struct vs_note){ .kind = VS_NOTE_START, .epoch = 3, .size = VS_RING_MIN, .twin = 500, .ring = 64 }), VS_NOTE_BAD);
}

static void data_only_where_there_is_room(void **state)
{
	(void)state;
	assert_false(vs_note_data(rx, 10));
	assert_int_equal(take((struct vs_note){ .kind = VS_NOTE_START, .epoch = 1, .size = VS_RING_MIN + 1 }), VS_NOTE_BAD);
	assert_int_equal(take((struct vs_note){ .kind = VS_NOTE_START, .epoch = 1, .size = VS_RING_MIN }), VS_NOTE_OK);
	assert_false(vs_note_data(rx, 0));
	assert_false(vs_note_data(rx, VS_RING_MIN + 1));
	assert_false(vs_note_data(rx, 0x40000001));
	assert_true(vs_note_data(rx, VS_RING_MIN));
	assert_false(vs_note_data(rx, 1));
	atomic_store(&rx->head, 1);
	assert_true(vs_note_data(rx, 1));
}

static void the_readers_position(void **state)
{
	(void)state;
	atomic_store(&tx->tail, 1000);
	atomic_store(&tx->head, 400);
	atomic_store(&tx->epoch_tx, 1);
	assert_int_equal(take((struct vs_note){ .kind = VS_NOTE_POS, .epoch = 1, .ring = 399 }), VS_NOTE_BAD);
	assert_int_equal(take((struct vs_note){ .kind = VS_NOTE_POS, .epoch = 1, .ring = 1001 }), VS_NOTE_BAD);
	assert_int_equal(take((struct vs_note){ .kind = VS_NOTE_POS, .epoch = 2, .ring = 500 }), VS_NOTE_BAD);
	assert_int_equal(tx->head, 400);
	assert_int_equal(take((struct vs_note){ .kind = VS_NOTE_POS, .epoch = 1, .ring = 500 }), VS_NOTE_OK);
	assert_int_equal(tx->head, 500);
	/* Armed with what it has not seen yet already there: it must be rung for at once. */
	assert_int_equal(take((struct vs_note){ .kind = VS_NOTE_POS, .flags = VS_NOTE_ARM, .epoch = 1, .ring = 900, .seen = 900 }), VS_NOTE_RING);
	assert_int_equal(take((struct vs_note){ .kind = VS_NOTE_POS, .flags = VS_NOTE_ARM, .epoch = 1, .ring = 900, .seen = 1000 }), VS_NOTE_OK);
	assert_int_equal(tx->bell, VS_BELL(1, VS_ARMED));
	/* The end of the epoch is known there before its acknowledgement has come here. */
	assert_int_equal(take((struct vs_note){ .kind = VS_NOTE_POS, .epoch = 3, .ring = 1000 }), VS_NOTE_BAD);
	assert_int_equal(take((struct vs_note){ .kind = VS_NOTE_POS, .epoch = 2, .ring = 1000 }), VS_NOTE_OK);
	assert_int_equal(tx->epoch_rx, 2);
}

static void what_is_no_note(void **state)
{
	uint8_t flags;
	struct vs_note n = { .magic = VS_NOTE_MAGIC + 1, .kind = VS_NOTE_GONE };
	(void)state;
	assert_int_equal(vs_note_take(rx, tx, &n, &flags), VS_NOTE_BAD);
	assert_int_equal(take((struct vs_note){ .kind = 0 }), VS_NOTE_BAD);
	assert_int_equal(take((struct vs_note){ .kind = 99 }), VS_NOTE_BAD);
	assert_int_equal(take((struct vs_note){ .kind = VS_NOTE_GONE }), VS_NOTE_OK);
	assert_int_equal(take((struct vs_note){ .kind = VS_NOTE_BELL }), VS_NOTE_BAD);
}

static void datagrams(void **state)
{
	(void)state;
	uint8_t bytes[VS_DATAGRAM_BYTES];
	struct vs_datagram d = { .kind = VS_OFFER, .port = 4796, .cookie = { 1, UINT64_MAX }, .your_cookie = { 3, 4 }, .epoch = 7, .ring = 8,
				 .twin = 9, .twin_start = 10, .qp = { .number = 0xffffff, .psn = 5, .rkey = 6, .ring = 1ull << 60, .mtu = 5, .lid = 7 } };
	struct vs_datagram back;
	d.from.addr[15] = 1;
	d.to.port = 0x1234;
	vs_datagram_write(&d, bytes);
	assert_true(vs_datagram_read(&back, bytes, sizeof bytes));
	assert_memory_equal(&back.qp, &d.qp, sizeof d.qp);
	assert_int_equal(back.kind, VS_OFFER);
	assert_true(back.cookie[1] == UINT64_MAX && back.your_cookie[1] == 4 && back.twin_start == 10 && back.twin == 9);
	assert_true(back.from.addr[15] == 1 && back.to.port == 0x1234 && back.port == 4796);
	assert_false(vs_datagram_read(&back, bytes, sizeof bytes - 1));
	bytes[0] ^= 1;
	assert_false(vs_datagram_read(&back, bytes, sizeof bytes));
	bytes[0] ^= 1;
	bytes[8] = 0;
	assert_false(vs_datagram_read(&back, bytes, sizeof bytes));
}

/* Traffic that takes `kernel_ns` or `rc_ns` a call, for `calls`. Returns the share of time that the queue pair had. */
static double play(struct vs_choice *c, uint64_t *now, uint64_t kernel_ns, uint64_t rc_ns, unsigned calls)
{
	uint64_t start = *now, on_rc = 0;
	for (unsigned i = 0; i < calls; i++) {
		uint64_t step = c->rc ? rc_ns : kernel_ns;
		*now += step;
		on_rc += c->rc ? step : 0;
		vs_choice_moved(c, *now, 64, c->rc, 0);
	}
	return (double)on_rc / (double)(*now - start);
}

static void the_faster_road_is_taken(void **state)
{
	struct vs_choice c = { 0 };
	uint64_t now = 1;
	(void)state;
	play(&c, &now, 20000, 5000, 20000);
	assert_true(c.kept_rc && !c.trying);
	assert_true(play(&c, &now, 20000, 5000, 200000) > 0.9);
	/* It becomes the slower one, which is noticed. */
	play(&c, &now, 5000, 20000, 2000000);
	assert_false(c.kept_rc);
}

static void trials_of_a_slower_road_cost_little(void **state)
{
	struct vs_choice c = { 0 };
	uint64_t now = 1, rc = 0, all = 0;
	(void)state;
	for (unsigned i = 0; i < 4000000; i++) {
		uint64_t step = c.rc ? 50000 : 5000;
		now += step;
		all += step;
		rc += c.rc ? step : 0;
		vs_choice_moved(&c, now, 64, c.rc, 0);
	}
	assert_false(c.kept_rc);
	assert_true(c.trials >= 2);
	assert_true((double)rc / (double)all < 0.05);
}

static void a_road_that_cannot_be_taken(void **state)
{
	struct vs_choice c = { 0 };
	uint64_t now = 1;
	(void)state;
	for (unsigned i = 0; i < 50000; i++)
		vs_choice_moved(&c, now += 10000, 64, false, 0);
	assert_false(c.rc);
	assert_false(c.trying);
}

/* However quick it looks. */
static void a_peer_who_sleeps_before_each_message(void **state)
{
	struct vs_choice c = { 0 };
	uint64_t now = 1, bells = 0, on_rc = 0;
	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		bells += c.rc && i % 2;
		on_rc += c.rc;
		vs_choice_moved(&c, now += c.rc ? 1000 : 10000, 64, c.rc, bells);
	}
	assert_false(c.rc);
	assert_int_equal(c.trials, 1);
	assert_true(on_rc > 0 && on_rc < 100);
}

/* `count` connections, one call each in turn; a change of the road takes effect for each at its third call after it. Returns the share of
 * calls that took the queue pair. */
static double play_many(struct vs_group_member *m, unsigned count, const uint8_t host[16], uint64_t *now, uint64_t kernel_ns, uint64_t rc_ns, unsigned calls)
{
	static unsigned late[64];
	static bool on[64];
	unsigned on_rc = 0;
	for (unsigned i = 0; i < calls; i++) {
		unsigned who = i % count;
		late[who] = vs_group_wants_rc(&m[who]) == on[who] ? 0 : late[who] + 1;
		if (late[who] > 2)
			on[who] = !on[who];
		*now += on[who] ? rc_ns : kernel_ns;
		on_rc += on[who];
		vs_group_moved(&m[who], host, *now, 64, on[who], 0);
	}
	return (double)on_rc / calls;
}

static void many_connections_choose_together(void **state)
{
	static struct vs_group_member m[50], late;
	static const uint8_t host[16] = { 1, 2, 3 }, other[16] = { 1, 2, 4 };
	uint64_t now = 1;
	bool rc;
	(void)state;
	vs_group_forget();
	for (unsigned i = 0; i < 50; i++)
		vs_group_join(&m[i], host);
	play_many(m, 50, host, &now, 20000, 10000, 30000);
	assert_true(vs_group_decided(&m[0], &rc) && rc);
	assert_true(play_many(m, 50, host, &now, 20000, 10000, 30000) > 0.9);
	/* Who comes later takes it at once; connections to others know nothing of it. */
	vs_group_join(&late, host);
	assert_true(vs_group_wants_rc(&late));
	vs_group_leave(&late);
	vs_group_join(&late, other);
	assert_false(vs_group_wants_rc(&late));
	vs_group_leave(&late);
	/* One that begins to send much leaves them, and chooses by itself. */
	for (unsigned i = 0; i < 1000; i++)
		vs_group_moved(&m[0], host, now += 20000, 65536, false, 0);
	assert_true(vs_group_wants_rc(&m[1]));
	for (unsigned i = 0; i < 50; i++)
		vs_group_leave(&m[i]);
	assert_false(vs_group_decided(&m[0], &rc));
}

static void trying_costs_many_little(void **state)
{
	static struct vs_group_member m[50];
	static const uint8_t host[16] = { 9 };
	uint64_t now = 1;
	bool rc;
	(void)state;
	vs_group_forget();
	for (unsigned i = 0; i < 50; i++)
		vs_group_join(&m[i], host);
	assert_true(play_many(m, 50, host, &now, 10000, 15000, 600000) < 0.03);
	assert_true(vs_group_decided(&m[0], &rc) && !rc);
	for (unsigned i = 0; i < 50; i++)
		vs_group_leave(&m[i]);
}

/* More hosts than groups: some share one. */
static void more_hosts_than_groups(void **state)
{
	static struct vs_group_member m[200];
	(void)state;
	vs_group_forget();
	for (unsigned i = 0; i < 200; i++)
		vs_group_join(&m[i], (uint8_t[16]){ (uint8_t)i, 7 });
	for (unsigned i = 0; i < 200; i++) {
		assert_non_null(m[i].group);
		vs_group_leave(&m[i]);
	}
}

/* The sender's slot on its host and the receiver's on another one. */
static struct vs_slot *sending, *receiving;
static unsigned char stream[200000];

static void send_hashed(uint64_t at, size_t n)
{
	struct iovec iov = { stream, n };
	struct vs_cursor c;
	struct vs_hash h;
	vs_cursor_init(&c, &iov, 1);
	vs_watch_sent(sending, 0, c, n, at);
	for (uint64_t to = at; to != at + n;) {
		uint64_t block = VS_WATCH_BLOCK - to % VS_WATCH_BLOCK, left = at + n - to;
		to += left < block ? left : block;
		assert_true(vs_watch_hash_at(sending, 0, to, &h));
		assert_int_equal(h.at, to);
		vs_watch_heard(receiving, 0, &h);
	}
}

static void receive_hashed(uint64_t at, size_t n, size_t piece)
{
	for (size_t i = 0; i < n; i += piece) {
		size_t len = n - i < piece ? n - i : piece;
		struct iovec iov = { stream + i, len };
		struct vs_cursor c;
		vs_cursor_init(&c, &iov, 1);
		vs_watch_received(receiving, 0, c, len, at + i);
	}
}

static void hashes_between_hosts(void **state)
{
	char dir[] = "/tmp/vsocket-remote.XXXXXX", command[64];
	(void)state;
	assert_non_null(mkdtemp(dir));
	setenv("RDMAKIT_RUNTIME_DIR", dir, 1);
	assert_int_equal(vs_arena_open(), 0);
	sending = &vs_arena->slot[1];
	receiving = &vs_arena->slot[2];
	vs_watch_begin(sending, VS_WATCH_HASH);
	vs_watch_begin(receiving, VS_WATCH_HASH);
	const struct vs_watch *w = vs_watch_of(receiving, 0);
	for (size_t i = 0; i < sizeof stream; i++)
		stream[i] = (unsigned char)(i * 7 + (i >> 8));
	/* Each ring epoch by itself, wherever its positions are, however its bytes are read. */
	const uint64_t starts[] = { 0, 70000, 70000, 12345 };
	const size_t pieces[] = { sizeof stream, 1000, VS_WATCH_BLOCK, 33333 };
	for (unsigned i = 0; i < 4; i++) {
		const uint64_t before = w->verified_bytes;
		vs_watch_fresh(sending, 0, true, starts[i]);
		send_hashed(starts[i], sizeof stream);
		vs_watch_fresh(receiving, 0, false, starts[i]);
		receive_hashed(starts[i], sizeof stream, pieces[i]);
		assert_int_equal(w->verified_bytes - before, sizeof stream);
		assert_int_equal(w->wrong_count, 0);
	}
	/* One wrong byte is noticed, and where. */
	vs_watch_fresh(sending, 0, true, 500000);
	send_hashed(500000, sizeof stream);
	stream[100000] ^= 1;
	vs_watch_fresh(receiving, 0, false, 500000);
	receive_hashed(500000, sizeof stream, 5000);
	assert_int_equal(w->wrong_count, 1);
	assert_true(w->wrong_from <= 600000 && w->wrong_to > 600000 && w->wrong_to - w->wrong_from <= VS_WATCH_BLOCK);
	/* What a sender who does not hash says nothing of is not compared. */
	const uint64_t verified = w->verified_bytes;
	vs_watch_fresh(receiving, 0, false, 900000);
	receive_hashed(900000, 50000, 5000);
	assert_int_equal(w->verified_bytes, verified);
	assert_int_equal(w->wrong_count, 1);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	assert_int_equal(system(command), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(an_epoch_from_start_to_end, set_up, tear_down),
		cmocka_unit_test_setup_teardown(data_only_where_there_is_room, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_readers_position, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_no_note, set_up, tear_down),
		cmocka_unit_test(datagrams),
		cmocka_unit_test(the_faster_road_is_taken),
		cmocka_unit_test(trials_of_a_slower_road_cost_little),
		cmocka_unit_test(a_road_that_cannot_be_taken),
		cmocka_unit_test(a_peer_who_sleeps_before_each_message),
		cmocka_unit_test(many_connections_choose_together),
		cmocka_unit_test(trying_costs_many_little),
		cmocka_unit_test(more_hosts_than_groups),
		cmocka_unit_test(hashes_between_hosts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
