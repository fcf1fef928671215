#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>
#include <xen/io/xs_wire.h>

struct event {
    struct event *next;
    char path[];
};

static int fd = -1;
static struct event *first, **last = &first;

int store_open(void)
{
    struct sockaddr_un daemon = { .sun_family = AF_UNIX, .sun_path = "/run/xenstored/socket" };

    // The socket of xenstored in the domain where it runs, the kernel's device in other domains.
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&daemon, sizeof daemon) < 0) {
        close(fd);
        fd = open("/dev/xen/xenbus", O_RDWR | O_CLOEXEC);
    }
    if (fd < 0) {
        perror("XenStore: no xenstored here and no /dev/xen/xenbus");
        exit(125);
    }
    return fd;
}

static void receive(void *data, size_t length)
{
    for (char *to = data; length;) {
        ssize_t got = read(fd, to, length);

        if (got <= 0 && errno != EINTR) {
            perror("XenStore: connection lost");
            exit(125);
        }
        if (got > 0) {
            to += got;
            length -= got;
        }
    }
}

// One message from XenStore; events are kept for store_event().
static char *message(struct xsd_sockmsg *header)
{
    char *body;

    receive(header, sizeof *header);
    body = malloc(header->len + 1);
    if (!body || header->len > XENSTORE_PAYLOAD_MAX)
        exit(125);
    receive(body, header->len);
    body[header->len] = '\0';
    if (header->type == XS_WATCH_EVENT) {
        struct event *event = malloc(sizeof *event + strlen(body) + 1);

        if (!event)
            exit(125);
        event->next = NULL;
        strcpy(event->path, body);
        *last = event;
        last = &event->next;
    }
    return body;
}

// The reply to a request, or NULL with errno set.
static char *request(uint32_t type, const char *path, const void *data, unsigned length, unsigned *got)
{
    struct xsd_sockmsg header = { .type = type, .len = strlen(path) + 1 + length };
    struct iovec parts[] = {
        { &header, sizeof header }, { (void *)path, strlen(path) + 1 }, { (void *)data, length },
    };
    char *body;

    // A message may be written in two pieces, because the kernel's device assembles them.
    // Neither the device nor the socket makes short writes at this size.
    if (writev(fd, parts, 3) < 0)
        return NULL;
    for (;;) {
        body = message(&header);
        if (header.type != XS_WATCH_EVENT)
            break;
        free(body);
    }
    if (header.type == XS_ERROR) {
        errno = strcmp(body, "ENOENT") ? EIO : ENOENT;
        free(body);
        return NULL;
    }
    if (got)
        *got = header.len;
    return body;
}

char *store_read(const char *path, unsigned *length)
{
    return request(XS_READ, path, NULL, 0, length);
}

bool store_write(const char *path, const void *data, unsigned length)
{
    char *answer = request(XS_WRITE, path, data, length, NULL);

    free(answer);
    return answer;
}

void store_remove(const char *path)
{
    free(request(XS_RM, path, NULL, 0, NULL));
}

bool store_watch(const char *path)
{
    char *answer = request(XS_WATCH, path, "lab", 4, NULL);

    free(answer);
    return answer;
}

char *store_event(void)
{
    struct pollfd readable = { .fd = fd, .events = POLLIN };
    struct xsd_sockmsg header;
    struct event *event;
    char *path;

    while (!first && poll(&readable, 1, 0) > 0)
        free(message(&header));
    if (!first)
        return NULL;
    event = first;
    first = event->next;
    if (!first)
        last = &first;
    path = strdup(event->path);
    free(event);
    return path;
}
