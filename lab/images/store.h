// XenStore in a hundred lines, for guest-agent and guest-exec.
//
// libxenstore is not used: the static library is built without its reading thread, and
// then fails every request during which a watch fires. All functions report errors and exit.
#include <stdbool.h>

// Constants of the protocol between guest-agent and guest-exec. XenStore accepts values of
// up to 2048 bytes. Sixteen values in flight hide the latency of a reply.
#define PIECE_SIZE 1800
#define SLOTS 16u
#define MAX_PATH 192

int store_open(void);                                   // a descriptor to poll
char *store_read(const char *path, unsigned *length);   // NULL: no such node; free() it
bool store_write(const char *path, const void *data, unsigned length);
void store_remove(const char *path);
bool store_watch(const char *path);
char *store_event(void);    // the path of a watch that fired, or NULL; free() it
