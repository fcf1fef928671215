// SPDX-License-Identifier: MIT
/*
 * A small display backend without any Xen code. It gets the reference of a grant directory and the size of a picture from a
 * frontend of domain DOMAIN, for instance through displif. It gets a dma-buf from xen-zcopyd, passes it to a device, and
 * releases it when the frontend or the user asks for that, or when the domain ends. It may report to the frontend that the
 * buffer is destroyed only when the buffer has no holder any more.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <xenzcopy.h>

#include "import.h"

#define FORMAT_XR24 0x34325258u /* DRM_FORMAT_XRGB8888 */

struct backend {
    xenzcopy_handle *zcopy;
    struct xen_zcopyd_description buffer;
    struct import import;
    int is_closing;
};

static _Noreturn void usage(void) {
    fprintf(stderr, "usage: backend [--card /dev/dri/cardN | --importer /dev/lab-importer]"
                    " DOMAIN DIRECTORY SIZE WIDTH HEIGHT\n");
    exit(64);
}

static uint64_t number(const char *text, uint64_t most) {
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 0);
    if (end == text || *end || errno || value > most) usage();
    return value;
}

static int failed(const struct backend *backend, const char *what) {
    fprintf(stderr, "backend: cannot %s: %s\n", what, xenzcopy_error(backend->zcopy, NULL));
    return -1;
}

/* Maps the buffer, and imports it into the device. */
static int create(struct backend *backend, const struct xen_zcopyd_map *map, const char *card, const char *importer) {
    char id[33];
    int fd = xenzcopy_map(backend->zcopy, map, NULL, &backend->buffer);
    if (fd < 0) return failed(backend, "map the buffer");
    xenzcopy_id_text(&backend->buffer.id, id);
    printf("mapped: %s, %" PRIu32 " pages of domain %" PRIu32 ", %s\n", id, backend->buffer.pages, backend->buffer.domain,
           backend->buffer.mechanism == XEN_ZCOPYD_MECHANISM_DMABUF ? "not copied" : "copied");

    int status = card       ? import_into_card(&backend->import, card, fd)
                 : importer ? import_into_lab(&backend->import, importer, fd)
                            : 0;
    if (status < 0) fprintf(stderr, "backend: cannot import the buffer: %s\n", strerror(errno));
    /* The device that has imported the buffer needs no descriptor. An open descriptor would delay the release. */
    close(fd);
    return status;
}

/* Begins the release of the buffer. The event RELEASED arrives when the buffer has no other holder any more. */
static int destroy(struct backend *backend, const char *why) {
    if (backend->is_closing) return 0;
    printf("closing: %s\n", why);
    backend->is_closing = 1;
    import_end(&backend->import);
    /* ENOENT: the buffer has already ended with its domain, and RELEASED is the next event. */
    if (xenzcopy_unmap(backend->zcopy, &backend->buffer.id) < 0 && errno != ENOENT)
        return failed(backend, "unmap the buffer");
    return 0;
}

/* Returns 1 if the buffer is destroyed, 0 if not yet, -1 on failure or if the connection has ended. */
static int handle_events(struct backend *backend) {
    struct xenzcopy_event event;
    struct xen_zcopyd_description now;
    int status;
    while ((status = xenzcopy_next_event(backend->zcopy, &event, NULL)) > 0) {
        int is_ours = !memcmp(&event.id, &backend->buffer.id, sizeof event.id);
        if (event.event == XEN_ZCOPYD_EVENT_DOMAIN_GONE && event.domain == backend->buffer.domain)
            status = destroy(backend, "the domain has ended");
        else if (event.event == XEN_ZCOPYD_EVENT_CLOSING && is_ours)
            status = destroy(backend, "the frontend wants it back");
        else if (event.event == XEN_ZCOPYD_EVENT_LATE && is_ours &&
                 xenzcopy_describe(backend->zcopy, &event.id, &now) == 0)
            printf("late: %s\n", now.text);
        else if (event.event == XEN_ZCOPYD_EVENT_RELEASED && is_ours) {
            /* A real backend replies to its frontend here. */
            printf("destroyed%s%s\n", event.code ? ": " : "", event.code ? xenzcopy_error(backend->zcopy, NULL) : "");
            return 1;
        }
        if (status < 0) return -1;
    }
    /* A backend that continues would connect again here, and map the buffers that its frontends still have. */
    return status < 0 ? failed(backend, "continue") : 0;
}

static int run(struct backend *backend, int signals) {
    struct pollfd polled[] = {
        {.fd = xenzcopy_fd(backend->zcopy), .events = POLLIN},
        {.fd = signals, .events = POLLIN},
        {.fd = STDIN_FILENO, .events = POLLIN},
    };
    for (;;) {
        /* Earlier calls may have received events too, so handle events before each poll. */
        int status = handle_events(backend);
        if (status) return status > 0 ? 0 : 1;
        if (poll(polled, sizeof polled / sizeof *polled, -1) < 0) {
            /* Stopping and continuing this process, for instance from a shell, interrupts poll(). */
            if (errno == EINTR) continue;
            perror("backend: poll");
            return 1;
        }

        char line[64];
        struct signalfd_siginfo info;
        if (polled[1].revents && read(signals, &info, sizeof info) == sizeof info &&
            destroy(backend, "the backend ends") < 0)
            return 1;
        if (!polled[2].revents) continue;
        ssize_t count = read(STDIN_FILENO, line, sizeof line);
        if (count <= 0) polled[2].fd = -1;
        else if (count >= 7 && !memcmp(line, "destroy", 7) && destroy(backend, "the frontend destroys it") < 0) return 1;
    }
}

int main(int argc, char **argv) {
    struct backend backend = {.import.device = -1};
    const char *card = NULL, *importer = NULL;
    char error[XEN_ZCOPYD_TEXT_SIZE];
    sigset_t mask;

    for (; argc > 2 && argv[1][0] == '-'; argc -= 2, argv += 2) {
        if (!strcmp(argv[1], "--card")) card = argv[2];
        else if (!strcmp(argv[1], "--importer")) importer = argv[2];
        else usage();
    }
    if (argc != 6) usage();
    struct xen_zcopyd_map map = {
        .domain = (uint32_t)number(argv[1], UINT32_MAX),
        .directory = (uint32_t)number(argv[2], UINT32_MAX),
        .size = number(argv[3], UINT64_MAX),
        .picture = {.width = (uint32_t)number(argv[4], UINT32_MAX),
                    .height = (uint32_t)number(argv[5], UINT32_MAX),
                    .format = FORMAT_XR24},
        .name = "example",
    };

    setvbuf(stdout, NULL, _IOLBF, 0);
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    int signals = signalfd(-1, &mask, SFD_CLOEXEC);
    if (signals < 0) {
        perror("backend: signalfd");
        return 1;
    }

    backend.zcopy = xenzcopy_open(NULL, error, sizeof error);
    if (!backend.zcopy) {
        fprintf(stderr, "backend: %s\n", error);
        return 1;
    }
    int status = create(&backend, &map, card, importer) < 0 ? 1 : run(&backend, signals);
    import_end(&backend.import);
    /* This releases a buffer that was not unmapped. */
    xenzcopy_close(backend.zcopy);
    close(signals);
    return status;
}
