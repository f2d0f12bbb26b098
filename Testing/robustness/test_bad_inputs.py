"""Every command, on every kind of bad input: an exit code, one line, and nothing left behind."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from bad_files import DEVICES, JSON, NAMES, NUMBERS, PATHS, checkpoints, nifti, npz
from support import DICOM_SAMPLE, pelvis_case, write_case_folder

from DosePredictionLib.cli import main as command_line
from DosePredictionLib.models.dose_model import DoseModel
from training.__main__ import main as training

SMALL = pelvis_case((20, 16, 12), (20.0, 20.0, 20.0))
DICOM = str(DICOM_SAMPLE)


@dataclass(frozen=True)
class Row:
    """A call: its words, in which `{bad}` `{good}` `{out}` `{model}` `{cases}` `{run}` are paths.

    Args:
        bad: name of the broken file below the test's folder, and what lies there.
        case_file: the broken file replaces this one in a copy of the good case, which is `{bad}`.
        named: stands in the line.
    """

    id: str
    words: tuple[str, ...]
    bad: tuple[str, bytes] | None = None
    case_file: str | None = None
    named: str = ""


def _words(call: str, **special: str) -> tuple[str, ...]:
    return tuple(special.get(word, word) for word in call.split(" "))


_EVALUATE = "evaluate --case {good} --prediction {good}/dose_plan.nii.gz"
_TRAIN = "training train --training {cases} --validation {cases} --output {out}"
_SIMULATE = "training simulate --cases 1 --seed 1 --output {out}"
_READS_JSON = (
    "predict {good} --model {model} --output {out} --mapping {bad}",
    "predict {good} --model {model} --output {out} --goals {bad}",
    "strips {good} --output {out} --mapping {bad}",
    _EVALUATE + " --mapping {bad}",
    _EVALUATE + " --goals {bad}",
    _EVALUATE + " --scorecard {bad}",
    "training card --model {model} --evaluation {bad} --cases x",
)
_READS_CASE = (
    "predict {bad} --model {model} --output {out}",
    "strips {bad} --output {out}",
    "evaluate --case {bad} --prediction {good}/dose_plan.nii.gz",
)
_READS_PATH = (
    *_READS_CASE,
    *_READS_JSON,
    _EVALUATE.replace("{good}/dose", "{bad}/dose"),
    "evaluate --cohort {bad} --predictions {cases}",
    "models show {bad}",
    "models verify {bad}",
    "models import {bad} --name x --protocol pelvis --output {out}",
    "models combine {bad} {model} --name x --output {out}",
    "rtstruct {bad} --masks {good} --output {out}/rs.dcm",
    "training prepare --cases {bad} --output {out} --workers 1",
    "training prepare-clinical --cases {bad} --output {out} --workers 1",
    "training prepare-vmat --cases {bad} --output {out} --workers 1",
    "training train --training {bad} --validation {cases} --output {out}",
    "training evaluate --model {bad} --cases {cases}",
    "training evaluate --run {bad} --cases {cases}",
    "training export --run {bad} --name x --title x --output {out}",
)
_NAMES_OUTPUT = (
    "models import {run}/last.pt --name NAME --protocol pelvis --output {out}",
    "models combine {model} --name NAME --output {out}",
    "training export --run {run} --name NAME --title x --output {out}",
)
_TAKES_NUMBER = (
    "training prepare --cases {cases} --output {out} --workers",
    "training prepare-clinical --cases {cases} --output {out} --workers",
    _TRAIN + " --steps",
    _TRAIN + " --validate-on",
    "evaluate --cohort {cases} --predictions {cases} --workers",
    *(
        f"{_SIMULATE} --{name}"
        for name in ("prescription", "beams", "bixel", "dose-grid", "workers", "index")
    ),
)


def _rows() -> Iterator[Row]:
    for call in _READS_JSON:
        for kind, content in JSON.items():
            yield Row(f"json {kind} {call}", _words(call), ("bad.json", content), named="bad.json")
    good = Path("case.nii.gz")
    for call in _READS_CASE:
        for kind in nifti(b"x" * 100):
            for name in ("ct", "PTV"):
                file = good.with_name(f"{name}.nii.gz").name
                yield Row(f"nifti {kind} {name} {call}", _words(call), (kind, b""), file, name)
        for kind, content in npz().items():
            yield Row(f"npz {kind} {call}", _words(call), ("bad.npz", content), named="bad")
    for kind, content in checkpoints().items():
        call = "models import {bad} --name x --protocol pelvis --output {out}"
        yield Row(f"checkpoint {kind} {call}", _words(call), ("bad.pt", content), named="bad.pt")
    for call in _READS_PATH:
        for kind, path in PATHS.items():
            yield Row(f"path {kind} {call}", tuple(_at(w, path) for w in _words(call)))
    for call in _NAMES_OUTPUT:
        for kind, name in NAMES.items():
            yield Row(f"name {kind} {call}", _words(call, NAME=name))
    for call in _TAKES_NUMBER:
        for number in NUMBERS:
            yield Row(f"number {number[:9]} {call}", (*_words(call), number))
    for margin in ("-1", "nan", "inf", "x", ""):
        call = "strips {good} --output {out} --margin-mm"
        yield Row(f"number {margin} {call}", (*_words(call), margin), named="margin")
    for command in ("predict", "models show", "training train", "training export"):
        words = (*command.split(), "--bogus-word")
        yield Row(f"help {command}", words, named=f"{command.split()[-1]} --help")
    for device in DEVICES:
        for call in (
            "predict {good} --model {model} --output {out} --device",
            f"{_TRAIN} --device",
        ):
            yield Row(f"device {device} {call}", (*_words(call), device), named="evice")


def _at(word: str, path: str) -> str:
    return word.replace("{bad}", path if path.startswith("/") else "{tmp}/" + path)


ROWS = list(_rows())


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory, pelvis_model: DoseModel) -> dict[str, str]:
    """A good case, a folder of it, a model, and a run that is none."""
    folder = tmp_path_factory.mktemp("good")
    good = write_case_folder(folder / "cases" / "case", SMALL)
    run = folder / "run"
    run.mkdir()
    (run / "last.pt").touch()
    paths = {"good": good, "cases": folder / "cases", "model": pelvis_model.folder, "run": run}
    return {name: str(path) for name, path in paths.items()}


def _files(folder: Path) -> set[tuple[str, int]]:
    links_too = (path for path in folder.rglob("*") if path.is_symlink() or path.is_file())
    return {(str(path), path.lstat().st_mtime_ns) for path in links_too}


def _prepare(row: Row, places: dict[str, str], tmp_path: Path) -> Path:
    bad = tmp_path / "in" / "bad"
    bad.parent.mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    if row.case_file is not None and row.bad is not None:
        shutil.copytree(places["good"], bad)
        good = (bad / row.case_file).read_bytes()
        (bad / row.case_file).write_bytes(nifti(good)[row.bad[0]])
    elif row.bad is not None:
        bad = bad.with_name(row.bad[0])
        bad.write_bytes(row.bad[1])
    return bad


def test_the_table_is_long() -> None:
    assert len(ROWS) >= 400 and len({row.id for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[ascii(row.id)[1:-1] for row in ROWS])
def test_a_bad_input_gets_one_line(
    row: Row, places: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = _prepare(row, places, tmp_path)
    known = {**places, "bad": str(bad), "out": str(tmp_path / "out"), "tmp": str(tmp_path)}
    words = [re.sub(r"\{(\w+)\}", lambda found: known[found[1]], word) for word in row.words]
    main: Callable[[list[str]], int] = command_line
    if words[0] == "training":
        main, words = training, words[1:]
    watched = (tmp_path, Path(places["good"]).parents[1], Path(places["model"]).parent)
    before = [_files(folder) for folder in watched]
    code = main(words)
    printed = capsys.readouterr().err
    lines = [line for line in printed.splitlines() if not line.startswith(("warning:", "info:"))]
    assert code == 2, printed
    assert len(lines) == 1 and lines[0].startswith("error: "), printed
    assert "unexpectedly" not in printed and "Traceback" not in printed
    assert row.named in lines[0] and len(lines[0]) > len("error: ") + 15
    lines[0].encode("utf-8")
    assert [_files(folder) for folder in watched] == before
    assert not list(tmp_path.rglob(".partial-*"))
