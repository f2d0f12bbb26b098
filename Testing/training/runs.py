"""Runs of the trainer in processes of their own, on tiny cases, for the tests."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from support import ROOT, pelvis_case, write_case_folder

SETTINGS = (
    "protocol=pelvis",
    'encoding={"grid": {"kind": "fixed-spacing", "spacing_mm": [8, 8, 8]}, "dose_scale_gy": 52}',
    'loss=[{"loss": "mae", "weight": 1}, {"loss": "mae", "weight": 0.5, "stage": "coarse"}]',
    "crop=[16, 16, 32]",
    "batch_size=2",
    "steps=8",
    "validate_every=4",
    "network.stage1_filters=2",
    "network.stage2_filters=2",
    "augmentation.spatial_probability=0.5",
    "deterministic=true",
)
FORKED = Path(__file__).with_name("forked.py")


def write_cohort(folder: Path, shapes: list[tuple[int, int, int]]) -> Path:
    """A folder of pelvis phantoms of different sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    for shape in shapes:
        name = "x".join(map(str, shape))
        write_case_folder(folder / name, pelvis_case(shape, (6.0, 6.0, 7.0)))
    return folder


def tiny(action: str, *arguments: str | Path, extra: Sequence[str] = ()) -> list[str]:
    """`ACTION …` with the tiny settings, for `python -m training`."""
    settings = [text for each in (*SETTINGS, *extra) for text in ("--set", each)]
    return [action, *settings, *map(str, arguments)]


def run(
    arguments: Sequence[str], check: bool = True, **options: Any
) -> subprocess.CompletedProcess[str]:
    """A finished process."""
    return subprocess.run(
        arguments,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        check=check,
        capture_output=True,
        text=True,
        **options,
    )


def run_jobs(*jobs: dict[str, Any]) -> list[list[int]]:
    """Exit codes of the jobs' ranks; see `forked.py`."""
    done = run([sys.executable, str(FORKED)], input=json.dumps(jobs))
    sys.stderr.write(done.stderr)
    codes: list[list[int]] = json.loads(done.stdout)
    return codes


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
