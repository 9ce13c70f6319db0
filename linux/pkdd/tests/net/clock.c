/* For LD_PRELOAD: the clock of the day is as many seconds ahead as the file PKD_CLOCK says. Other clocks are right. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long ahead(void)
{
	char text[32] = "";
	const char *path = getenv("PKD_CLOCK");
	int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	if (file < 0 || read(file, text, sizeof(text) - 1) <= 0)
		abort();
	close(file);
	return strtol(text, NULL, 10);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	if (syscall(SYS_clock_gettime, clock, now))
		return -1;
	if (clock == CLOCK_REALTIME)
		now->tv_sec += ahead();
	return 0;
}
