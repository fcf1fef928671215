#include "floor.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void answer(int socket) {
    char message[256];
    ssize_t count;
    while ((count = recv(socket, message, sizeof message, 0)) > 0)
        if (send(socket, message, (size_t)count, MSG_NOSIGNAL) != count) break;
    _exit(0);
}

int floor_message_open(struct floor_message *message) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)) return -1;
    message->server = fork();
    if (message->server == 0) {
        close(ends[0]);
        answer(ends[1]);
    }
    close(ends[1]);
    message->socket = ends[0];
    return message->server < 0 ? -1 : 0;
}

int floor_message_send(struct floor_message *message) {
    char bytes[256] = {0};
    ssize_t size = sizeof bytes;
    if (send(message->socket, bytes, sizeof bytes, MSG_NOSIGNAL) != size) return -1;
    return recv(message->socket, bytes, sizeof bytes, 0) == size ? 0 : -1;
}

void floor_message_close(struct floor_message *message) {
    close(message->socket);
    waitpid(message->server, NULL, 0);
}
