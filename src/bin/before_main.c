/* What has to be done before Rust's runtime starts, or needs a word with the C library that safe Rust does not have. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif
#ifdef __GLIBC__
#include <malloc.h>
#endif

/* Rust's runtime opens /dev/null, to read and to write, wherever standard input or output is closed; what is written
 * there afterwards is lost without an error. This opens /dev/null the wrong way round before it, so that reading or
 * writing a closed descriptor still fails (docs/decisions/008). A launcher leaves them so to evt. */
static void keep_closed(void) {
    if (fcntl(0, F_GETFD) == -1) {
        (void)!open("/dev/null", O_WRONLY);
    }
    if (fcntl(1, F_GETFD) == -1) {
        (void)!open("/dev/null", O_RDONLY);
    }
}

/* Every batch frees and asks again for buffers of some hundred kilobytes. By default glibc gives them back to the
 * system each time and has their pages made anew: evt-ingest spent 0.25 of 0.60 CPU-s a million events on that, now
 * 0.06 of 0.40, with the same peak of memory (docs/decisions/016). Buffers of several megabytes, such as the bodies of
 * a burst of requests, go back at once: an arena that has them in its middle could keep all of them for ever
 * (docs/decisions/301). */
static void keep_memory(void) {
#ifdef __GLIBC__
    (void)mallopt(M_MMAP_THRESHOLD, 4 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 8 << 20);
#endif
}

/* After a burst of requests the arenas of the server's threads keep its pages, because what still lives lies between
 * them: 219 MiB, now 44 (docs/decisions/301). Only the tools that listen have the thread. */
#ifdef __GLIBC__
static void *give_back(void *none) {
    for (;;) {
        (void)sleep(15);
        (void)malloc_trim(0);
    }
    return none;
}
#endif

static void give_memory_back(int argc, char **argv) {
#ifdef __GLIBC__
    const char *tool = strncmp(program_invocation_short_name, "evt-", 4) == 0 ? program_invocation_short_name + 4
                       : argc > 1                                             ? argv[1]
                                                                              : "";
    if (strcmp(tool, "ingest") != 0 && strcmp(tool, "pipe") != 0) {
        return;
    }
    pthread_t thread;
    pthread_attr_t small;
    sigset_t all, before;
    (void)sigfillset(&all);
    if (pthread_attr_init(&small) != 0) {
        return;
    }
    (void)pthread_attr_setstacksize(&small, 64 << 10);
    (void)pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
    /* Signals are for the threads of Rust. */
    if (pthread_sigmask(SIG_SETMASK, &all, &before) == 0) {
        (void)pthread_create(&thread, &small, give_back, NULL);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    (void)pthread_attr_destroy(&small);
#else
    (void)argc;
    (void)argv;
#endif
}

/* A launcher of another version may know other tools, so evt refuses it. The variable is not for evt's own children.
 * Safe Rust cannot change the environment. The process has the name of its tool (ps, pgrep), which executing evt has
 * changed. */
static void leave_launcher(void) {
    const char *launcher = getenv("EVT_LAUNCHER");
    if (launcher == NULL) {
        return;
    }
    if (strcmp(launcher, EVT_VERSION) != 0) {
        char path[4096] = "evt";
        (void)!readlink("/proc/self/exe", path, sizeof path - 1);
        dprintf(2, "%s: %s is version %s, expected %s; install both together\n", program_invocation_short_name, path,
                EVT_VERSION, launcher);
        _exit(78);
    }
    (void)unsetenv("EVT_LAUNCHER");
#ifdef __linux__
    (void)prctl(PR_SET_NAME, program_invocation_short_name);
#endif
}

/* glibc gives a constructor the arguments of main. */
__attribute__((constructor)) static void before_main(int argc, char **argv) {
    keep_closed();
    keep_memory();
    leave_launcher();
    give_memory_back(argc, argv);
}
