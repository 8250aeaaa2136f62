/*
 * sysfs_tree.c - /sys/class/infiniband and /dev/infiniband as files, for programs that read them with their own hands (UCX,
 * ibstat, perftest's NUMA look-up, shell scripts). librdmakit_sysfs.so, which verbs-run preloads, sends such paths here.
 *
 * The tree lies in the private runtime directory, one a network namespace, shared by the user's processes: <dir>/sysfs-<netns>
 * stands for "/". It is made when a process first asks and whenever interfaces or addresses have changed; an attribute is
 * written afresh each time it is opened, so that states and counters are those of the moment. All writers agree on what
 * it should be, hence no locks: files are replaced by rename, what exists is no error.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../abi/exports.h"
#include "../core.h"
#include "../shm/registry.h"
#include "device.h"
#include "sysfs.h"

#define CLASS "/sys/class/infiniband"
#define VERBS "/sys/class/infiniband_verbs"
#define NODES "/dev/infiniband"

/* Exported for librdmakit_sysfs.so. */
const char *rdmakit_sysfs_path(const char *path, int opening, char *buf, size_t size);

static pthread_mutex_t tree_lock = PTHREAD_MUTEX_INITIALIZER;
static char root[160];	    /* "" before the first use */
static uint64_t built_netns; /* for these the tree was last brought up to date */
static uint64_t built_state;

/* A path in the tree, cut off when it cannot exist anyway. */
static char *in_tree(char *buf, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static char *in_tree(char *buf, size_t size, const char *format, ...)
{
	va_list ap;
	int n = snprintf(buf, size, "%s", root);
	va_start(ap, format);
	vsnprintf(buf + n, size - (size_t)n, format, ap);
	va_end(ap);
	return buf;
}

/* Makes the folders above a path of the tree, and the path too when it ends in a slash. */
static void make_folders(char *path)
{
	for (char *p = path + strlen(root); (p = strchr(p, '/')); p++) {
		*p = 0;
		mkdir(path, 0700);
		*p = '/';
	}
}

static bool same_content(const char *path, const char *content, size_t n)
{
	char old[512];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t got = fd >= 0 ? read(fd, old, sizeof(old)) : -1;
	if (fd >= 0)
		close(fd);
	return got == (ssize_t)n && !memcmp(old, content, n);
}

static void write_file(const char *name, const char *content, size_t n)
{
	char path[512], temporary[512];
	in_tree(path, sizeof(path), "%s", name);
	if (same_content(path, content, n))
		return;
	make_folders(path);
	in_tree(temporary, sizeof(temporary), "/.new-%d", (int)getpid());
	int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	bool whole = write(fd, content, n) == (ssize_t)n && !fchmod(fd, 0444);
	close(fd);
	if (!whole || rename(temporary, path))
		unlink(temporary);
}

/* Writes the attribute folder/file as it is now; a row that is empty has no file. */
static void write_attribute(const char *folder, const char *file)
{
	char content[300], name[400];
	int n = ibv_read_sysfs_file(folder, file, content, sizeof(content) - 1);
	if (n < 0 || (size_t)snprintf(name, sizeof(name), "%s/%s", folder, file) >= sizeof(name))
		return;
	content[n++] = '\n';
	write_file(name, content, (size_t)n);
}

/* The same for a path that a program names. */
static void write_named(const char *path)
{
	char folder[300];
	const char *file = strrchr(path, '/');
	if (!strstr(path, "/rk_") || (size_t)(file - path) >= sizeof(folder))
		return;
	memcpy(folder, path, (size_t)(file - path));
	folder[file - path] = 0;
	write_attribute(folder, file + 1);
}

static void write_device(const struct sr_device *d)
{
	static const char *const tables[] = { "gids", "gid_attrs/types", "gid_attrs/ndevs" };
	bool valid[SR_LIMIT_GIDS];
	char file[64], path[512];
	pthread_mutex_lock(&sr_device_lock);
	for (int i = 0; i < SR_LIMIT_GIDS; i++)
		valid[i] = d->gids[i].valid;
	pthread_mutex_unlock(&sr_device_lock);
	for (const char *const *each = sr_sysfs_files; *each; each++)
		write_attribute(d->dev.ibdev_path, *each);
	for (int i = 0; i < SR_LIMIT_GIDS * 3; i++) {
		snprintf(file, sizeof(file), "ports/1/%s/%d", tables[i % 3], i / 3);
		if (valid[i / 3])
			write_attribute(d->dev.ibdev_path, file);
		else
			unlink(in_tree(path, sizeof(path), "%s/%s", d->dev.ibdev_path, file));
	}
	write_attribute(d->dev.dev_path, "ibdev");
	write_attribute(d->dev.dev_path, "abi_version");
	/* Where scripts look for the interface. */
	make_folders(in_tree(path, sizeof(path), "%s/device/net/", d->dev.ibdev_path));
	snprintf(file, sizeof(file), "/sys/class/net/%s", d->link.name);
	if (symlink(file, in_tree(path, sizeof(path), "%s/device/net/%s", d->dev.ibdev_path, d->link.name)) && errno != EEXIST)
		return;
	/* Programs look whether the device node is there and may be opened (UCX); nobody of ours reads or writes it. */
	if (symlink("/dev/null", in_tree(path, sizeof(path), NODES "/%s", d->dev.dev_name)))
		return; /* most often: it is there already */
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st, (void)type, (void)at;
	remove(path);
	return 0;
}

/* Removes what belongs to devices that are there no more. */
static void remove_others(const char *folder, struct ibv_device **list)
{
	char path[512];
	DIR *dir = opendir(in_tree(path, sizeof(path), "%s", folder));
	struct dirent *e;
	while (dir && (e = readdir(dir))) {
		bool known = strncmp(e->d_name, "rk_", 3) != 0;
		for (struct ibv_device **d = list; *d && !known; d++)
			known = !strcmp((*d)->name, e->d_name);
		if (!known)
			nftw(in_tree(path, sizeof(path), "%s/%s", folder, e->d_name), remove_one, 8, FTW_DEPTH | FTW_PHYS);
	}
	if (dir)
		closedir(dir);
}

/* What the tree's shape depends on: names of devices and their GIDs. */
static uint64_t state_of(struct ibv_device **list)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	pthread_mutex_lock(&sr_device_lock);
	for (; *list; list++) {
		const struct sr_device *d = sr_dev(*list);
		const unsigned char *parts[] = { (const void *)d->dev.name, (const void *)d->gids };
		const size_t sizes[] = { strlen(d->dev.name) + 1, sizeof(d->gids) };
		for (int p = 0; p < 2; p++)
			for (size_t i = 0; i < sizes[p]; i++)
				h = (h ^ parts[p][i]) * UINT64_C(0x100000001b3);
	}
	pthread_mutex_unlock(&sr_device_lock);
	return h | 1;
}

static int find_root(uint64_t netns)
{
	char dir[128];
	int rc = sr_registry_dir(dir, sizeof(dir));
	if (rc)
		return rc;
	snprintf(root, sizeof(root), "%s/sysfs-%llu", dir, (unsigned long long)netns);
	built_netns = netns;
	built_state = 0;
	return 0;
}

/* 0, or an errno when there is no place for the tree. */
static int bring_up_to_date(void)
{
	uint64_t netns = sr_netns_inode();
	int n, rc = built_netns == netns && root[0] ? 0 : find_root(netns);
	struct ibv_device **list = rc ? NULL : sr_device_list(&n);
	if (!list)
		return rc ? rc : errno;
	uint64_t state = state_of(list);
	if (state != built_state) {
		char path[512];
		make_folders(in_tree(path, sizeof(path), CLASS "/"));
		make_folders(in_tree(path, sizeof(path), NODES "/"));
		write_file(VERBS "/abi_version", "6\n", 2);
		write_file("/sys/class/infiniband_mad/abi_version", "5\n", 2);
		for (struct ibv_device **d = list; *d; d++)
			write_device(sr_dev(*d));
		remove_others(CLASS, list);
		remove_others(VERBS, list);
		remove_others(NODES, list);
		built_state = state;
	}
	ibv_free_device_list(list);
	return access(root, X_OK) ? errno : 0;
}

/*
 * The real file that stands for a path below one of our folders, now up to date; `opening` says that the program is about to
 * read it. Writes into buf and returns it. NULL and errno when there is no place for the tree or the path is too long.
 */
const char *rdmakit_sysfs_path(const char *path, int opening, char *buf, size_t size)
{
	pthread_mutex_lock(&tree_lock);
	int rc = bring_up_to_date();
	if (!rc && opening)
		write_named(path);
	if (!rc && (size_t)snprintf(buf, size, "%s%s", root, path) >= size)
		rc = ENAMETOOLONG;
	pthread_mutex_unlock(&tree_lock);
	if (rc)
		errno = rc;
	return rc ? NULL : buf;
}
