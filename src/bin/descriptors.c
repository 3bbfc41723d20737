/* Rust's runtime opens /dev/null, to read and to write, wherever standard input or output is closed; what is written
 * there afterwards is lost without an error. This runs before it and opens /dev/null the wrong way round, so that
 * reading or writing a closed descriptor goes on to fail (docs/decisions/008). */
#include <fcntl.h>

__attribute__((constructor)) static void keep_closed(void) {
    if (fcntl(0, F_GETFD) == -1) {
        (void)!open("/dev/null", O_WRONLY);
    }
    if (fcntl(1, F_GETFD) == -1) {
        (void)!open("/dev/null", O_RDONLY);
    }
}
