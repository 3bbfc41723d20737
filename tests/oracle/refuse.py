"""Runs a program whose system calls of one sort fail: fsync (not fdatasync) with EIO, or exchange (renameat2 with
RENAME_EXCHANGE) with EINVAL, as on a file system that cannot exchange two names.

    python3 refuse.py fsync|exchange PROGRAM [ARGUMENT]...
"""

import ctypes
import errno
import os
import platform
import struct
import sys

# Numbers of fsync and renameat2.
CALLS = {"x86_64": (74, 316), "aarch64": (82, 276)}
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, MODE_FILTER = 38, 22, 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000
# Offsets in struct seccomp_data: the number of the call and the low half of its fifth argument.
NUMBER, FIFTH = 0, 16 + 4 * 8


def code(sort):
    fsync, renameat2 = CALLS[platform.machine()]
    if sort == "fsync":
        return [(LOAD, 0, 0, NUMBER), (EQUAL, 0, 1, fsync), (RETURN, 0, 0, FAIL | errno.EIO), (RETURN, 0, 0, ALLOW)]
    return [
        (LOAD, 0, 0, NUMBER),
        (EQUAL, 0, 3, renameat2),
        (LOAD, 0, 0, FIFTH),
        (EQUAL, 0, 1, 2),
        (RETURN, 0, 0, FAIL | errno.EINVAL),
        (RETURN, 0, 0, ALLOW),
    ]


steps = b"".join(struct.pack("HBBI", *step) for step in code(sys.argv[1]))
held = ctypes.create_string_buffer(steps)
program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(steps) // 8, ctypes.addressof(held)))
libc = ctypes.CDLL(None, use_errno=True)
zero = ctypes.c_ulong(0)
for option, first, second in [(PR_SET_NO_NEW_PRIVS, 1, zero), (PR_SET_SECCOMP, MODE_FILTER, program)]:
    if libc.prctl(option, ctypes.c_ulong(first), second, zero, zero):
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
os.execv(sys.argv[2], sys.argv[2:])
