"""The ground a run stands on: device, threads, determinism, memory."""

import ctypes
import sys

import torch

from labbook.errors import DeviceError

__all__ = ["choose_device", "configure"]


def configure(device: str, threads: int, seed: int) -> torch.device:
    """Make everything that follows deterministic, and choose the device.

    Args:
        device: `auto` (CUDA, else MPS, else CPU), `cpu`, `cuda`, `cuda:1`, `mps`.
        threads: for sums on the CPU; another number gives other last bits.
        seed: of torch's global generators, from which weights are initialised and dropout is drawn.

    Raises:
        DeviceError: the device is not there.
    """
    chosen = choose_device(device)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a debugging aid that costs time
    torch.backends.cudnn.benchmark = False
    torch.manual_seed(seed)
    _keep_memory()
    return chosen


def choose_device(wanted: str) -> torch.device:
    """Find the device that `wanted` names.

    Raises:
        DeviceError: it is not there; names the ones that are.
    """
    there = ["cpu"]
    if torch.backends.mps.is_available():
        there.insert(0, "mps")
    there[:0] = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if wanted == "auto":
        return torch.device(there[0])
    name = "cuda:0" if wanted == "cuda" else wanted
    if name not in there:
        raise DeviceError(
            f"device: {wanted} is not there. This machine has: {', '.join(there)}. Set `device: auto` in params.yaml."
        )
    return torch.device(name)


def _keep_memory() -> None:
    """Let glibc keep the large blocks that every step frees, rather than fault them in again (measured: up to 1.5×)."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt:
        trim_threshold, top_pad, mmap_max = -1, -2, -4
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 1 << 30)
        mallopt(top_pad, 1 << 26)
