"""Checkpoints that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from DosePredictionLib.errors import DosePredictionError

__all__ = ["load_checkpoint", "save_checkpoint", "sync_folder"]


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write aside, force it onto the disk, rename: whenever the power fails, one is whole.

    Raises:
        DosePredictionError: it could not be written; the one that was there is untouched.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    except (OSError, RuntimeError) as exception:  # torch's zip writer turns some into the latter
        partial.unlink(missing_ok=True)
        kept = "The one before it is whole: free" if path.is_file() else "There is none yet: free"
        raise DosePredictionError(
            f"{path} could not be written ({exception}). {kept} space and start the same command."
        ) from exception


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Tensors and plain values of a checkpoint; nothing in it is executed.

    Raises:
        DosePredictionError: it is damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as exception:
        reason = (str(exception) or type(exception).__name__).splitlines()[0]
        raise DosePredictionError(
            f"{path} is no checkpoint of this trainer: {reason}."
        ) from exception
    if not isinstance(state, dict) or not {"step", "model", "average"} <= state.keys():
        raise DosePredictionError(f"{path} is no checkpoint of this trainer: it lacks its parts.")
    return state


def sync_folder(folder: Path) -> None:
    """Force a folder's entries onto the disk, where the system knows such a thing."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
