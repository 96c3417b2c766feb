"""What a process on a CPU needs so that training does not spend a fifth of its time in page faults."""

import ctypes
import platform

# Options of mallopt(3).
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Let glibc keep what tensors free for the next ones, in this process; nothing happens where libc is another.

    Each training step allocates and frees the same gigabytes; given back to the system, they return page by page.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(TRIM_THRESHOLD, LARGEST)
    libc.mallopt(MMAP_THRESHOLD, LARGEST)
