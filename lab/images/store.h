// XenStore in a hundred lines, for guest-agent and guest-exec.
//
// Not libxenstore: the static one is built without its reading thread, and then
// fails every request during which a watch fires. Reports errors and exits.
#include <stdbool.h>

// What guest-agent and guest-exec agree on. XenStore takes values of up to 2048
// bytes; sixteen of them in flight hide the time that an answer takes.
#define PIECE_SIZE 1800
#define SLOTS 16u
#define MAX_PATH 192

int store_open(void);                                   // a descriptor to poll
char *store_read(const char *path, unsigned *length);   // NULL: not there; free() it
bool store_write(const char *path, const void *data, unsigned length);
void store_remove(const char *path);
bool store_watch(const char *path);
char *store_event(void);    // the path of a watch that fired, or NULL; free() it
