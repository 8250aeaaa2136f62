/* See verbs-world.h. */
#include "verbs-world.h"

void world_make(struct world *w, const struct vk_conf *conf)
{
	memset(w, 0, sizeof *w);
	vk_open(&w->d);
	vk_pair_make(w->e, &w->d, conf);
	w->a = vk_pages(LEN);
	w->b = vk_pages(LEN);
	w->ma = vk_reg(&w->d, w->a, LEN, VK_RW);
	w->mb = vk_reg(&w->d, w->b, LEN, VK_RW);
	memset(w->a, 0x11, LEN);
	memset(w->b, 0x22, LEN);
}

void world_free(struct world *w)
{
	vk_pair_free(w->e);
	VK(!ibv_dereg_mr(w->ma) && !ibv_dereg_mr(w->mb));
	vk_close(&w->d);
	vk_unpages(w->a, LEN);
	vk_unpages(w->b, LEN);
}

bool untouched(const uint8_t *p, size_t len, uint8_t value)
{
	for (size_t i = 0; i < len; i++)
		if (p[i] != value)
			return false;
	return true;
}
