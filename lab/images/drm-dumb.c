// drm-dumb: runs a program with a DRM dumb buffer as a dma-buf.
//
//   drm-dumb [--device /dev/dri/card0] [--show] WIDTH HEIGHT COMMAND...
//
// The buffer has 32 bits a pixel (XRGB8888). COMMAND inherits the dma-buf; its
// number is in ZCOPY_DUMB_FD, the number of bytes per row in ZCOPY_DUMB_STRIDE.
//
// --show displays the buffer on the first connected screen while COMMAND runs. The
// driver may copy the displayed contents, as virtio-gpu does, so drm-dumb reports a
// change of the contents to it twenty times a second.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <drm/drm.h>
#include <drm/drm_mode.h>

static int card;

static void fail(const char *what)
{
    fprintf(stderr, "drm-dumb: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void usage(void)
{
    fprintf(stderr, "usage: drm-dumb [--device PATH] [--show] WIDTH HEIGHT COMMAND...\n");
    exit(64);
}

static void drm(unsigned long request, void *argument, const char *name)
{
    while (ioctl(card, request, argument) < 0)
        if (errno != EINTR && errno != EAGAIN)
            fail(name);
}
#define DRM(request, argument) drm(DRM_IOCTL_##request, argument, #request)

// A connector, its CRTC and its mode for a picture of the requested size.
struct path {
    uint32_t connector, crtc;
    struct drm_mode_modeinfo mode;
};

#define MAX 64

static uint32_t crtc_for(const struct drm_mode_get_connector *connector, const uint32_t *encoders,
                         const uint32_t *crtcs, uint32_t count)
{
    for (uint32_t i = 0; i < connector->count_encoders; i++) {
        struct drm_mode_get_encoder encoder = { .encoder_id = encoders[i] };

        DRM(MODE_GETENCODER, &encoder);
        for (uint32_t c = 0; c < count; c++)
            if (encoder.possible_crtcs & 1u << c)
                return crtcs[c];
    }
    errno = ENODEV;
    fail("the screen has no CRTC");
    return 0;
}

static struct path find_screen(uint32_t width, uint32_t height)
{
    uint32_t crtcs[MAX], connectors[MAX];
    // If a count is too small, the kernel corrects it and writes no array.
    struct drm_mode_card_res resources = {
        .crtc_id_ptr = (uintptr_t)crtcs, .count_crtcs = MAX,
        .connector_id_ptr = (uintptr_t)connectors, .count_connectors = MAX,
    };

    DRM(MODE_GETRESOURCES, &resources);
    for (uint32_t i = 0; i < resources.count_connectors && i < MAX; i++) {
        // With count_modes 0, the kernel probes the connector again.
        struct drm_mode_get_connector connector = { .connector_id = connectors[i] };
        struct drm_mode_modeinfo *modes;
        uint32_t encoders[MAX];

        DRM(MODE_GETCONNECTOR, &connector);
        if (connector.connection != 1)
            continue;
        modes = calloc(connector.count_modes + 1, sizeof *modes);
        if (!modes)
            fail("memory");
        connector.modes_ptr = (uintptr_t)modes;
        connector.encoders_ptr = (uintptr_t)encoders;
        connector.count_encoders = MAX;
        connector.count_props = 0;
        DRM(MODE_GETCONNECTOR, &connector);
        for (uint32_t m = 0; m < connector.count_modes; m++)
            if (modes[m].hdisplay == width && modes[m].vdisplay == height)
                return (struct path){
                    .connector = connectors[i], .mode = modes[m],
                    .crtc = crtc_for(&connector, encoders, crtcs, resources.count_crtcs),
                };
        fprintf(stderr, "drm-dumb: the screen has no mode of %ux%u, but", width, height);
        for (uint32_t m = 0; m < connector.count_modes; m++)
            fprintf(stderr, " %ux%u", modes[m].hdisplay, modes[m].vdisplay);
        fprintf(stderr, "\n");
        exit(1);
    }
    errno = ENODEV;
    fail("no screen is connected");
    exit(1);
}

static uint32_t show(const struct drm_mode_create_dumb *dumb)
{
    struct path path = find_screen(dumb->width, dumb->height);
    struct drm_mode_fb_cmd frame = {
        .width = dumb->width, .height = dumb->height, .pitch = dumb->pitch,
        .bpp = 32, .depth = 24, .handle = dumb->handle,
    };
    struct drm_mode_crtc crtc = {
        .set_connectors_ptr = (uintptr_t)&path.connector, .count_connectors = 1,
        .crtc_id = path.crtc, .mode_valid = 1, .mode = path.mode,
    };

    DRM(MODE_ADDFB, &frame);
    crtc.fb_id = frame.fb_id;
    DRM(MODE_SETCRTC, &crtc);
    return frame.fb_id;
}

// The screen shows the buffer until the descriptor of the card is closed: wait for the end of the command.
static int refresh_until_end(pid_t child, uint32_t frame)
{
    struct drm_mode_fb_dirty_cmd dirty = { .fb_id = frame };
    int status;

    while (waitpid(child, &status, WNOHANG) == 0) {
        // Drivers that scan out the buffer itself do not need this call (ENOSYS).
        if (ioctl(card, DRM_IOCTL_MODE_DIRTYFB, &dirty) < 0 && errno != ENOSYS && errno != EINTR)
            fail("MODE_DIRTYFB");
        usleep(50000);
    }
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void run(char **command)
{
    execvp(command[0], command);
    fprintf(stderr, "drm-dumb: %s: %s\n", command[0], strerror(errno));
    _exit(127);
}

static void set(const char *name, unsigned value)
{
    char text[16];

    snprintf(text, sizeof text, "%u", value);
    setenv(name, text, 1);
}

int main(int argc, char **argv)
{
    const char *device = "/dev/dri/card0";
    struct drm_mode_create_dumb dumb = { .bpp = 32 };
    struct drm_prime_handle prime = { .flags = DRM_RDWR };
    int screen = 0;
    uint32_t frame;
    pid_t child;

    for (argv++, argc--; argc && **argv == '-'; argv++, argc--) {
        if (!strcmp(*argv, "--show")) {
            screen = 1;
        } else if (!strcmp(*argv, "--device") && argc > 1) {
            device = *++argv;
            argc--;
        } else {
            usage();
        }
    }
    if (argc < 3 || !(dumb.width = atoi(argv[0])) || !(dumb.height = atoi(argv[1])))
        usage();

    card = open(device, O_RDWR | O_CLOEXEC);
    if (card < 0)
        fail(device);
    DRM(MODE_CREATE_DUMB, &dumb);
    prime.handle = dumb.handle;
    DRM(PRIME_HANDLE_TO_FD, &prime);
    set("ZCOPY_DUMB_FD", prime.fd);
    set("ZCOPY_DUMB_STRIDE", dumb.pitch);
    if (!screen)
        run(argv + 2);

    frame = show(&dumb);
    child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0)
        run(argv + 2);
    // Only the child keeps the descriptor now, so that this process does not extend the buffer's lifetime.
    close(prime.fd);
    return refresh_until_end(child, frame);
}
