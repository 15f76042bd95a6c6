/* A clock that the tests set, for LD_PRELOAD. In the folder $TEST_CLOCK the link "offset" holds the
 * seconds by which the time of day is off, and the link "panic" the name of a thread whose next look at
 * a clock fails: Rust's standard library panics upon that. Links, because reading one takes no
 * descriptor. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static int read_link(const char *name, char *path, size_t path_size, char *text, size_t text_size)
{
	const char *folder = getenv("TEST_CLOCK");
	ssize_t length;

	if (!folder)
		return 0;
	snprintf(path, path_size, "%s/%s", folder, name);
	length = readlink(path, text, text_size - 1);
	if (length <= 0)
		return 0;
	text[length] = 0;
	return 1;
}

int clock_gettime(clockid_t id, struct timespec *now)
{
	static int (*original)(clockid_t, struct timespec *);
	char path[512], text[64], name[16] = "";
	int saved = errno, result;

	if (!original)
		original = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	result = original(id, now);
	if (result == 0 && id == CLOCK_REALTIME && read_link("offset", path, sizeof path, text, sizeof text))
		now->tv_sec += atol(text);
	if (read_link("panic", path, sizeof path, text, sizeof text)) {
		prctl(PR_GET_NAME, name);
		/* Whoever removes the link is the one that fails. */
		if (strcmp(name, text) == 0 && unlink(path) == 0) {
			errno = EINVAL;
			return -1;
		}
	}
	errno = saved;
	return result;
}
