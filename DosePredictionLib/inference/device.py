"""What the machine can compute on, and in which precision."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import torch

from ..errors import PredictionError
from ..processes import usable_cores

__all__ = [
    "Precision",
    "fastest_precision",
    "has_hardware_bf16",
    "resolve_device",
    "resolve_precision",
    "usable_cores",
]

Precision = Literal["fp32", "bf16", "fp16"]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(device: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:n` as a torch device.

    Raises:
        PredictionError: the device does not exist on this machine, or is none of these.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cpu":
        return torch.device("cpu")
    match = re.fullmatch(r"cuda(?::(\d+))?", device)
    if match is None:
        raise PredictionError(f"Device {device!r} is none of auto, cpu, cuda, cuda:0, cuda:1 …")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(match.group(1) or 0) >= count:
        raise PredictionError(
            f"Device {device!r} was asked for; this installation of torch {torch.__version__} sees "
            f"{count} CUDA devices. Use --device auto, or install a CUDA build of torch."
        )
    return torch.device(device)


def resolve_precision(
    precision: str, device: torch.device, keeps_dose_in_16_bits: bool = True
) -> Precision:
    """`auto` becomes the fastest precision that the device has in hardware.

    Args:
        keeps_dose_in_16_bits: what the network states; where it is false, `auto` becomes fp32.

    Raises:
        PredictionError: the precision is unknown.
    """
    if precision == "auto":
        return fastest_precision(device) if keeps_dose_in_16_bits else "fp32"
    if precision not in DTYPES:
        raise PredictionError(f"Precision {precision!r} is none of auto, fp32, bf16, fp16.")
    if precision == "fp16" and device.type == "cpu":
        raise PredictionError("Precision fp16 needs a GPU; on a CPU use auto, fp32 or bf16.")
    return precision  # type: ignore[return-value]


def fastest_precision(device: torch.device) -> Precision:
    """The fastest precision that a device has in hardware."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if has_hardware_bf16() else "fp32"


def has_hardware_bf16() -> bool:
    """Whether torch multiplies bfloat16 in the processor's hardware (AMX or AVX-512 BF16)."""
    if "AVX512" not in torch.backends.cpu.get_cpu_capability():  # lacking, or ruled out
        return False
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    if any(getattr(torch.cpu, probe, lambda: False)() for probe in probes):
        return True
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("flags", 2)[1]
    except (OSError, IndexError):
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags
