#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Maps a frontend's buffer, lists the mapped buffers, and releases it: backend.py DOMAIN DIRECTORY SIZE"""

import os
import sys

import zcopy


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    domain, directory, size = (int(word, 0) for word in sys.argv[1:])
    with zcopy.Connection() as daemon:
        id, buffer, descriptor = daemon.map(domain, directory, size, name="example")
        print(f"mapped: {id.hex()}, {buffer['pages']} pages of domain {domain}, descriptor {descriptor}")
        for entry in daemon.list():
            print("{id}  {state}  domain {domain}  {pages} pages  {age_ms} ms  {name}".format(**entry))

        # A real backend would pass the descriptor to Wayland, GStreamer, V4L2 or a card here.
        os.close(descriptor)
        daemon.unmap(id)
        daemon.wait(id)
        print("destroyed")  # a real backend replies to its frontend here


try:
    main()
except (zcopy.Refused, OSError) as error:
    sys.exit(f"backend.py: {error}")
