"""Fixtures that several tests share."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support import pelvis_case, random_network, write_case_folder, write_checkpoint

from DosePredictionLib.case import Case
from DosePredictionLib.cli import main
from DosePredictionLib.inference import device
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.structures.protocol import StructureProtocol

torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Models are imported below a home folder of the test's own."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("DOSE_PREDICTION_MODELS", raising=False)
    return home


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt here and in children, even where the parent ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(params=["fp32", "bf16"])
def automatic(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The precision that is chosen by itself, whatever this processor has in hardware."""
    has_bf16 = request.param == "bf16"
    monkeypatch.setattr(device, "has_hardware_bf16", lambda: has_bf16)
    precision: str = request.param
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
    """A small pelvis model with random weights: the shape of the real thing, not its worth."""
    folder = tmp_path_factory.mktemp("models")
    checkpoint = write_checkpoint(folder / "checkpoint.pt", random_network())
    protocol = StructureProtocol.load("pelvis")
    return DoseModel.import_checkpoint(checkpoint, "random-pelvis", protocol, folder)


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
