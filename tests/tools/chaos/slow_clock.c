/* A wall clock that is SLOW_SECONDS behind, for LD_PRELOAD. Debian's libfaketime can't be loaded into a redis-server:
 * it allocates memory to find the real functions, jemalloc asks for the time to do so, and neither ever begins. Here
 * the kernel is asked directly. Monotonic clocks stay as they are. */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#ifndef SLOW_SECONDS
#define SLOW_SECONDS 5
#endif

int clock_gettime(clockid_t clock, struct timespec *now)
{
    long result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec -= SLOW_SECONDS;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact) != 0)
        return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *seconds)
{
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (seconds != 0)
        *seconds = exact.tv_sec;
    return exact.tv_sec;
}
