"""Runs of the trainer in processes of their own, on tiny cases, for the tests."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from support import ROOT, pelvis_case, write_case_folder

SETTINGS = (
    "protocol=pelvis",
    'encoding={"grid": {"kind": "fixed-spacing", "spacing_mm": [8, 8, 8]}, "dose_scale_gy": 52}',
    "crop=[16, 16, 32]",
    "batch_size=2",
    "steps=8",
    "validate_every=4",
    "network.stage1_filters=2",
    "network.stage2_filters=2",
    "augmentation.spatial_probability=0.5",
    "deterministic=true",
)


def write_cohort(folder: Path, shapes: list[tuple[int, int, int]]) -> Path:
    """A folder of pelvis phantoms of different sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    for shape in shapes:
        name = "x".join(map(str, shape))
        write_case_folder(folder / name, pelvis_case(shape, (6.0, 6.0, 7.0)))
    return folder


def command(action: str, *arguments: str | Path, extra: tuple[str, ...] = ()) -> list[str]:
    """`python -m training ACTION …` with the tiny settings."""
    settings = [text for each in (*SETTINGS, *extra) for text in ("--set", each)]
    return [sys.executable, "-m", "training", action, *settings, *map(str, arguments)]


def run(
    arguments: list[str], check: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A finished process."""
    return subprocess.run(
        arguments,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        check=check,
        capture_output=True,
        text=True,
        timeout=120,
    )


def digest(value: Any) -> str:
    """SHA-256 of a checkpoint's part: tensors' bytes, and everything else as text."""
    sha = hashlib.sha256()

    def add(each: Any) -> None:
        if isinstance(each, torch.Tensor):
            sha.update(each.contiguous().numpy().tobytes())
        elif isinstance(each, dict):
            for key in each:
                sha.update(repr(key).encode())
                add(each[key])
        elif isinstance(each, list | tuple):
            for item in each:
                add(item)
        else:
            sha.update(repr(each).encode())

    add(value)
    return sha.hexdigest()
