from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence

import pytest
from support import ROOT

from DosePredictionLib import installation
from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.installation import REQUIREMENTS, Requirement, constraints, install, missing

ABSENT = Requirement("dose-prediction-no-such-package", "1.0")
NO_TORCH = Requirement("dose-prediction-no-such-torch", "2.4")


class Recorder:
    """An installer that writes down what it is asked for; `arrives` is there afterwards."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.pins: list[str] = []

    def install_packages(self, requirements: Sequence[str], constraints: Sequence[str]) -> None:
        self.asked.append(tuple(requirements))
        self.pins = list(constraints)

    def install_torch(self, version: str) -> None:
        self.asked.append(("torch", version))


def test_the_requirements_are_those_of_the_project_file() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    assert block is not None
    assert re.findall(r'"([^"]+)"', block.group(1)) == [str(r) for r in REQUIREMENTS]


def test_here_nothing_is_missing_and_slicers_packages_and_torch_are_pinned() -> None:
    assert missing() == []
    pinned = {pin.split("==")[0] for pin in constraints()}
    assert pinned == {"numpy", "scipy", "SimpleITK", "pydicom", "torch"}


@pytest.mark.parametrize(
    ("version", "minimum", "met"),
    [("2.13.0+cpu", "2.4", True), ("2.4", "2.4.1", False), ("10.0", "9.9", True)],
)
def test_versions_compare_as_numbers(
    version: str, minimum: str, met: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda package: version)
    assert Requirement("any", minimum).is_met is met


def test_only_what_is_missing_is_installed_and_nothing_of_slicer_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(installation, "REQUIREMENTS", (*REQUIREMENTS, ABSENT))
    recorder = Recorder()
    assert install(recorder) == [ABSENT]
    assert recorder.asked == [(str(ABSENT),)]
    assert recorder.pins == constraints()


def test_torch_comes_first_and_without_it_nothing_else_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(installation, "TORCH", NO_TORCH)
    monkeypatch.setattr(installation, "REQUIREMENTS", (ABSENT, NO_TORCH))
    recorder = Recorder()
    assert install(recorder) == [ABSENT, NO_TORCH]
    assert recorder.asked == [("torch", ">=2.4")]


def test_an_old_package_of_slicer_is_refused_before_anything_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = Requirement("numpy", "999", of_slicer=True)
    monkeypatch.setattr(installation, "REQUIREMENTS", (old, ABSENT))
    recorder = Recorder()
    with pytest.raises(DosePredictionError, match=r"numpy .*999"):
        install(recorder)
    assert recorder.asked == []


def without(packages: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in a Python that lacks some packages."""
    # A None in sys.modules would do for an import, but SciPy looks up torch there by itself.
    code = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages.split()!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from DosePredictionLib.cli import main
sys.exit(main(sys.argv[1:]))
"""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_report_is_written_without_the_packages_that_it_reports_on() -> None:
    done = without("torch nibabel safetensors SimpleITK matplotlib jinja2 tqdm", "check", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)["check"]
    assert "cannot be loaded" in report["torch"] and report["packages"]["numpy"] != "missing"


def test_a_command_that_needs_a_missing_package_names_it() -> None:
    done = without("torch", "models", "list")
    assert done.returncode == 2
    assert "torch is missing" in done.stderr and "Traceback" not in done.stderr
