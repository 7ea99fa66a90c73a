/* What the kernel takes for the least that a command has to do, and processes to do it to. The lists of
 * PIDs are those of a cgroup.procs file, read first and not timed apart.
 *
 *   floor read LIST THREADS FILE...   opens, reads and closes these files of each process
 *   floor signal LIST SIGNAL          opens a pidfd of each process, then sends the signal to all
 *   floor spawn COUNT                 has so many children, each asleep in pause(2); USR1 is ignored */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static int pids[1 << 16], count, next_chunk, threads;
static char **files;

static void list(const char *path) {
  FILE *file = fopen(path, "r");
  if (!file) { perror(path); exit(1); }
  while (count < 1 << 16 && fscanf(file, "%d", &pids[count]) == 1) count++;
  fclose(file);
}

static void *read_all(void *unused) {
  enum { CHUNK = 32 };
  char path[64], buffer[1 << 14];
  (void)unused;
  for (;;) {
    int first = __atomic_fetch_add(&next_chunk, CHUNK, __ATOMIC_RELAXED);
    if (first >= count) return NULL;
    for (int i = first; i < first + CHUNK && i < count; i++)
      for (char **name = files; *name; name++) {
        snprintf(path, sizeof path, "/proc/%d/%s", pids[i], *name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) continue;
        if (read(fd, buffer, sizeof buffer) < 0) perror(path);
        close(fd);
      }
  }
}

int main(int argc, char **argv) {
  if (argc > 4 && !strcmp(argv[1], "read")) {
    pthread_t thread[64];
    list(argv[2]);
    threads = atoi(argv[3]);
    files = argv + 4;
    for (int i = 1; i < threads && i < 64; i++) pthread_create(&thread[i], NULL, read_all, NULL);
    read_all(NULL);
    for (int i = 1; i < threads && i < 64; i++) pthread_join(thread[i], NULL);
  } else if (argc == 4 && !strcmp(argv[1], "signal")) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    list(argv[2]);
    int *fds = calloc(count, sizeof *fds);
    for (int i = 0; i < count; i++) fds[i] = syscall(SYS_pidfd_open, pids[i], 0);
    for (int i = 0; i < count; i++) syscall(SYS_pidfd_send_signal, fds[i], atoi(argv[3]), NULL, 0);
  } else if (argc == 3 && !strcmp(argv[1], "spawn")) {
    signal(SIGUSR1, SIG_IGN);
    for (int i = 0; i < atoi(argv[2]); i++)
      if (fork() == 0) for (;;) pause();
    for (;;) pause();
  } else {
    fprintf(stderr, "usage: see the head of floor.c\n");
    return 2;
  }
  return 0;
}
