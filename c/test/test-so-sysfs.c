/*
 * The files that librdmakit_sysfs.so puts in the place of /sys/class/infiniband and /dev/infiniband, reached with the calls
 * that programs use. The library is linked here instead of preloaded, which puts its functions before libc's all the same.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <infiniband/verbs.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LO "/sys/class/infiniband/rk_lo"

static char runtime[] = "/tmp/rdmakit-test-XXXXXX";

/* Content of a file without its last newline; static storage. */
static const char *content(const char *path)
{
	static __thread char text[256];
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	size_t n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	assert_true(n > 0 && text[n - 1] == '\n');
	text[n - 1] = 0;
	return text;
}

static void attributes(void **state)
{
	char path[128], buf[64];
	(void)state;
	assert_string_equal(content(LO "/node_type"), "1: CA");
	assert_string_equal(content(LO "/ports/1/state"), "4: ACTIVE");
	assert_string_equal(content(LO "/ports/1/link_layer"), "Ethernet");
	assert_string_equal(content("/sys/class/infiniband_verbs/rk_lo/ibdev"), "rk_lo");
	assert_string_equal(content("/sys/class/infiniband_verbs/abi_version"), "6");
	int fd = open(LO "/ports/1/gid_attrs/types/0", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(read(fd, buf, sizeof(buf)), 8);
	assert_memory_equal(buf, "RoCE v2\n", 8);
	close(fd);
	/* From the folder's descriptor, as find and grep -r do. */
	int dir = open(LO, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir >= 0);
	fd = openat(dir, "ports/1/state", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	close(fd);
	close(dir);
	errno = 0;
	assert_int_equal(open(LO "/no_such_file", O_RDONLY), -1);
	assert_int_equal(errno, ENOENT);
	snprintf(path, sizeof(path), "%s/ports/1/gids/200", LO); /* an empty row */
	assert_int_equal(access(path, F_OK), -1);
}

static void folders_and_links(void **state)
{
	struct stat st;
	char buf[4096];
	(void)state;
	bool seen = false;
	DIR *dir = opendir("/sys/class/infiniband");
	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir));)
		seen |= !strcmp(e->d_name, "rk_lo");
	closedir(dir);
	assert_true(seen);
	assert_int_equal(stat("/dev/infiniband/rk_lo", &st), 0);
	assert_true(S_ISCHR(st.st_mode));
	assert_int_equal(access("/dev/infiniband/rk_lo", R_OK | W_OK), 0);
	assert_int_equal(stat(LO, &st), 0);
	assert_true(S_ISDIR(st.st_mode));
	assert_string_equal(realpath(LO "/../rk_lo/ports/1", buf), LO "/ports/1");
	assert_int_equal(readlink(LO "/device/net/lo", buf, sizeof(buf)), 17);
	assert_memory_equal(buf, "/sys/class/net/lo", 17);
	assert_null(realpath(LO "/device/vendor", buf)); /* on no bus, as every virtual device */
	assert_int_equal(errno, ENOENT);
	assert_int_equal(readlink(LO "/device/vendor", buf, sizeof(buf)), -1);
	assert_int_equal(errno, ENOENT);
}

static void other_paths_are_left_alone(void **state)
{
	struct stat st;
	char buf[4096];
	(void)state;
	assert_int_equal(stat("/sys/class/net/lo", &st), 0);
	assert_int_equal(stat("/sys/class/infiniband_none", &st), -1);
	assert_int_equal(access("/dev/null", W_OK), 0);
	assert_string_equal(realpath("/dev/../dev/null", buf), "/dev/null");
	assert_int_equal(chdir("/"), 0);
	/* A new file's mode goes through. */
	char path[128];
	snprintf(path, sizeof(path), "%s/file", runtime);
	int fd = open(path, O_CREAT | O_RDWR | O_EXCL, 0640);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	close(fd);
	unlink(path);
	errno = 0;
	assert_int_equal(open("", O_RDONLY), -1);
	assert_int_equal(errno, ENOENT);
}

/* Every file of a tree can be read and is not empty. Returns their number. */
static int read_all(const char *folder)
{
	int files = 0;
	DIR *dir = opendir(folder);
	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir));) {
		char path[512];
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
		if (e->d_type == DT_DIR)
			files += read_all(path);
		else if (e->d_type == DT_REG && content(path))
			files++;
	}
	closedir(dir);
	return files;
}

static void every_attribute_has_a_content(void **state)
{
	(void)state;
	assert_true(read_all(LO) > 60);
}

static void *look_often(void *wrong)
{
	char buf[64];
	for (int i = 0; i < 200; i++) {
		int fd = open(LO "/ports/1/state", O_RDONLY | O_CLOEXEC);
		ssize_t n = fd >= 0 ? read(fd, buf, sizeof(buf)) : -1;
		if (n != 10 || memcmp(buf, "4: ACTIVE\n", 10))
			++*(int *)wrong;
		if (fd >= 0)
			close(fd);
	}
	return NULL;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st, (void)type, (void)at;
	return remove(path);
}

static void remove_tree(void)
{
	nftw(runtime, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	assert_int_equal(mkdir(runtime, 0700), 0);
}

/* Processes that begin at once make one tree, threads read it while it is made. */
static void many_at_once(void **state)
{
	pid_t pids[4];
	(void)state;
	remove_tree();
	for (int p = 0; p < 4; p++) {
		pids[p] = fork();
		if (pids[p] == 0) {
			execl("/proc/self/exe", "again", NULL);
			_exit(9);
		}
	}
	for (int p = 0; p < 4; p++) {
		int status = -1;
		assert_int_equal(waitpid(pids[p], &status, 0), pids[p]);
		assert_int_equal(status, 0);
	}
}

static int in_a_new_process(void)
{
	int wrong[4] = { 0 };
	pthread_t threads[4];
	for (int t = 0; t < 4; t++)
		pthread_create(&threads[t], NULL, look_often, &wrong[t]);
	for (int t = 0; t < 4; t++)
		pthread_join(threads[t], NULL);
	return wrong[0] + wrong[1] + wrong[2] + wrong[3] ? 1 : 0;
}

static void nowhere_to_put_it(void **state)
{
	(void)state;
	pid_t pid = fork();
	if (pid == 0) {
		setenv("RDMAKIT_RUNTIME_DIR", "/proc/nowhere", 1);
		execl("/proc/self/exe", "nowhere", NULL);
		_exit(9);
	}
	int status = -1;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(attributes),
		cmocka_unit_test(folders_and_links),
		cmocka_unit_test(other_paths_are_left_alone),
		cmocka_unit_test(every_attribute_has_a_content),
		cmocka_unit_test(many_at_once),
		cmocka_unit_test(nowhere_to_put_it),
	};
	(void)argc;
	if (!strcmp(argv[0], "again"))
		return in_a_new_process();
	if (!strcmp(argv[0], "nowhere")) /* then it is as if no device were there */
		return access(LO, F_OK) == -1 && errno == ENOENT ? 0 : 1;
	ibv_free_device_list(ibv_get_device_list(NULL)); /* so that the embedded library is the one in this process */
	if (!mkdtemp(runtime) || setenv("RDMAKIT_RUNTIME_DIR", runtime, 1))
		return 1;
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	nftw(runtime, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return failed;
}
