/* steer_map.c - the picture of the kernel's socket array and the program made from it; see steer.h. */
#include "steer.h"

static int find(const struct sr_steer_map *map, unsigned slot)
{
	for (uint32_t i = 0; i < map->count; i++)
		if (map->at[i].slot == slot)
			return (int)i;
	return -1;
}

void sr_steer_map_prune(struct sr_steer_map *map, uint64_t (*owner_of)(unsigned slot))
{
	if (map->count > SR_STEER_MAX)
		map->count = 0; /* never trust what lies in a file */
	for (uint32_t i = 0; i < map->count;) {
		if (owner_of(map->at[i].slot) == map->at[i].owner) {
			i++;
			continue;
		}
		map->at[i] = map->at[--map->count];
		map->version++;
	}
}

int sr_steer_map_append(struct sr_steer_map *map, unsigned slot, uint64_t owner)
{
	if (map->count >= SR_STEER_MAX)
		return -1;
	map->at[map->count].slot = (uint8_t)slot;
	map->at[map->count].owner = owner;
	map->count++;
	map->version++;
	return 0;
}

void sr_steer_map_learn(struct sr_steer_map *map, unsigned slot, unsigned mine)
{
	int believed = find(map, mine), actual = find(map, slot);
	if (believed < 0 || actual < 0 || believed == actual)
		return;
	__typeof__(map->at[0]) keep = map->at[actual];
	map->at[actual] = map->at[believed];
	map->at[believed] = keep;
	map->version++;
}

int sr_steer_program(const struct sr_steer_map *map, struct sock_filter *code)
{
	int n = 0;
	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 5); /* BTH: top byte of the destination QPN */
	for (uint32_t i = 0; i < map->count; i++) {
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, map->at[i].slot, 0, 1);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, i);
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, UINT32_MAX); /* out of range: the kernel picks by hash */
	return n;
}
