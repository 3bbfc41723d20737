/* What has to be done before Rust's runtime starts, or needs a word with the C library that safe Rust does not have. */
#include <fcntl.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

/* Rust's runtime opens /dev/null, to read and to write, wherever standard input or output is closed; what is written
 * there afterwards is lost without an error. This opens /dev/null the wrong way round before it, so that reading or
 * writing a closed descriptor still fails (docs/decisions/008). */
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

__attribute__((constructor)) static void before_main(void) {
    keep_closed();
    keep_memory();
}
