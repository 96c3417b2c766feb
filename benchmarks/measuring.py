"""What benchmarks of speed share: a clock that waits for the device, and numbers as they are printed."""

import time
from typing import Any

import torch


def now(device: torch.device) -> float:
    """Seconds, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def rounded(value: Any) -> Any:
    """Four significant digits, at any depth."""
    if isinstance(value, dict):
        return {name: rounded(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry) for entry in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
