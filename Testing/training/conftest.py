from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from runs import command, run, write_cohort


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
        run(command("prepare", "--cases", cases, "--output", folder / name, "--workers", "1"))
    return SimpleNamespace(training=folder / "training", validation=folder / "validation")


def _data(cohort: SimpleNamespace, output: Path) -> list[Path | str]:
    return [
        "--training",
        cohort.training,
        "--validation",
        cohort.validation,
        "--output",
        output,
    ]


@pytest.fixture(scope="session")
def train_command(cohort: SimpleNamespace):
    """The command that trains into a folder."""

    def make(output: Path, *more: str, extra: tuple[str, ...] = ()) -> list[str]:
        return command("train", *_data(cohort, output), *more, extra=extra)

    return make


@pytest.fixture(scope="session")
def whole_run(train_command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    output = tmp_path_factory.mktemp("whole") / "run"
    run(train_command(output))
    return output
