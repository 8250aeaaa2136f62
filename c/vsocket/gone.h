/* gone.h - whether a process or thread has ended, which kill(pid, 0) alone does not say: one that nobody has waited for answers. */
#ifndef VS_GONE_H
#define VS_GONE_H

#include <stdbool.h>

/* True when `id` (of a process or a thread) names nothing any more, or what is ending or has ended. When that cannot be found out (no /proc):
 * false. */
bool vs_gone(int id);

/* True when `id` is certain to be nothing that could own a lock of ours: it has ended, or it is another program's by now, which has none of
 * our files mapped. Slow: reads /proc/id/maps. */
bool vs_stranger(int id);

#endif
