/* choice.c - deciding between two roads. Pure. */
#include "choice.h"
#include <string.h>

/* A gap longer than this is the application's, not the road's. */
#define PAUSE_NS UINT64_C(5000000)
/* A window ends after so much. */
#define WINDOW_CALLS 1024u
#define WINDOW_BYTES (UINT64_C(8) << 20)
#define SKIP_CALLS 256u
#define SKIP_A_MEMBER 16u
#define ASTRAY_CALLS 1024u
#define ASTRAY_A_MEMBER 128u
#define FIRST_WAIT_NS UINT64_C(1000000000)
#define LAST_WAIT_NS UINT64_C(60000000000)
/* What a trial of the slower road took is waited out so many times before the next: that bounds what trials cost. */
#define PRICE 40u
/* So much worse needs no second look. */
#define HOPELESS 2.0
/* Small messages are tried when there have been so many: the first trial, too, costs little of them. */
#define FIRST_CALLS 4096u
#define SMALL_BYTES 16384u
/* A peer who sleeps before each message is woken through the kernel, which costs what sending the message there does. After so many calls
 * that is plain, and no rate need be measured: it would tell little, when all connections of a server are tried at once. */
#define SLEEPER_CALLS 64u
/* The new road must be better by this much, because changing costs too. */
#define MARGIN 1.03

static void begin_window(struct vs_choice *c, uint64_t now_ns)
{
	c->window_ns = now_ns;
	c->busy_ns = c->calls = c->bytes = c->astray = c->all_calls = c->all_bytes = 0;
	c->skip = SKIP_CALLS + c->members * SKIP_A_MEMBER;
}

static void begin_trial(struct vs_choice *c, uint64_t now_ns)
{
	c->trying = true;
	c->rc_ns = 0;
	c->round = 0;
	c->rc = false;
	begin_window(c, now_ns);
}

/* What it can do: whatever else the machine does makes windows slower, never faster. */
static double best(const double r[VS_CHOICE_ROUNDS])
{
	double most = r[0];
	for (int i = 1; i < VS_CHOICE_ROUNDS; i++)
		most = r[i] > most ? r[i] : most;
	return most;
}

static void end_trial(struct vs_choice *c, uint64_t now_ns)
{
	c->kernel_rate = c->round > 2 ? best(c->rate[0]) : c->rate[0][0];
	c->rc_rate = c->round > 2 ? best(c->rate[1]) : c->rate[1][0];
	bool rc = c->rc_rate > c->kernel_rate * MARGIN;
	/* The same answer again is trusted for longer. */
	if (c->trials++ == 0 || rc != c->kept_rc)
		c->wait_ns = FIRST_WAIT_NS;
	else if (c->wait_ns < LAST_WAIT_NS)
		c->wait_ns *= 2;
	uint64_t price = rc ? 0 : PRICE * c->rc_ns;
	if (c->wait_ns < price)
		c->wait_ns = price;
	c->kept_rc = c->rc = rc;
	c->trying = false;
	c->trial_ns = now_ns;
	c->character = 0;
	c->seen_calls = c->seen_bytes = 0;
}

static void end_window(struct vs_choice *c, uint64_t now_ns)
{
	/* Calls for small messages, bytes for large ones: both mean that the application gets on. */
	double work = (double)c->bytes + 64.0 * (double)c->calls;
	c->rate[c->round & 1][c->round / 2] = work / (double)(c->busy_ns ? c->busy_ns : 1);
	if (c->round & 1)
		c->rc_ns += now_ns - c->window_ns;
	c->round++;
	bool hopeless = c->round == 2 && c->rate[1][0] * HOPELESS < c->rate[0][0];
	if (hopeless || c->round >= 2 * VS_CHOICE_ROUNDS) {
		end_trial(c, now_ns);
		return;
	}
	c->rc = c->round & 1;
	begin_window(c, now_ns);
}

/* Traffic of another kind than the one that was decided about. */
static bool changed_character(struct vs_choice *c, uint64_t n)
{
	c->seen_calls++;
	c->seen_bytes += n;
	if (c->seen_calls < 256)
		return false;
	double now = (double)c->seen_bytes / (double)c->seen_calls;
	c->seen_calls = c->seen_bytes = 0;
	if (c->character <= 0)
		c->character = now;
	return now > 8 * c->character || now * 8 < c->character;
}

bool vs_choice_moved(struct vs_choice *c, uint64_t now_ns, uint64_t n, bool rc, uint64_t bells)
{
	bool before = c->rc;
	uint64_t gap = c->last_ns ? now_ns - c->last_ns : PAUSE_NS;
	c->last_ns = now_ns;
	if (!c->trying) {
		bool another = changed_character(c, n);
		if (c->trials == 0) {
			c->all_calls++;
			c->all_bytes += n;
			if (c->all_calls >= FIRST_CALLS || (c->all_calls >= 8 && c->all_bytes >= c->all_calls * SMALL_BYTES))
				begin_trial(c, now_ns);
		} else if (another || now_ns - c->trial_ns > c->wait_ns)
			begin_trial(c, now_ns);
		return c->rc != before;
	}
	/* Changing takes a while, and may be impossible. */
	if (rc != c->rc) {
		if (++c->astray < ASTRAY_CALLS + c->members * ASTRAY_A_MEMBER)
			return false;
		c->busy_ns = UINT64_C(1) << 60;
		end_window(c, now_ns);
		return c->rc != before;
	}
	if (c->all_calls++ == 0)
		c->first_bells = bells;
	c->all_bytes += n;
	/* Calls go both ways, doorbells one. */
	if (rc && c->all_calls >= SLEEPER_CALLS && c->all_bytes < c->all_calls * SMALL_BYTES && (bells - c->first_bells) * 4 > c->all_calls) {
		c->rate[1][0] = 0;
		c->rc_ns += now_ns - c->window_ns;
		c->round = 2;
		end_trial(c, now_ns);
		return c->rc != before;
	}
	if (c->skip > 0) {
		c->skip--;
		return false;
	}
	if (gap < PAUSE_NS)
		c->busy_ns += gap;
	c->calls++;
	c->bytes += n;
	if (c->busy_ns > 0 && c->calls >= 16 && (c->calls >= WINDOW_CALLS || c->bytes >= WINDOW_BYTES))
		end_window(c, now_ns);
	return c->rc != before;
}
