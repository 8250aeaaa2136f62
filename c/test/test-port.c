/*
 * From interface facts to port attributes: MTU, speed codes, GUIDs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "softrdma/device/device.h"

static void mtu_leaves_room_for_the_headers(void **state)
{
	static const struct {
		uint32_t netdev;
		enum ibv_mtu mtu;
	} cases[] = {
		{ 0, IBV_MTU_256 },	{ 68, IBV_MTU_256 },	{ 335, IBV_MTU_256 },  { 336, IBV_MTU_256 },   { 591, IBV_MTU_256 },
		{ 592, IBV_MTU_512 },	{ 1103, IBV_MTU_512 },	{ 1104, IBV_MTU_1024 }, { 1280, IBV_MTU_1024 }, { 1500, IBV_MTU_1024 },
		{ 2127, IBV_MTU_1024 }, { 2128, IBV_MTU_2048 }, { 4175, IBV_MTU_2048 }, { 4176, IBV_MTU_4096 }, { 4200, IBV_MTU_4096 },
		{ 9000, IBV_MTU_4096 }, { 65536, IBV_MTU_4096 }, { UINT32_MAX, IBV_MTU_4096 },
	};
	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(sr_mtu_of(cases[i].netdev), cases[i].mtu);
}

static void speeds_are_the_closest_not_above(void **state)
{
	static const struct {
		uint32_t mbps, reported;
	} cases[] = {
		{ 10, 2500 },	     { 1000, 2500 },	 { 2500, 2500 },     { 5000, 5000 },	 { 10000, 10000 },
		{ 25000, 25000 },    { 40000, 40000 },	 { 50000, 50000 },   { 56000, 56000 },	 { 100000, 100000 },
		{ 200000, 200000 },  { 400000, 400000 }, { 800000, 800000 }, { 1600000, 800000 },
	};
	uint8_t width, speed;
	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		sr_speed_encode(cases[i].mbps, &width, &speed);
		assert_int_equal(sr_speed_decode_mbps(width, speed), cases[i].reported);
	}
	assert_int_equal(sr_speed_decode_mbps(0, 0), 0);
}

static void guid_is_the_eui64_of_the_mac(void **state)
{
	struct sr_link_info link = { .name = "eth7", .mac = { 0x02, 0x42, 0xac, 0x11, 0x00, 0x02 }, .mac_len = 6 };
	static const uint8_t want[8] = { 0x00, 0x42, 0xac, 0xff, 0xfe, 0x11, 0x00, 0x02 };
	(void)state;
	uint64_t guid = sr_guid_of(&link, 1);
	assert_memory_equal(&guid, want, 8);
	assert_int_equal(sr_guid_of(&link, 2), guid); /* wherever it is */
}

static void guid_without_a_mac_is_stable_and_local(void **state)
{
	struct sr_link_info lo = { .name = "lo", .mac_len = 6 }, tun = { .name = "tun0", .mac_len = 0 };
	uint8_t bytes[8];
	(void)state;
	uint64_t guid = sr_guid_of(&lo, 4026531840);
	assert_int_equal(sr_guid_of(&lo, 4026531840), guid);
	assert_int_not_equal(sr_guid_of(&lo, 4026531841), guid);
	assert_int_not_equal(sr_guid_of(&tun, 4026531840), guid);
	memcpy(bytes, &guid, 8);
	assert_int_equal(bytes[0] & 3, 2); /* locally administered, not a group */
}

static void active_means_up_and_running(void **state)
{
	struct sr_link_info l = { .flags = IFF_UP };
	(void)state;
	assert_false(sr_link_active(&l));
	l.flags = IFF_RUNNING;
	assert_false(sr_link_active(&l));
	l.flags = IFF_UP | IFF_RUNNING; /* no carrier any more, and the operational state lags behind */
	assert_false(sr_link_active(&l));
	l.flags = IFF_UP | IFF_RUNNING | SR_IFF_LOWER_UP;
	assert_true(sr_link_active(&l));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mtu_leaves_room_for_the_headers),
		cmocka_unit_test(speeds_are_the_closest_not_above),
		cmocka_unit_test(guid_is_the_eui64_of_the_mac),
		cmocka_unit_test(guid_without_a_mac_is_stable_and_local),
		cmocka_unit_test(active_means_up_and_running),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
