/* The world beneath one process, made worse from outside while it runs: its wall clock and its disk's syncs.
 *
 * Preloaded into a node (LD_PRELOAD); VESTAL_WORLD names a file that both sides map: `struct world` below, all zero
 * when nothing is wrong. `tests/src/shim.rs` writes it. A change is in force at the next call, without a restart.
 *
 * Only the wall clock is moved. The monotonic clock is exact, as in the simulator, so deadlines that libraries give in
 * wall time are moved back by as much before the system waits for them.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* Eight little-endian 64-bit words; `tests/src/shim.rs` knows their places. */
struct world {
  int64_t clock_offset_ns;  /* added to the wall clock */
  int64_t clock_drift_ppm;  /* the wall clock gains so much ... */
  int64_t clock_drift_from; /* ... from this nanosecond of the monotonic clock on; 0: filled in here at the next look */
  int64_t sync_delay_us;    /* every sync takes at least so long; looked at again while one waits */
  int64_t sync_failures;    /* so many syncs to come fail; counted down here */
  int64_t sync_errno;       /* with this error; 0 is EIO */
  int64_t syncs;            /* syncs that were asked for so far; counted up here */
  int64_t unused;
};

static struct world nothing_wrong;
static volatile struct world *world = &nothing_wrong;

static int (*real_wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("VESTAL_WORLD");
  int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (file < 0) return;
  void *map = mmap(NULL, sizeof(struct world), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (map != MAP_FAILED) world = map;
}

static int64_t real_ns(clockid_t clock) {
  struct timespec t = {0, 0};
  syscall(SYS_clock_gettime, clock, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int64_t clock_error_ns(void) {
  int64_t ppm = world->clock_drift_ppm;
  if (ppm == 0) return world->clock_offset_ns;
  int64_t now = real_ns(CLOCK_MONOTONIC), from = 0;
  __atomic_compare_exchange_n(&world->clock_drift_from, &from, now, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return world->clock_offset_ns + (now - (from ? from : now)) / 1000000 * ppm;
}

static struct timespec moved(struct timespec t, int64_t by_ns) {
  int64_t ns = t.tv_sec * 1000000000LL + t.tv_nsec + by_ns;
  if (ns < 0) ns = 0;
  return (struct timespec){ns / 1000000000LL, ns % 1000000000LL};
}

/* The wall clock. */

int clock_gettime(clockid_t clock, struct timespec *t) {
  long result = syscall(SYS_clock_gettime, clock, t);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) *t = moved(*t, clock_error_ns());
  return (int)result;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone) {
  (void)zone;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  t->tv_sec = now.tv_sec;
  t->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out) *out = now.tv_sec;
  return now.tv_sec;
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
  if (!real_wait) {
    /* glibc keeps an older function of the same name for older programs. */
    void *found = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    *(void **)&real_wait = found ? found : dlsym(RTLD_NEXT, "pthread_cond_timedwait");
  }
  struct timespec real = *until;
#ifdef __GLIBC__
  /* Bit 1 says that this condition waits by the monotonic clock (glibc, pthread_cond_common.c). */
  if (!(cond->__data.__wrefs & 2)) real = moved(real, -clock_error_ns());
#endif
  return real_wait(cond, mutex, &real);
}

/* The disk. */

/* 0 if the disk is to be asked, else -1 with errno. */
static int sync_begins(void) {
  __atomic_add_fetch(&world->syncs, 1, __ATOMIC_RELAXED);
  int64_t begun = real_ns(CLOCK_MONOTONIC);
  while ((real_ns(CLOCK_MONOTONIC) - begun) / 1000 < world->sync_delay_us) {
    struct timespec pause = {0, 1000000};
    syscall(SYS_nanosleep, &pause, NULL);
  }
  int64_t left = __atomic_load_n(&world->sync_failures, __ATOMIC_RELAXED);
  while (left > 0) {
    if (__atomic_compare_exchange_n(&world->sync_failures, &left, left - 1, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
      errno = world->sync_errno ? (int)world->sync_errno : EIO;
      return -1;
    }
  }
  return 0;
}

int fsync(int file) { return sync_begins() ? -1 : (int)syscall(SYS_fsync, file); }
int fdatasync(int file) { return sync_begins() ? -1 : (int)syscall(SYS_fdatasync, file); }
