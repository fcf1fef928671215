// What guest-agent and guest-exec agree on. XenStore takes values of up to 2048
// bytes; sixteen of them in flight hide the time that an answer takes.
#define PIECE_SIZE 1800
#define SLOTS 16u
#define MAX_PATH 192
