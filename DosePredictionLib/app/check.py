"""A copyable report on the installation; works where packages are missing."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import DosePredictionError
from ..installation import REQUIREMENTS, missing
from ..memory import available_memory_bytes

__all__ = ["installation", "report_text"]


def report_text(report: Mapping[str, Any]) -> str:
    """The report as lines for people."""
    return "\n".join(f"{key}: {_text(value)}" for key, value in report.items())


def installation() -> dict[str, Any]:
    """Versions, processor, memory, disk, devices and models, as JSON types."""
    return {
        "dose-prediction": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": {r.package: r.installed or "missing" for r in REQUIREMENTS},
        "missing": [str(requirement) for requirement in missing()],
        "cores": os.cpu_count(),
        "disk_free_gib": round(shutil.disk_usage(Path.cwd()).free / 2**30, 1),
        **_with_torch(),
    }


def _with_torch() -> dict[str, Any]:
    """What only torch can state; why not, where it is missing or broken."""
    try:
        return {**_memory(), **_devices(), "models": _models(), "models_skipped": _skipped()}
    except (ImportError, OSError) as exception:  # OSError: a library of torch's own is missing
        return {"torch": f"cannot be loaded: {exception}"}


def _memory() -> dict[str, Any]:
    available = available_memory_bytes()
    return {"memory_available_gib": round(available / 2**30, 1) if available else None}


def _devices() -> dict[str, Any]:
    import torch

    from ..inference.device import has_hardware_bf16

    devices = [
        {
            "name": torch.cuda.get_device_name(index),
            "memory_gib": round(torch.cuda.get_device_properties(index).total_memory / 2**30, 1),
        }
        for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    ]
    return {"cpu_bf16": has_hardware_bf16(), "cuda": torch.version.cuda, "cuda_devices": devices}


def _models() -> list[dict[str, Any]]:
    from ..models.dose_model import DoseModel

    found = []
    for model in DoseModel.installed():
        try:
            model.verify()
            state = "verified"
        except DosePredictionError as exception:
            state = str(exception)
        found.append({"name": model.manifest.name, "weights": state})
    return found


def _skipped() -> list[str]:
    """Why folders in the model path are not among the models."""
    from ..models.manifest import installed_manifests

    return [f"{finding.message} {finding.remedy}" for finding in installed_manifests().skipped]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list):
        return "; ".join(_text(item) for item in value) or "none"
    return str(value)
