"""Process setup: device, threads, determinism, memory."""

import ctypes
import sys
from collections.abc import Callable

import torch
from torch import Tensor, optim

from labbook.errors import DeviceError

__all__ = ["check_bf16", "choose_device", "configure", "in_bf16"]


BF16_ON_CPU = ("avx512_bf16", "amx_bf16", "avx10_2", "bf16")  # flags of x86 and ARM


def configure(device: str, threads: int, seed: int) -> torch.device:
    """Make the process deterministic, and return the device.

    Args:
        device: `auto` (CUDA, else MPS, else CPU), `cpu`, `cuda`, `cuda:1`, `mps`.
        threads: number of CPU threads; the last bits of sums depend on it.
        seed: seed of torch's global generators, from which initial weights and dropout are drawn.

    Raises:
        DeviceError: there is no such device.
    """
    chosen = choose_device(device)
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("error")  # as use_deterministic_algorithms, but without importing the compiler (1.3 s)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a debugging aid that costs time
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32 on every device
    torch.manual_seed(seed)
    _skip_compiler_import()
    _retain_freed_memory()
    return chosen


def choose_device(requested: str) -> torch.device:
    """Return the device that `requested` names.

    Raises:
        DeviceError: there is no such device; the message lists the available ones.
    """
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    available[:0] = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if requested == "auto":
        return torch.device(available[0])
    name = "cuda:0" if requested == "cuda" else requested
    if name not in available:
        raise DeviceError(
            f"device: {requested} not found. This machine has: {', '.join(available)}. Set `device: auto` in params.yaml."
        )
    return torch.device(name)


def check_bf16(device: torch.device, key: str) -> None:
    """Check that the device supports bf16 in hardware.

    Args:
        device: device of the training.
        key: key of the precision in `params.yaml`, for the message.

    Raises:
        DeviceError: it does not support bf16; the message names key and device.
    """
    if device.type == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        supported = device.type == "cpu" and any(_cpu_flags().get(name) for name in BF16_ON_CPU)
    if not supported:
        raise DeviceError(
            f"{key}: {device} does not support bf16 in hardware, according to torch {torch.__version__}. "
            "Set it to float32, or choose another device."
        )


def _cpu_flags() -> dict[str, object]:
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # from torch 2.12 on
    return capabilities


def in_bf16(model: Callable[[Tensor], Tensor], device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return `model` with convolutions and matrix products in bfloat16 and outputs in float32."""

    def forward(images: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            return model(images).float()

    return forward


def _skip_compiler_import() -> None:
    """Prevent torch's optimizers from importing its compiler (1 s) merely to exclude themselves from compilation."""
    for method in vars(optim.Optimizer).values():
        plain = getattr(method, "__wrapped__", None)
        if plain is not None:
            plain.__dynamo_disable = plain  # torch's own cache; versions without it import the compiler


def _retain_freed_memory() -> None:
    """Make glibc keep the large blocks that every step frees and allocates again (measured: up to 1.5 times faster)."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt:
        trim_threshold, top_pad, mmap_max = -1, -2, -4
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 1 << 30)
        mallopt(top_pad, 1 << 26)
