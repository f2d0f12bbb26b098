"""Files and folders that appear whole or not at all, and the map over processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from support import ROOT

from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.files import PARTIAL, file_set, sweep, whole_file, whole_folder, write_json
from DosePredictionLib.processes import parallel_map


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def fill(folder: Path, **contents: str) -> None:
    for name, text in contents.items():
        (folder / f"{name}.txt").write_text(text)


def contents(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_text() for path in folder.iterdir()}


def test_a_file_takes_its_place_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "dose.nii.gz"
    with whole_file(path) as aside:
        assert aside.name == path.name  # writers choose the format by it
        aside.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole" and leftovers(path.parent) == []


@pytest.mark.parametrize("exception", [OSError, KeyboardInterrupt, MemoryError])
def test_a_failed_file_leaves_the_old_one(tmp_path: Path, exception: type[BaseException]) -> None:
    path = tmp_path / "dose.txt"
    path.write_text("old")
    with pytest.raises(exception), whole_file(path) as aside:
        aside.write_text("half")
        raise exception
    assert path.read_text() == "old" and leftovers(tmp_path) == []


def test_a_name_of_the_longest_length_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".txt")
    with whole_file(path) as aside:
        aside.write_text("whole")
    assert path.read_text() == "whole"


def test_a_folder_and_a_device_are_no_place_for_a_file(tmp_path: Path) -> None:
    with pytest.raises(DosePredictionError, match="is a folder"), whole_file(tmp_path):
        pass
    with pytest.raises(DosePredictionError, match="is a device"), whole_file(Path("/dev/full")):
        pass
    (tmp_path / "b.txt").mkdir()
    fill(tmp_path, a="old")
    with pytest.raises(DosePredictionError, match="is a folder"), file_set(tmp_path) as aside:
        fill(aside, a="new", b="new")
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_folder_is_replaced_only_when_that_is_wanted(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with whole_folder(folder) as aside:
        fill(aside, a="1")
    with pytest.raises(DosePredictionError, match="exists"), whole_folder(folder) as aside:
        fill(aside, a="2")
    with pytest.raises(OSError, match="full"), whole_folder(folder, replace=True) as aside:
        fill(aside, a="3")
        raise OSError("full")
    assert contents(folder) == {"a": "1"}
    with whole_folder(folder, replace=True) as aside:
        fill(aside, b="4")
    assert contents(folder) == {"b": "4"} and leftovers(tmp_path) == []


def test_a_set_of_files_comes_together_and_supersedes(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with file_set(out) as aside:
        fill(aside, dose="old", rtdose="old", notes="mine")
    with file_set(out, superseded=["rtdose.txt", "absent.txt"]) as aside:
        fill(aside, dose="new", summary="new")
    assert contents(out) == {"dose": "new", "summary": "new", "notes": "mine"}
    assert leftovers(tmp_path) == []


def test_a_set_of_which_one_cannot_be_placed_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    fill(out, a="old", c="old")
    rename = Path.rename

    def fails_for_c(self: Path, target: Path) -> Path:
        if self.parent.name == "new" and self.name == "c.txt":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_for_c)
    with pytest.raises(OSError, match="No space"), file_set(out, ["a.txt"]) as aside:
        fill(aside, a="new", b="new", c="new")
    assert contents(out) == {"a": "old", "c": "old"}


def test_json_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "Größe"})
    assert "Größe" in (tmp_path / "a.json").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "a.json", {"value": float("nan")})
    assert "Größe" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_writes_is_not(
    tmp_path: Path,
) -> None:
    code = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from DosePredictionLib.files import whole_file
        with whole_file(Path(sys.argv[1])) as aside:
            aside.write_text("half")
            print("writing", flush=True)
            time.sleep(60)
        """
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.txt")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        sweep(tmp_path)
        assert len(leftovers(tmp_path)) == 1  # still writing
        process.send_signal(signal.SIGKILL)
    foreign = tmp_path / f"{PARTIAL}00000000-1-x"
    foreign.mkdir()  # of another machine: nobody here knows whether it is alive
    with whole_file(tmp_path / "b.txt") as aside:
        aside.write_text("whole")
    assert leftovers(tmp_path) == [foreign.name]


def double(number: int) -> int:
    if number == 13:
        raise ValueError("unlucky")
    return 2 * number


def end_the_process(number: int) -> int:
    time.sleep(0.1)
    os._exit(1)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_map_gives_every_result_with_its_index(workers: int) -> None:
    assert dict(parallel_map(double, [1, 2, 3, 4], workers)) == {0: 2, 1: 4, 2: 6, 3: 8}
    assert list(parallel_map(double, [], workers)) == []
    with pytest.raises(ValueError, match="unlucky"):
        list(parallel_map(double, [1, 13], workers))


def test_a_process_that_dies_is_a_sentence() -> None:
    with pytest.raises(DosePredictionError, match="fewer --workers"):
        list(parallel_map(end_the_process, [1, 2, 3], 2))
