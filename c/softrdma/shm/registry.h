/*
 * registry.h - who else of this user runs the embedded device in this network namespace.
 *
 * One file a namespace in a private directory (0700, owned by us; see registry.c for the candidates), mapped shared by
 * every process. Row = process slot. A process holds an open-file-description lock on the byte of its row for as long as
 * it lives, so a killed process is noticed without a pid test. Byte SR_REGISTRY_MUTEX guards changes. Nothing is put in
 * /dev/shm.
 */
#ifndef SR_REGISTRY_H
#define SR_REGISTRY_H
#include "../core.h"

#define SR_REGISTRY_WIRE_BYTES 8192

/* Runs under the registry's lock. `live` are the slots of living processes in the order they joined (ours included, last
 * when joining); `area` is the wire road's shared memory, zero when the file is new. */
typedef int (*sr_registry_cb)(void *arg, const uint8_t *live, int count, void *area);

/* Finds, and makes when need be, the user's private directory. 0 or errno. Any thread, before or after joining. */
int sr_registry_dir(char *dir, size_t size);
/* Takes a slot (1..254). Idempotent. 0 or errno (ENOSPC: 254 processes already; EACCES/EROFS: no private directory). */
int sr_registry_join(void);
/* Runs cb under the lock; returns its result, or -errno when the lock cannot be had. */
int sr_registry_locked(sr_registry_cb cb, void *arg);
/* The table of rdma_cm ports (ports.h) in the registry's file, or NULL; locked against changes by other processes until
 * unlocked. */
struct sr_port_table;
struct sr_port_table *sr_registry_ports(void);
struct sr_port_table *sr_registry_ports_lock(void);
void sr_registry_ports_unlock(void);
/* The table of XRC domains (domains.h), in the same way; never used without the lock. */
struct sr_domain_table;
struct sr_domain_table *sr_registry_domains_lock(void);
void sr_registry_domains_unlock(void);
/* Is the slot's process alive? Another process's row may change at any time. */
bool sr_registry_alive(unsigned slot);
/* The 64-bit random generation of a slot's present owner; 0 when the slot is free. */
uint64_t sr_registry_generation(unsigned slot);
/* May this slot's owner be reached over shared memory (it did not switch that road off)? */
bool sr_registry_shm_ok(unsigned slot);
/* Path of the slot's unix socket; returns buf. */
char *sr_registry_socket_path(unsigned slot, char *buf, size_t len);
/* At a process's orderly end: removes its socket files. The row's lock goes with the process. */
void sr_registry_leave(void);
/* In a forked child, or at the end: closes without unlocking the parent's row. */
void sr_registry_abandon(void);
#endif
