// Makes one call of a program fail, or the program die at it. Preloaded; the
// environment says which call:
//   FAULT_COUNTS  file of what was called how often: lines of 32 bytes, a name
//                 and a 64-bit number. Counted from the begin of main, since
//                 what fails before is the loader's.
//   FAULT_CALL    the name; FAULT_AT: the how manyth, from 1
//   FAULT_DO      errno to fail with; or, when negative, the signal to send
//   FAULT_MORE    set: all later ones fail, too, as on a full disk
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
  NOTHING = -1,
  WRITE,
  OPEN,
  MKDIR,
  RENAME,
  UNLINK,
  CLOSE,
  FSYNC,
  TRUNCATE,
  MMAP,
  THREAD,
  MALLOC,
  STAT,
  READ,
  CALLS
};
static const char* const kNames[CALLS] = {
    "write",     "open", "mkdir",          "rename", "unlink", "close", "fsync",
    "ftruncate", "mmap", "pthread_create", "malloc", "stat",   "read"};

struct Line {
  char name[24];
  _Atomic uint64_t count;
};

static struct Line* lines;
static int wanted = -1, what, more;
static uint64_t at;

static int Now(int call) {
  if (lines == NULL || call == NOTHING) return 0;
  const uint64_t number = atomic_fetch_add(&lines[call].count, 1) + 1;
  if (call != wanted || number < at || (number > at && !more)) return 0;
  if (what < 0) {
    kill(getpid(), -what);
    return 0;
  }
  errno = what;
  return 1;
}

static void Begin(void) {
  const char* file = getenv("FAULT_COUNTS");
  const char* name = getenv("FAULT_CALL");
  if (file == NULL) return;
  const int fd =
      (int)syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CREAT, 0666);
  if (fd < 0 || syscall(SYS_ftruncate, fd, sizeof(struct Line) * CALLS) != 0)
    abort();
  struct Line* map =
      (struct Line*)syscall(SYS_mmap, NULL, sizeof(struct Line) * CALLS,
                            PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  syscall(SYS_close, fd);
  for (int i = 0; i < CALLS; ++i) {
    strcpy(map[i].name, kNames[i]);
    if (name != NULL && strcmp(name, kNames[i]) == 0) wanted = i;
  }
  if (name != NULL) {
    at = strtoull(getenv("FAULT_AT"), NULL, 10);
    what = atoi(getenv("FAULT_DO"));
    more = getenv("FAULT_MORE") != NULL;
  }
  lines = map;
}

static int (*real_main)(int, char**, char**);
static int Main(int argc, char** argv, char** env) {
  Begin();
  return real_main(argc, argv, env);
}
int __libc_start_main(int (*main)(int, char**, char**), int argc, char** argv,
                      void (*init)(void), void (*fini)(void),
                      void (*rtld)(void), void* stack) {
  int (*next)(int (*)(int, char**, char**), int, char**, void (*)(void),
              void (*)(void), void (*)(void), void*) =
      dlsym(RTLD_NEXT, "__libc_start_main");
  real_main = main;
  return next(Main, argc, argv, init, fini, rtld, stack);
}

// The real one, without a lock at each call: two threads look up the same.
#define NEXT(name)               \
  static __typeof__(name)* next; \
  if (next == NULL) next = dlsym(RTLD_NEXT, #name)
#define WRAP(call, failed, type, name, parameters, ...) \
  type name parameters {                                \
    NEXT(name);                                         \
    return Now(call) ? failed : next(__VA_ARGS__);      \
  }

// Not what the program says: nobody could hear then why it fails.
#define WRITE_TO(fd) ((fd) > 2 ? WRITE : NOTHING)
WRAP(WRITE_TO(fd), -1, ssize_t, write, (int fd, const void* p, size_t n), fd, p,
     n)
WRAP(WRITE_TO(fd), -1, ssize_t, pwrite,
     (int fd, const void* p, size_t n, off_t o), fd, p, n, o)
WRAP(WRITE_TO(fd), -1, ssize_t, pwrite64,
     (int fd, const void* p, size_t n, off64_t o), fd, p, n, o)
WRAP(MKDIR, -1, int, mkdir, (const char* path, mode_t mode), path, mode)
WRAP(RENAME, -1, int, rename, (const char* from, const char* to), from, to)
WRAP(RENAME, -1, int, renameat2,
     (int f, const char* from, int t, const char* to, unsigned g), f, from, t,
     to, g)
WRAP(RENAME, -1, int, link, (const char* from, const char* to), from, to)
WRAP(RENAME, -1, int, linkat,
     (int f, const char* from, int t, const char* to, int g), f, from, t, to, g)
WRAP(UNLINK, -1, int, unlink, (const char* path), path)
WRAP(UNLINK, -1, int, unlinkat, (int fd, const char* path, int flags), fd, path,
     flags)
WRAP(FSYNC, -1, int, fsync, (int fd), fd)
WRAP(FSYNC, -1, int, fdatasync, (int fd), fd)
WRAP(TRUNCATE, -1, int, ftruncate, (int fd, off_t n), fd, n)
WRAP(TRUNCATE, -1, int, ftruncate64, (int fd, off64_t n), fd, n)
WRAP(TRUNCATE, -1, int, fallocate, (int fd, int mode, off_t o, off_t n), fd,
     mode, o, n)
WRAP(MMAP, MAP_FAILED, void*, mmap,
     (void* p, size_t n, int prot, int flags, int fd, off_t o), p, n, prot,
     flags, fd, o)
WRAP(MMAP, MAP_FAILED, void*, mmap64,
     (void* p, size_t n, int prot, int flags, int fd, off64_t o), p, n, prot,
     flags, fd, o)
WRAP(THREAD, EAGAIN, int, pthread_create,
     (pthread_t * t, const pthread_attr_t* a, void* (*f)(void*), void* p), t, a,
     f, p)

// Asking what there is: names, sizes, folders.
WRAP(STAT, -1, int, stat, (const char* path, struct stat* s), path, s)
WRAP(STAT, -1, int, lstat, (const char* path, struct stat* s), path, s)
WRAP(STAT, -1, int, fstat, (int fd, struct stat* s), fd, s)
WRAP(STAT, -1, int, fstatat,
     (int fd, const char* path, struct stat* s, int flags), fd, path, s, flags)
WRAP(STAT, -1, int, stat64, (const char* path, struct stat64* s), path, s)
WRAP(STAT, -1, int, lstat64, (const char* path, struct stat64* s), path, s)
WRAP(STAT, -1, int, fstat64, (int fd, struct stat64* s), fd, s)
WRAP(STAT, NULL, DIR*, opendir, (const char* path), path)
WRAP(STAT, NULL, DIR*, fdopendir, (int fd), fd)
WRAP(STAT, NULL, struct dirent*, readdir, (DIR * folder), folder)
WRAP(READ, -1, ssize_t, read, (int fd, void* p, size_t n), fd, p, n)
WRAP(READ, -1, ssize_t, pread, (int fd, void* p, size_t n, off_t o), fd, p, n,
     o)
WRAP(READ, -1, ssize_t, pread64, (int fd, void* p, size_t n, off64_t o), fd, p,
     n, o)

// As on Linux, what fails to close is closed all the same.
int close(int fd) {
  NEXT(close);
  const int failed = Now(CLOSE), error = errno;
  const int result = next(fd);
  if (!failed) return result;
  errno = error;
  return -1;
}

// Opening what is there counts as reading it.
#define WRAP_OPEN(name, path, parameters, ...)         \
  int name parameters {                                \
    NEXT(name);                                        \
    mode_t mode = 0;                                   \
    if (flags & (O_CREAT | O_TMPFILE)) {               \
      va_list list;                                    \
      va_start(list, flags);                           \
      mode = va_arg(list, mode_t);                     \
      va_end(list);                                    \
    }                                                  \
    if (Now(flags & O_CREAT ? OPEN : READ)) return -1; \
    return next(__VA_ARGS__, flags, mode);             \
  }
WRAP_OPEN(open, path, (const char* path, int flags, ...), path)
WRAP_OPEN(open64, path, (const char* path, int flags, ...), path)
WRAP_OPEN(openat, path, (int at_fd, const char* path, int flags, ...), at_fd,
          path)
WRAP_OPEN(openat64, path, (int at_fd, const char* path, int flags, ...), at_fd,
          path)
#define WRAP_FOPEN(name)                                                \
  FILE* name(const char* path, const char* mode) {                      \
    NEXT(name);                                                         \
    return Now(mode[0] != 'r' ? OPEN : READ) ? NULL : next(path, mode); \
  }
WRAP_FOPEN(fopen)
WRAP_FOPEN(fopen64)

// Not by dlsym, which allocates.
extern void* __libc_malloc(size_t);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_realloc(void*, size_t);
extern void* __libc_memalign(size_t, size_t);
#define FAILED (Now(MALLOC) && (errno = ENOMEM))
void* malloc(size_t n) { return FAILED ? NULL : __libc_malloc(n); }
void* calloc(size_t n, size_t size) {
  return FAILED ? NULL : __libc_calloc(n, size);
}
void* realloc(void* p, size_t n) {
  return FAILED ? NULL : __libc_realloc(p, n);
}
void* memalign(size_t a, size_t n) {
  return FAILED ? NULL : __libc_memalign(a, n);
}
void* aligned_alloc(size_t a, size_t n) {
  return FAILED ? NULL : __libc_memalign(a, n);
}
int posix_memalign(void** p, size_t a, size_t n) {
  if (FAILED) return ENOMEM;
  *p = __libc_memalign(a, n);
  return *p == NULL ? ENOMEM : 0;
}
