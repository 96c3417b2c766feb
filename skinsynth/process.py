"""What a process that trains networks needs so that it does not spend a fifth of its time elsewhere."""

import ctypes
import platform

import torch

# Options of mallopt(3).
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGEST = 2**31 - 1


def tune_process() -> None:
    """Memory is kept between steps (CPU), and convolutions are chosen by trying them out (GPU)."""
    keep_freed_memory()
    torch.backends.cudnn.benchmark = True


def keep_freed_memory() -> None:
    """Let glibc keep what tensors free for the next ones, in this process; nothing happens where libc is another.

    Each training step allocates and frees the same gigabytes; given back to the system, they return page by page.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(TRIM_THRESHOLD, LARGEST)
    libc.mallopt(MMAP_THRESHOLD, LARGEST)
