"""What the machine has and what a process took of it, without asking torch."""

import resource
import sys
from pathlib import Path

FILES = Path("/")
# NVIDIA's devices on Linux (a container that was given the third has nvidia2 alone); under WSL2 its driver's library.
SIGNS_OF_A_GPU = ("dev/nvidia[0-9]*", "usr/lib/wsl/lib/libcuda.so.1")


def shows_a_gpu() -> bool:
    """Whether there is an NVIDIA GPU, whatever torch makes of it."""
    return any(any(FILES.glob(sign)) for sign in SIGNS_OF_A_GPU)


def peak_memory_mb(who: int = resource.RUSAGE_SELF) -> float:
    """The most that this process (or the hungriest that it waited for) has had in memory."""
    peak = resource.getrusage(who).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024  # macOS counts bytes, Linux kilobytes
