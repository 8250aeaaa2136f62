/*
 * guard.c - see guard.h. Two ways back from a fault, both chosen by the handler, which only changes where the thread goes on:
 *
 *   in assembly   the small copy and the atomics, whose addresses are known and which keep nothing on the stack: go on at `return 1`
 *   elsewhere     the thread's `active` recovery point is set: go on in recover(), which jumps there
 *
 * The handler returns in both cases, so that the kernel restores the signal mask and the alternate stack.
 */
#define _GNU_SOURCE
#include "guard.h"
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include "../core.h"
#include "../wire/crc32.h"

/* __builtin_setjmp: frame, place, stack, and two that targets may use. */
struct recovery {
	void *jump[5];
};

/* Initial-exec: a load relative to the thread pointer, in a handler too. A library opened late has room for a few words of these. */
static _Thread_local struct recovery *active __attribute__((tls_model("initial-exec")));
_Thread_local bool sr_guard_unblocked;
static struct sigaction previous_segv, previous_bus;

/* ---- what needs no recovery point -------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
/*
 * System V calling convention: rdi to, rsi from, rdx length (at most SR_GUARD_SMALL); 0 in eax. Both ends are copied and meet in the
 * middle. 8, 4, 2 and 1 bytes are one store each, see sr_guard_copy_ordered().
 */
__asm__(".pushsection .text\n"
	".p2align 6\n"
	".globl sr_guard_copy_small\n"
	".hidden sr_guard_copy_small\n"
	".type sr_guard_copy_small, @function\n"
	"sr_guard_copy_small:\n"
	"	.cfi_startproc\n"
	"	cmpq $16, %rdx\n"
	"	jb 3f\n"
	"	cmpq $32, %rdx\n"
	"	ja 1f\n"
	"	movdqu (%rsi), %xmm0\n"
	"	movdqu -16(%rsi,%rdx), %xmm1\n"
	"	movdqu %xmm0, (%rdi)\n"
	"	movdqu %xmm1, -16(%rdi,%rdx)\n"
	"	xorl %eax, %eax\n"
	"	ret\n"
	"1:	movdqu (%rsi), %xmm0\n"
	"	movdqu 16(%rsi), %xmm1\n"
	"	movdqu -32(%rsi,%rdx), %xmm2\n"
	"	movdqu -16(%rsi,%rdx), %xmm3\n"
	"	cmpq $64, %rdx\n"
	"	jbe 2f\n"
	"	movdqu 32(%rsi), %xmm4\n"
	"	movdqu 48(%rsi), %xmm5\n"
	"	movdqu -64(%rsi,%rdx), %xmm6\n"
	"	movdqu -48(%rsi,%rdx), %xmm7\n"
	"	movdqu %xmm4, 32(%rdi)\n"
	"	movdqu %xmm5, 48(%rdi)\n"
	"	movdqu %xmm6, -64(%rdi,%rdx)\n"
	"	movdqu %xmm7, -48(%rdi,%rdx)\n"
	"2:	movdqu %xmm0, (%rdi)\n"
	"	movdqu %xmm1, 16(%rdi)\n"
	"	movdqu %xmm2, -32(%rdi,%rdx)\n"
	"	movdqu %xmm3, -16(%rdi,%rdx)\n"
	"	xorl %eax, %eax\n"
	"	ret\n"
	"3:	xorl %eax, %eax\n"
	"	cmpq $8, %rdx\n"
	"	jb 4f\n"
	"	movq (%rsi), %rcx\n"
	"	je 30f\n"
	"	movq -8(%rsi,%rdx), %rsi\n"
	"	movq %rsi, -8(%rdi,%rdx)\n"
	"30:	movq %rcx, (%rdi)\n"
	"	ret\n"
	"4:	cmpq $4, %rdx\n"
	"	jb 5f\n"
	"	movl (%rsi), %ecx\n"
	"	je 40f\n"
	"	movl -4(%rsi,%rdx), %esi\n"
	"	movl %esi, -4(%rdi,%rdx)\n"
	"40:	movl %ecx, (%rdi)\n"
	"	ret\n"
	"5:	cmpq $2, %rdx\n"
	"	jb 6f\n"
	"	movzwl (%rsi), %ecx\n"
	"	je 50f\n"
	"	movzbl 2(%rsi), %esi\n"
	"	movb %sil, 2(%rdi)\n"
	"50:	movw %cx, (%rdi)\n"
	"	ret\n"
	"6:	testq %rdx, %rdx\n"
	"	je 7f\n"
	"	movzbl (%rsi), %ecx\n"
	"	movb %cl, (%rdi)\n"
	"7:	ret\n"
	".size sr_guard_copy_small, .-sr_guard_copy_small\n"
	/* (at, add, *old) */
	".globl sr_guard_fetch_add\n"
	".hidden sr_guard_fetch_add\n"
	".type sr_guard_fetch_add, @function\n"
	"sr_guard_fetch_add:\n"
	"	lock xaddq %rsi, (%rdi)\n"
	"	movq %rsi, (%rdx)\n"
	"	xorl %eax, %eax\n"
	"	ret\n"
	".size sr_guard_fetch_add, .-sr_guard_fetch_add\n"
	/* (at, compare, swap, *old) */
	".globl sr_guard_compare_swap\n"
	".hidden sr_guard_compare_swap\n"
	".type sr_guard_compare_swap, @function\n"
	"sr_guard_compare_swap:\n"
	"	movq %rsi, %rax\n"
	"	lock cmpxchgq %rdx, (%rdi)\n"
	"	movq %rax, (%rcx)\n"
	"	xorl %eax, %eax\n"
	"	ret\n"
	".size sr_guard_compare_swap, .-sr_guard_compare_swap\n"
	".globl sr_guard_asm_fault\n"
	".hidden sr_guard_asm_fault\n"
	"sr_guard_asm_fault:\n"
	"	movl $1, %eax\n"
	"	ret\n"
	"	.cfi_endproc\n"
	".popsection\n");
extern const char sr_guard_asm_fault[] __attribute__((visibility("hidden")));

int sr_guard_fetch_add(uint64_t *at, uint64_t add, uint64_t *old);
int sr_guard_compare_swap(uint64_t *at, uint64_t compare, uint64_t swap, uint64_t *old);

static bool in_assembly(uintptr_t pc)
{
	return pc >= (uintptr_t)sr_guard_copy_small && pc < (uintptr_t)sr_guard_asm_fault;
}
#endif

/* ---- the handler ------------------------------------------------------------------------------------------------------ */

__attribute__((noreturn)) static void recover(struct recovery *r) { __builtin_longjmp(r->jump, 1); }

/* Sends the interrupted thread somewhere else; false when the fault is not one of ours. */
static bool redirect(ucontext_t *uc)
{
	struct recovery *r = active;
#if defined(__x86_64__)
	greg_t *regs = uc->uc_mcontext.gregs;
	if (in_assembly((uintptr_t)regs[REG_RIP])) {
		regs[REG_RIP] = (greg_t)(uintptr_t)sr_guard_asm_fault;
		return true;
	}
	if (!r)
		return false;
	regs[REG_RIP] = (greg_t)(uintptr_t)recover;
	regs[REG_RDI] = (greg_t)(uintptr_t)r;
	regs[REG_RSP] = ((regs[REG_RSP] - 256) & -16) - 8; /* below the red zone, aligned as at a function's first instruction */
	return true;
#elif defined(__aarch64__)
	if (!r)
		return false;
	uc->uc_mcontext.pc = (uintptr_t)recover;
	uc->uc_mcontext.regs[0] = (uintptr_t)r;
	return true;
#else
#error "guard.c: say how to redirect a thread on this processor"
#endif
}

/* What would have happened without us. */
static void pass_on(int sig, siginfo_t *info, void *uc)
{
	struct sigaction *p = sig == SIGBUS ? &previous_bus : &previous_segv;
	bool sent = info->si_code <= 0; /* by kill() and its like: no instruction will fault again */
	if (p->sa_handler == SIG_IGN && sent)
		return;
	if (p->sa_handler == SIG_DFL || p->sa_handler == SIG_IGN || (p->sa_flags & (int)SA_RESETHAND))
		sigaction(sig, &(struct sigaction){ .sa_handler = SIG_DFL }, NULL);
	if (p->sa_handler == SIG_DFL || p->sa_handler == SIG_IGN) {
		if (sent)
			syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), sig, info);
	} else if (p->sa_flags & SA_SIGINFO) {
		p->sa_sigaction(sig, info, uc);
	} else {
		p->sa_handler(sig);
	}
}

static void on_fault(int sig, siginfo_t *info, void *uc)
{
	if (info->si_code > 0 && redirect(uc))
		SR_COUNT(memory_faults); /* this thread holds sr.lock */
	else
		pass_on(sig, info, uc);
}

/* The flags and mask are the previous handler's, so that it runs as it was to run. Go wants every handler on the alternate stack. */
static void take(int sig, struct sigaction *previous)
{
	sigaction(sig, NULL, previous);
	struct sigaction ours = *previous;
	ours.sa_sigaction = on_fault;
	ours.sa_flags = (previous->sa_flags & ~(int)SA_RESETHAND) | SA_SIGINFO | SA_ONSTACK;
	sigaction(sig, &ours, NULL);
}

void sr_guard_install(void)
{
	static bool done; /* under sr.control */
	if (done)
		return;
	done = true;
	take(SIGSEGV, &previous_segv);
	take(SIGBUS, &previous_bus);
}

void sr_guard_unblock(void)
{
	sigset_t ours;
	sr_guard_unblocked = true;
	sigemptyset(&ours);
	sigaddset(&ours, SIGSEGV);
	sigaddset(&ours, SIGBUS);
	pthread_sigmask(SIG_UNBLOCK, &ours, NULL);
}

/* ---- what uses a recovery point ------------------------------------------------------------------------------------------- */

/* Calls op(args); false when it faulted. */
__attribute__((noinline)) static bool attempt(void (*op)(void *), void *args)
{
	struct recovery point;
	if (__builtin_setjmp(point.jump)) {
		active = NULL;
		return false;
	}
	active = &point;
	/* A call of which the compiler knows nothing: were it sure that nothing jumps back from there, it would drop the way back. */
	__asm__ volatile("" : "+r"(op) : : "memory");
	op(args);
	__asm__ volatile("" : : : "memory");
	active = NULL;
	return true;
}

struct copy {
	void *to;
	const void *from;
	size_t len;
};

static void do_copy(void *args)
{
	struct copy *c = args;
	memcpy(c->to, c->from, c->len);
}

bool sr_guard_copy_large(void *to, const void *from, size_t len)
{
	return attempt(do_copy, &(struct copy){ to, from, len });
}

#if defined(__x86_64__)
#define store sr_guard_copy /* each of these sizes is one store there */
#else
static void do_store(void *args)
{
	struct copy *c = args;
	if (c->len == 8)
		__builtin_memcpy(c->to, c->from, 8);
	else if (c->len == 4)
		__builtin_memcpy(c->to, c->from, 4);
	else if (c->len == 2)
		__builtin_memcpy(c->to, c->from, 2);
	else if (c->len == 1)
		__builtin_memcpy(c->to, c->from, 1);
}

static bool store(void *to, const void *from, size_t len)
{
	return attempt(do_store, &(struct copy){ to, from, len });
}
#endif

bool sr_guard_copy_ordered_any(void *to, const void *from, size_t len)
{
	size_t tail = len >= 8 ? 8 : len >= 4 ? 4 : len >= 2 ? 2 : len, body = len - tail;
	if (body) {
		if (!sr_guard_copy(to, from, body))
			return false;
		atomic_thread_fence(memory_order_release);
	}
	return store((char *)to + body, (const char *)from + body, tail);
}

#if !defined(__x86_64__)
struct atomic {
	uint64_t *at, compare_add, swap, *old;
	uint8_t opcode;
};

static void do_atomic(void *args)
{
	struct atomic *a = args;
	uint64_t old = a->compare_add;
	if (a->opcode == IBV_WR_ATOMIC_FETCH_AND_ADD)
		old = __atomic_fetch_add(a->at, a->compare_add, __ATOMIC_SEQ_CST);
	else
		__atomic_compare_exchange_n(a->at, &old, a->swap, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	*a->old = old;
}
#endif

bool sr_guard_atomic(void *addr, uint8_t opcode, uint64_t compare_add, uint64_t swap, uint64_t *old)
{
#if defined(__x86_64__) /* ThreadSanitizer's atomics hold a lock while they touch the memory */
	return !(opcode == IBV_WR_ATOMIC_FETCH_AND_ADD ? sr_guard_fetch_add(addr, compare_add, old) :
							 sr_guard_compare_swap(addr, compare_add, swap, old));
#else
	return attempt(do_atomic, &(struct atomic){ addr, compare_add, swap, old, opcode });
#endif
}

struct crc {
	uint32_t state;
	const void *data;
	size_t len;
};

static void do_crc(void *args)
{
	struct crc *c = args;
	c->state = sr_crc32(c->state, c->data, c->len);
}

bool sr_guard_crc32(uint32_t *state, const void *data, size_t len)
{
	struct crc c = { *state, data, len };
	if (!attempt(do_crc, &c))
		return false;
	*state = c.state;
	return true;
}
