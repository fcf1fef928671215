# SPDX-License-Identifier: MIT
"""A client of xen-zcopyd that needs only Python's standard library. docs/protocol-daemon.md describes the messages."""

import errno
import os
import socket
import struct

REPLY, EVENT, ERROR = 0x8000, 0x4001, 0x4002
HELLO, MAP, UNMAP, WAIT, LIST, SUBSCRIBE = 1, 2, 4, 7, 11, 12
FRAME, USED, RELEASED, LATE, PEER_MAPPED, PEER_GONE, CLOSING, DOMAIN_GONE, PEER_RELEASED = (
    1 << bit for bit in range(9)
)
ANY_DOMAIN = FOREVER = 0xFFFFFFFF
STATES = {1: "live", 2: "releasing", 3: "late", 4: "released"}

DESCRIPTION = struct.Struct("<16s4I6Q8I4I32s480s")  # without the header, like the next one
LIST_ENTRY = struct.Struct("<16s4I2Q6I32s")


class Refused(Exception):
    """The daemon refused a request; `code` is its XEN_ZCOPYD_E_*."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


class Connection:
    """A connection to the daemon. Its buffers are released when it is closed."""

    def __init__(self, path=None):
        path = path or os.environ.get("XEN_ZCOPYD_SOCKET") or "/run/xen-zcopyd/socket"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.last, self.kind, self.events = 0, None, []
        try:
            self.socket.connect("\0" + path[1:] if path.startswith("@") else path)
            self._call(HELLO, struct.pack("<4I", 0x6459435A, 1, 0, 0))
        except BaseException:
            self.close()
            raise

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def map(self, domain, directory, size, width=0, height=0, format=0, name=""):
        """Maps another domain's buffer. Returns its identifier, its description, and the dma-buf's descriptor to close."""
        body = struct.pack("<2I2Q2I4I32s2I", domain, directory, size, 0, 0, 0, width, height, 0, format,
                           name.encode()[:31], 0, 0)
        body, descriptor = self._call(MAP, body)
        fields = DESCRIPTION.unpack(body)
        return fields[0], dict(pages=fields[11], mechanism=fields[12], text=_text(fields[-1])), descriptor

    def unmap(self, id):
        """Begins the release of a mapped buffer, which completes when the dma-buf has no holder any more."""
        self._call(UNMAP, id)

    def wait(self, id, milliseconds=FOREVER):
        """Waits until the buffer is released."""
        self._call(WAIT, struct.pack("<16s2I", id, milliseconds, 0))

    def list(self, domain=ANY_DOMAIN):
        """Lists the buffers that this user may see."""
        entries, more = [], True
        body, _ = self._call(LIST, struct.pack("<2I", domain, 0))
        while more:
            _, more = struct.unpack_from("<2I", body)
            for id, _, state, owner, pages, size, age, *_, name in LIST_ENTRY.iter_unpack(body[8:]):
                entries.append(dict(id=id.hex(), state=STATES.get(state, state), domain=owner, pages=pages, size=size,
                                    age_ms=age, name=_text(name)))
            if more:
                body, _ = self._reply()
        return entries

    def subscribe(self, events, domain=ANY_DOMAIN, own=False):
        """Selects the events. The default is RELEASED, LATE, CLOSING and DOMAIN_GONE of this connection's buffers."""
        self._call(SUBSCRIBE, struct.pack("<4I", events, domain, own, 0))

    def next_event(self):
        """Waits for the next event. Returns its kind, the buffer's identifier, the domain, the frame, and the frame's page.

        RELEASED is the last event of a buffer. In place of the frame it has 0, or a code if it is unknown whether the buffer
        is still held.
        """
        while not self.events:
            self._receive()
        return self.events.pop(0)

    def _call(self, kind, body):
        self.last, self.kind = self.last + 1, kind
        self.socket.send(struct.pack("<2IQ", kind, 16 + len(body), self.last) + body)
        return self._reply()

    def _reply(self):
        while (reply := self._receive()) is None:
            pass
        return reply

    def _receive(self):
        message, descriptors, flags, _ = socket.recv_fds(self.socket, 65536, 1, socket.MSG_CMSG_CLOEXEC)
        if not message:
            raise ConnectionError("xen-zcopyd has closed the connection; see journalctl -u xen-zcopyd")
        kind, _, request = struct.unpack_from("<2IQ", message)
        if kind == EVENT:
            id, event, domain, frame, page = struct.unpack_from("<16s4I", message, 16)
            self.events.append((event, id, domain, frame, page))
            return None
        if kind == ERROR:
            code, _, text = struct.unpack_from("<2I480s", message, 16)
            raise Refused(code, _text(text))
        if request != self.last or kind != self.kind | REPLY:
            raise ConnectionError("xen-zcopyd answers what was not asked")
        if flags & socket.MSG_CTRUNC:
            # The buffer that this request mapped stays until the connection ends.
            raise OSError(errno.EMFILE, "this process has no descriptor left for the buffer; raise its limit (ulimit -n)")
        return message[16:], descriptors[0] if descriptors else None


def _text(field):
    return field.split(b"\0")[0].decode(errors="replace")
