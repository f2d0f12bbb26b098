"""Fixtures that several tests share."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

# Before PyTorch and NumPy's linear algebra are imported, and for processes that tests start:
# threads on arrays this small wait for each other, and beside other processes for a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from support import pelvis_case, random_network, write_case_folder, write_checkpoint

from DosePredictionLib.case import Case
from DosePredictionLib.cli import main
from DosePredictionLib.inference import device
from DosePredictionLib.models.dose_model import DoseModel, write_manifest
from DosePredictionLib.structures.protocol import StructureProtocol


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Models are imported below a home folder of the test's own."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("DOSE_PREDICTION_MODELS", raising=False)
    return home


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Ctrl-C and a polite kill work here and in processes started here.

    A caller that ignores them (`nohup`, a background job of a script) passes that on.
    """
    wanted = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(params=["fp32", "bf16"])
def automatic_precision(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> device.Precision:
    """What `auto` finds fastest in this process: each format in turn, whatever the machine has."""
    monkeypatch.setattr(device, "fastest_precision", lambda _: request.param)
    precision: device.Precision = request.param
    return precision


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads on tensors this small only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def pelvis_model(tmp_path_factory: pytest.TempPathFactory) -> DoseModel:
    """A small pelvis model with random weights: the shape of the real thing, not its worth.

    On the grid of `case`, 245,760 voxels: the published one has 17 times as many.
    """
    folder = tmp_path_factory.mktemp("models")
    checkpoint = write_checkpoint(folder / "checkpoint.pt", random_network())
    protocol = StructureProtocol.load("pelvis")
    model = DoseModel.import_checkpoint(checkpoint, "random-pelvis", protocol, folder)
    encoding = model.manifest.encoding
    grid = replace(encoding.grid, size=(80, 64, 48), spacing_mm=(5.0, 5.0, 5.0))
    write_manifest(model.folder, replace(model.manifest, encoding=replace(encoding, grid=grid)))
    return DoseModel.load(model.folder)


@pytest.fixture(scope="session")
def case() -> Case:
    return pelvis_case()


@pytest.fixture
def case_folder(tmp_path: Path, case: Case) -> Path:
    return write_case_folder(tmp_path / "patient", case)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any, str]]:
    """Run a command with `--json`: exit code, the object on stdout, the text on stderr."""

    def call(*arguments: object) -> tuple[int, Any, str]:
        code = main([*map(str, arguments), "--json"])
        captured = capsys.readouterr()
        return code, json.loads(captured.out) if captured.out else None, captured.err

    return call
