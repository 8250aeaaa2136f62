/* verbs-world.h - the usual set of a verbs test: a device, two ends connected to each other, a registered buffer for each. */
#ifndef TEST_VERBS_WORLD_H
#define TEST_VERBS_WORLD_H
#include "verbs-kit.h"

#define LEN (64u * 1024)

struct world {
	struct vk_dev d;
	struct vk_end e[2];
	uint8_t *a, *b; /* LEN bytes each, filled with 0x11 and 0x22 */
	struct ibv_mr *ma, *mb;
};

void world_make(struct world *w, const struct vk_conf *conf);
void world_free(struct world *w);
/* All bytes have this value. */
bool untouched(const uint8_t *p, size_t len, uint8_t value);
#endif
