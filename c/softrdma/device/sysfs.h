/* sysfs.h - between sysfs.c, which knows the attributes, and sysfs_tree.c, which makes files of them. */
#ifndef SR_SYSFS_H
#define SR_SYSFS_H
/* Names of a device's attributes below its folder, the tables of GIDs excepted; ends with NULL. */
extern const char *const sr_sysfs_files[];
#endif
