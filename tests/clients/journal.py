"""A stand-in for systemd's journal: prints the fields of each entry that is sent to its socket (systemd's native protocol)."""

import socket
import struct
import sys

server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
server.bind(sys.argv[1])
while True:
    entry = server.recv(1 << 20)
    while entry:
        head, _, entry = entry.partition(b"\n")
        if b"=" in head:
            field = head
        else:
            (size,) = struct.unpack("<Q", entry[:8])
            field, entry = head + b"=" + entry[8 : 8 + size], entry[8 + size + 1 :]
        print(field.decode(errors="replace"), flush=True)
