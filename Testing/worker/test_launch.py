from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

from DosePredictionLib.errors import WorkerError
from DosePredictionLib.worker.launch import find_interpreter, worker_environment, worker_launch

pytestmark = pytest.mark.skipif(os.name == "nt", reason="file modes decide on POSIX")


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def empty_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.delenv("SLICER_HOME", raising=False)
    return tmp_path / "path"


@pytest.mark.parametrize(
    ("executable", "launcher"),
    [
        ("Slicer", "bin/PythonSlicer"),  # the launcher of the application
        ("bin/SlicerApp-real", "bin/PythonSlicer"),
        ("bin/PythonSlicer", "bin/PythonSlicer"),
        ("bin/python-real", "bin/PythonSlicer"),  # needs the environment that the launcher makes
        ("Contents/MacOS/Slicer", "Contents/bin/PythonSlicer"),
    ],
)
def test_slicers_launcher_is_found_from_any_of_its_programs(
    tmp_path: Path, executable: str, launcher: str
) -> None:
    expected = program(tmp_path / launcher)
    own = program(tmp_path / executable)
    assert find_interpreter(str(own), str(tmp_path / "elsewhere" / "lib" / "Python")) == expected


def test_the_prefix_leads_to_the_launcher_when_the_executable_does_not(tmp_path: Path) -> None:
    expected = program(tmp_path / "Slicer 5" / "bin" / "PythonSlicer")
    prefix = tmp_path / "Slicer 5" / "lib" / "Python"
    assert find_interpreter("", str(prefix)) == expected


@pytest.mark.parametrize("prefix", ["/", "/usr", "usr", ""])
def test_a_prefix_with_no_folders_above_it_is_no_place(tmp_path: Path, prefix: str) -> None:
    """A Slicer built with the system's Python has such a one."""
    expected = program(tmp_path / "bin" / "PythonSlicer")
    assert find_interpreter(str(program(tmp_path / "bin" / "SlicerApp-real")), prefix) == expected


def test_slicers_home_leads_to_the_launcher_when_nothing_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = program(tmp_path / "Slicer-build" / "bin" / "PythonSlicer")
    monkeypatch.setenv("SLICER_HOME", str(tmp_path / "Slicer-build"))
    assert find_interpreter("", str(tmp_path / "python" / "lib" / "install")) == expected


def test_an_unknown_executable_does_not_stand_for_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "PythonSlicer")
    program(tmp_path / "bin" / "PythonSlicer")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WorkerError):
        find_interpreter("", str(tmp_path / "python" / "lib" / "install"))


def test_outside_slicer_the_interpreter_is_the_current_one(tmp_path: Path) -> None:
    own = program(tmp_path / "venv" / "bin" / "python3.12")
    assert find_interpreter(str(own), str(tmp_path / "venv")) == own
    assert find_interpreter() == Path(sys.executable)


def test_a_build_tree_has_its_launcher_on_the_path(tmp_path: Path, empty_path: Path) -> None:
    expected = program(empty_path / "PythonSlicer")
    own = program(tmp_path / "Slicer-build" / "bin" / "SlicerApp-real")
    assert find_interpreter(str(own), str(tmp_path / "python-install")) == expected


def test_an_application_without_a_python_is_refused_by_name(tmp_path: Path) -> None:
    own = program(tmp_path / "a" / "b" / "ThatApp")
    with pytest.raises(WorkerError, match="a/b/PythonSlicer"):
        find_interpreter(str(own), str(tmp_path / "x" / "y" / "z"))


def test_what_breaks_a_childs_python_is_left_out_and_the_rest_stays() -> None:
    given = {
        "PYTHONHOME": "slicer",
        "PYTHONPATH": "modules",
        "LD_LIBRARY_PATH": "lib",
        "PYTHONSTARTUP": "prompt.py",
        "PYTHONINSPECT": "1",
        "MPLBACKEND": "module://notebook",
    }
    made = worker_environment(given)
    assert made["PYTHONHOME"] == "slicer" and made["LD_LIBRARY_PATH"] == "lib"
    assert made["PYTHONPATH"] == f"{ROOT}{os.pathsep}modules"
    assert made["MPLBACKEND"] == "Agg" and made["PYTHONUTF8"] == "1"
    assert not {"PYTHONSTARTUP", "PYTHONINSPECT"} & set(made)


def test_a_folder_of_cases_does_not_shadow_the_library(tmp_path: Path) -> None:
    (tmp_path / "DosePredictionLib").mkdir()
    (tmp_path / "DosePredictionLib" / "__init__.py").write_text("raise SystemExit(9)")
    launch = worker_launch(Path(sys.executable))
    done = subprocess.run(
        [launch.program, *launch.arguments],
        env=dict(launch.environment),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0 and b'"ready"' in done.stdout
