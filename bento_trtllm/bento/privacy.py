"""Keeps what a worker and its Triton write private to their user: metrics, run folders, and prompts in shared memory.

A umask does so for everything but Triton's shared memory: Boost opens a region to every user of the machine (fchmod to
0644, shared_memory_object.hpp), and there is no setting for it. Correcting the mode afterwards is too late: whoever
opens a region before that can read it for as long as Triton runs. So that one call does nothing here and in all
processes started from here: a seccomp filter lets it succeed without effect (seccomp(2), SECCOMP_RET_ERRNO with 0).
"""

import ctypes
import logging
import os
import platform
import struct

LOGGER = logging.getLogger("bento_trtllm")
UMASK = 0o077
OPENED = 0o644
PR_SET_NO_NEW_PRIVS = 38  # required to install a filter without being root; from linux/prctl.h
SECCOMP_SET_MODE_FILTER, SPEC_ALLOW = 1, 1 << 2  # linux/seccomp.h; without the latter, memory slows down before 5.16
# The system calls' numbers (asm/unistd.h) and what linux/audit.h calls the architecture.
ARCHITECTURES = {"x86_64": (0xC000003E, 317, 91), "aarch64": (0xC00000B7, 277, 52)}
LOAD, EQUALS, RETURN = 0x20, 0x15, 0x06  # linux/bpf_common.h: BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
ALLOW, DONE = 0x7FFF0000, 0x00050000


class Program(ctypes.Structure):
    """struct sock_fprog of linux/filter.h."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def keep_private() -> None:
    """Applies to this process and all that it starts from now on. Call it before there are threads."""
    os.umask(UMASK)
    if not _skip_opening():
        LOGGER.warning(
            "Other users of this machine can read Triton's shared memory, including prompts: no seccomp here"
        )


def _skip_opening() -> bool:
    """Have fchmod(…, 0644) succeed without effect; False where that is not possible."""
    if platform.machine() not in ARCHITECTURES:
        return False
    architecture, seccomp, fchmod = ARCHITECTURES[platform.machine()]
    # Offsets in struct seccomp_data: the architecture, the call's number, the low half of its second argument.
    steps = [
        (LOAD, 0, 0, 4), (EQUALS, 0, 4, architecture),
        (LOAD, 0, 0, 0), (EQUALS, 0, 2, fchmod),
        (LOAD, 0, 0, 24), (EQUALS, 1, 0, OPENED),
        (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, DONE),
    ]  # fmt: skip
    program = Program(len(steps), b"".join(struct.pack("HBBI", *step) for step in steps))
    libc = ctypes.CDLL(None)

    def install() -> bool:
        return bool(libc.syscall(seccomp, SECCOMP_SET_MODE_FILTER, SPEC_ALLOW, ctypes.byref(program)) == 0)

    return install() or (libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 and install())
