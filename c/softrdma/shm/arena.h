/* arena.h - handing out ranges of the segment file. Under sr.control. */
#ifndef SR_ARENA_H
#define SR_ARENA_H
#include <stddef.h>
#include <stdint.h>
/* A page-aligned range whose offset equals `like` modulo 2 MiB (so that huge pages can back both ends); 0 when full. */
uint64_t sr_arena_take(size_t length, uint64_t like);
/* Gives the range and its memory back. */
void sr_arena_give(uint64_t offset, size_t length);
#endif
