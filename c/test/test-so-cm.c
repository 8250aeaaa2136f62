/*
 * librdmacm.so.1 as a program sees it: names, addresses, devices, and how rsockets fail. Connections: test-cm-*.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <rdma/rdma_cma.h>
#include <rdma/rsocket.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void event_names(void **state)
{
	(void)state;
	assert_string_equal(rdma_event_str(RDMA_CM_EVENT_ADDR_RESOLVED), "RDMA_CM_EVENT_ADDR_RESOLVED");
	assert_string_equal(rdma_event_str(RDMA_CM_EVENT_TIMEWAIT_EXIT), "RDMA_CM_EVENT_TIMEWAIT_EXIT");
	assert_string_equal(rdma_event_str((enum rdma_cm_event_type)99), "UNKNOWN EVENT");
}

static void ports_of_an_identifier(void **state)
{
	struct rdma_cm_id id;
	(void)state;
	memset(&id, 0, sizeof(id));
	assert_int_equal(rdma_get_src_port(&id), 0);
	id.route.addr.src_sin.sin_family = AF_INET;
	id.route.addr.src_sin.sin_port = htons(7174);
	id.route.addr.dst_sin6.sin6_family = AF_INET6;
	id.route.addr.dst_sin6.sin6_port = htons(4791);
	assert_int_equal(ntohs(rdma_get_src_port(&id)), 7174);
	assert_int_equal(ntohs(rdma_get_dst_port(&id)), 4791);
}

static void devices_are_open_and_stay_the_same(void **state)
{
	int n = 0, m = 0;
	(void)state;
	struct ibv_context **a = rdma_get_devices(&n);
	assert_non_null(a);
	assert_true(n > 0);
	assert_null(a[n]);
	struct ibv_context **b = rdma_get_devices(&m);
	assert_int_equal(n, m);
	struct ibv_port_attr port;
	for (int i = 0; i < n; i++) {
		assert_ptr_equal(a[i], b[i]);
		assert_int_equal(ibv_query_port(a[i], 1, &port), 0);
	}
	struct ibv_context *kept = a[0];
	rdma_free_devices(a);
	rdma_free_devices(b);
	assert_int_equal(ibv_query_port(kept, 1, &port), 0);
	rdma_free_devices(NULL);
}

static void addresses_to_connect_to(void **state)
{
	struct rdma_addrinfo *res = NULL, hints = { .ai_port_space = RDMA_PS_UDP, .ai_flags = RAI_NUMERICHOST };
	(void)state;
	assert_int_equal(rdma_getaddrinfo("127.0.0.1", "7471", NULL, &res), 0);
	assert_non_null(res);
	assert_int_equal(res->ai_family, AF_INET);
	assert_int_equal(res->ai_port_space, RDMA_PS_TCP);
	assert_int_equal(res->ai_qp_type, IBV_QPT_RC);
	assert_null(res->ai_src_addr);
	const struct sockaddr_in *sin = (void *)res->ai_dst_addr;
	assert_int_equal(ntohs(sin->sin_port), 7471);
	assert_int_equal(ntohl(sin->sin_addr.s_addr), 0x7f000001);
	rdma_freeaddrinfo(res);

	assert_int_equal(rdma_getaddrinfo("::1", "9", &hints, &res), 0);
	assert_int_equal(res->ai_family, AF_INET6);
	assert_int_equal(res->ai_qp_type, IBV_QPT_UD);
	rdma_freeaddrinfo(res);
	assert_int_equal(rdma_getaddrinfo("not-a-number.invalid", "9", &hints, &res), EAI_NONAME);
	assert_int_equal(rdma_getaddrinfo(NULL, NULL, NULL, &res), EAI_SYSTEM);
	rdma_freeaddrinfo(NULL);
}

static void addresses_to_listen_on(void **state)
{
	struct rdma_addrinfo *res = NULL, hints = { .ai_flags = RAI_PASSIVE, .ai_family = AF_INET };
	struct sockaddr_in from = { .sin_family = AF_INET, .sin_port = htons(5) };
	(void)state;
	assert_int_equal(rdma_getaddrinfo(NULL, "7471", &hints, &res), 0);
	assert_non_null(res->ai_src_addr);
	assert_null(res->ai_dst_addr);
	assert_int_equal(res->ai_src_len, sizeof(struct sockaddr_in));
	rdma_freeaddrinfo(res);

	/* No name at all: the hints are the answer. */
	hints = (struct rdma_addrinfo){ .ai_src_addr = (struct sockaddr *)&from, .ai_src_len = sizeof(from) };
	assert_int_equal(rdma_getaddrinfo(NULL, NULL, &hints, &res), 0);
	assert_int_equal(res->ai_family, AF_INET);
	assert_ptr_not_equal(res->ai_src_addr, &from);
	assert_memory_equal(res->ai_src_addr, &from, sizeof(from));
	rdma_freeaddrinfo(res);
}

static void rsockets_are_refused(void **state)
{
	(void)state;
	errno = 0;
	assert_int_equal(rsocket(AF_INET, SOCK_STREAM, 0), -1);
	assert_int_equal(errno, ENOSYS);
}

static void polling_serves_ordinary_descriptors(void **state)
{
	int p[2];
	(void)state;
	assert_int_equal(pipe(p), 0);
	struct pollfd f = { .fd = p[0], .events = POLLIN };
	assert_int_equal(rpoll(&f, 1, 0), 0);
	assert_int_equal(write(p[1], "x", 1), 1);
	assert_int_equal(rpoll(&f, 1, 10000), 1);
	assert_int_equal(f.revents, POLLIN);
	close(p[0]);
	close(p[1]);
}

/* Says why, once, and only when asked. stderr goes to a pipe meanwhile. */
static size_t stderr_of_two_calls(char *buf, size_t size)
{
	int p[2], saved = dup(2);
	assert_int_equal(pipe(p), 0);
	dup2(p[1], 2);
	assert_int_equal(rsocket(AF_INET, SOCK_STREAM, 0), -1);
	assert_int_equal(rsocket(AF_INET, SOCK_STREAM, 0), -1);
	dup2(saved, 2);
	close(saved);
	close(p[1]);
	ssize_t n = read(p[0], buf, size - 1);
	close(p[0]);
	assert_true(n >= 0);
	buf[n] = 0;
	return (size_t)n;
}

static void explains_once_when_asked(void **state)
{
	char text[1024];
	(void)state;
	unsetenv("RDMAKIT_DEBUG");
	assert_int_equal(stderr_of_two_calls(text, sizeof(text)), 0);
	setenv("RDMAKIT_DEBUG", "1", 1);
	assert_true(stderr_of_two_calls(text, sizeof(text)) > 0);
	assert_non_null(strstr(text, "rsocket"));
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
	unsetenv("RDMAKIT_DEBUG");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(event_names),
		cmocka_unit_test(ports_of_an_identifier),
		cmocka_unit_test(devices_are_open_and_stay_the_same),
		cmocka_unit_test(addresses_to_connect_to),
		cmocka_unit_test(addresses_to_listen_on),
		cmocka_unit_test(rsockets_are_refused),
		cmocka_unit_test(polling_serves_ordinary_descriptors),
		cmocka_unit_test(explains_once_when_asked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
