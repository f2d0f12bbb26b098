from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from runs import tiny, write_cohort

from training.__main__ import main


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Two caches of tiny cases."""
    folder = tmp_path_factory.mktemp("cohort")
    shapes = {
        "training": [(60, 48, 40), (56, 50, 44)],
        "validation": [(64, 44, 36)],
    }
    for name, each in shapes.items():
        cases = write_cohort(folder / f"{name}_cases", each)
        made = tiny("prepare", "--cases", cases, "--output", folder / name, "--workers", "1")
        assert main(made) == 0
    return SimpleNamespace(training=folder / "training", validation=folder / "validation")


@pytest.fixture(scope="session")
def train_arguments(cohort: SimpleNamespace):
    """The arguments that train into a folder."""

    def make(output: Path, *more: str, extra: tuple[str, ...] = ()) -> list[str]:
        data = ["--training", cohort.training, "--validation", cohort.validation]
        return tiny("train", *data, "--output", output, *more, extra=extra)

    return make
