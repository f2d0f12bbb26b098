"""Cohorts with one bad case; damaged caches, runs and models; outputs that cannot be written."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from bad_files import JSON, checkpoints, nifti
from support import DICOM_SAMPLE, ROOT, pelvis_case, write_case_folder

from DosePredictionLib.cli import main as command_line
from DosePredictionLib.encoding.settings import EncodingSettings, GridSettings
from DosePredictionLib.losses import LossTerm
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.resources import MODEL_PATH_VARIABLE
from DosePredictionLib.schema import to_json
from DosePredictionLib.structures.protocol import StructureProtocol
from training.__main__ import main as training
from training.config import NetworkConfig, TrainingConfig
from training.loop import Trainer

SIZE, SPACING = (20, 16, 12), (20.0, 20.0, 20.0)
ENCODING = EncodingSettings(
    GridSettings("fixed-spacing", spacing_mm=(20.0, 20.0, 20.0)), dose_scale_gy=52.0
)
SETTINGS = (
    "--set protocol=pelvis --set batch_size=1 --set crop=[16,16,16] --set encoding="
    + json.dumps(to_json(ENCODING), separators=(",", ":"))
    + ' --set loss=[{"loss":"mae","weight":1}]'
    " --set network.stage1_filters=2 --set network.stage2_filters=2"
)
TRAIN = f"training train --training CACHE --validation LATER --output OUT {SETTINGS}"


class Code:
    """Runs when it is unpickled; a checkpoint with it must never be."""

    def __reduce__(self) -> tuple[Callable, tuple[str]]:
        return os.mkdir, ("executed",)


@dataclass(frozen=True)
class Row:
    """A call on a copy of what is good, with one thing in it replaced.

    Args:
        words: in which GOOD, CASES, CACHE, COMPACT, RUN, MODEL, DOSES and OUT are paths.
        broken: file below the copy → its bytes; None: gone; "": a folder in its place.
        code: that the command ends with.
        named: stands in what is printed.
    """

    id: str
    words: str
    broken: tuple[str, bytes | None] | None = None
    code: int = 2
    named: str = ""


def _rows() -> Iterator[Row]:
    yield from _one_bad_case()
    yield from _damaged_runs()
    yield from _damaged_caches()
    yield from _broken_models()
    yield from _unwritable()


def _one_bad_case() -> Iterator[Row]:
    several = {
        "strips": "strips CASES/case CASES/other --output OUT",
        "cohort": "evaluate --cohort CASES --predictions DOSES --workers 1",
        "prepare": f"training prepare --cases CASES --output OUT --workers 1 {SETTINGS}",
        "compact": f"training prepare --cases CASES --compact OUT/c.npz --workers 1 {SETTINGS}",
        "predict": "predict CASES/case CASES/other --model MODEL --output OUT",
    }
    for name, call in several.items():
        kinds = list(nifti(b"x" * 100))
        for kind in kinds if name in ("strips", "cohort", "prepare") else kinds[:1]:
            file = f"cases/other/PTV.nii.gz:{kind}"
            yield Row(f"{name} one PTV {kind}", call, (file, None), 3, "other")
        for kind, content in JSON.items():
            if kind in ("twice", "list") or name in ("predict", "compact"):
                continue
            yield Row(f"{name} case {kind}", call, ("cases/other/case.json", content), 3, "other")
    for kind, content in {"empty": b"", "text": b"no image"}.items():
        cohort = several["cohort"]
        yield Row(f"cohort dose {kind}", cohort, ("doses/other/dose.nii.gz", content), 3, "other")


def _damaged_runs() -> Iterator[Row]:
    export = "training export --run RUN --name x --title x --output OUT"
    evaluate = "training evaluate --run RUN --cases CACHE"
    for kind, content in {**checkpoints(), "code": pickle.dumps(Code()), "gone": None}.items():
        for name, call in {"export": export, "evaluate": evaluate}.items():
            row = Row(f"{name} last.pt {kind}", call, ("run/last.pt", content), 2, "last.pt")
            yield row
    for kind, content in {**JSON, "keys": b"{}", "gone": None}.items():
        yield Row(f"export data.json {kind}", export, ("run/data.json", content), 2, "data.json")
        yield Row(f"export config {kind}", export, ("run/config.json", content), 2, "config.json")
    card = "training card --model MODEL --evaluation RUN/data.json --cases x"
    for kind in ("null", "list", "text", "wrong", "empty"):
        yield Row(f"card {kind}", card, ("run/data.json", JSON[kind]), 2, "data.json")


def _damaged_caches() -> Iterator[Row]:
    evaluate = "training evaluate --run RUN --cases CACHE"
    arrays = {
        "empty": b"",
        "text": b"no array",
        "cut": _npy(np.zeros((4, 4, 4), np.float32))[:150],
        "code": _npy(np.array([Code()], dtype=object)),
        "shape": _npy(np.zeros((3, 2), np.float32)),
        "strings": _npy(np.array(["a"])),
        "complex": _npy(np.zeros((4, 4, 4), complex)),
        "gone": None,
    }
    for name, call in {"train": TRAIN, "evaluate": evaluate}.items():
        for kind, content in {**JSON, "keys": b"{}"}.items():
            yield Row(f"{name} cache.json {kind}", call, ("cache/cache.json", content), 2, "cache")
            about = "cache/cases/case/case.json"
            if kind != "twice":
                yield Row(f"{name} case.json {kind}", call, (about, content), 2, "case.json")
        for array in ("dose_gy", "mask_bits"):
            for kind, content in arrays.items():
                file = f"cache/cases/case/{array}.npy"
                yield Row(f"{name} {array} {kind}", call, (file, content), 2, "case")
        yield Row(f"{name} no cases", call, ("cache/cases", None), 2, "cache")
    packed = evaluate.replace("CACHE", "COMPACT")
    for kind, content in {"empty": b"", "text": b"no archive", "npy": _npy(np.zeros(3))}.items():
        yield Row(f"compact {kind}", packed, ("compact.npz", content), 2, "compact.npz")


def _npy(array: np.ndarray) -> bytes:
    import io

    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def _broken_models() -> Iterator[Row]:
    manifest, weights = "models/model/model.json", "models/model/weights.safetensors"
    strict = {
        "show": "models show MODEL",
        "verify": "models verify MODEL",
        "predict": "predict GOOD --model MODEL --output OUT",
        "combine": "models combine MODEL MODEL --name x --output OUT",
    }
    lenient = {"list": "models list", "check": "check"}
    for kind, content in {**JSON, "keys": b"{}", "gone": None}.items():
        for name, call in strict.items():
            yield Row(f"{name} manifest {kind}", call, (manifest, content), 2, "model")
        for name, call in lenient.items():
            yield Row(f"{name} manifest {kind}", call, (manifest, content), 0)
    for kind, content in {"empty": b"", "text": b"x" * 99, "gone": None}.items():
        for name in ("verify", "predict", "combine"):
            yield Row(f"{name} weights {kind}", strict[name], (weights, content), 2, "weights")
        for name, call in lenient.items():
            yield Row(f"{name} weights {kind}", call, (weights, content), 0)


def _unwritable() -> Iterator[Row]:
    dose = "evaluate --case GOOD --prediction GOOD/dose_plan.nii.gz"
    folders = {
        "predict": "predict GOOD --model MODEL --output OUT",
        "strips": "strips GOOD --output OUT",
        "combine": "models combine MODEL MODEL --name x --output OUT",
        "import": "models import RUN/published.pt --name x --protocol pelvis --output OUT",
        "prepare": f"training prepare --cases CASES --output OUT --workers 1 {SETTINGS}",
        "clinical": "training prepare-clinical --cases CASES --output OUT --workers 1",
        "train": TRAIN,
        "export": "training export --run RUN --name x --title x --output OUT",
        "simulate": "training simulate --cases 1 --seed 1 --output OUT",
    }
    files = {
        "csv": f"{dose} --csv OUT",
        "report": f"{dose} --report OUT",
        "cohort csv": "evaluate --cohort CASES --predictions DOSES --workers 1 --csv OUT",
        "rtstruct": "rtstruct DICOM --masks GOOD --output OUT",
        "compact": f"training prepare --cases CASES --compact OUT --workers 1 {SETTINGS}",
        "scores": "training evaluate --run RUN --cases CACHE --output OUT",
        "scores csv": "training evaluate --run RUN --cases CACHE --csv OUT",
    }
    below = {"below a file": "GOOD/ct.nii.gz/x", "below a device": "/dev/null/x", "proc": "/proc/x"}
    for name, call in {**folders, **files}.items():
        own = {"a file": "GOOD/ct.nii.gz"} if name in folders else {"a folder": "GOOD"}
        for kind, place in {**own, **below, "a device": "/dev/null", "loop": "LOOP/x"}.items():
            yield Row(f"{name} into {kind}", call.replace("OUT", place))


ROWS = list(_rows())


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, pelvis_model: DoseModel) -> Path:
    """Cases, doses, cache, compact file, run and model, none of them broken."""
    folder = tmp_path_factory.mktemp("good")
    for name in ("case", "other"):
        path = write_case_folder(folder / "cases" / name, pelvis_case(SIZE, SPACING))
        (folder / "doses" / name).mkdir(parents=True)
        shutil.copy(path / "dose_plan.nii.gz", folder / "doses" / name / "dose.nii.gz")
    shutil.copytree(pelvis_model.folder, folder / "models" / "model")
    write_case_folder(folder / "later_cases" / "third", pelvis_case((22, 16, 12), SPACING))
    for made in (
        "cases --output cache",
        "cases --compact compact.npz",
        "later_cases --output later",
    ):
        cases, option, name = made.split()
        words = f"prepare --cases {folder}/{cases} --workers 1 {SETTINGS} {option} {folder}/{name}"
        assert training(words.split()) == 0
    config = TrainingConfig(
        protocol="pelvis",
        encoding=ENCODING,
        loss=(LossTerm("mae", 1),),
        crop=(16, 16, 16),
        batch_size=1,
        network=NetworkConfig(2, 2),
    )
    trainer = Trainer(config, StructureProtocol.load("pelvis"), folder / "run")
    trainer.save("last.pt")
    described = {"training": {"data": "ellipsoids"}, "licence": "MIT"}
    (folder / "run" / "data.json").write_text(json.dumps(described))
    torch.save(pelvis_model.network().state_dict(), folder / "run" / "published.pt")
    (folder / "loop").symlink_to(folder / "loop")
    slices = tmp_path_factory.mktemp("slices")
    for path in DICOM_SAMPLE.glob("CT_04*.dcm"):
        shutil.copy(path, slices)
    (folder / "slices").symlink_to(slices)
    return folder


def _break(folder: Path, broken: tuple[str, bytes | None] | None) -> None:
    if broken is None:
        return
    name, content = broken
    name, _, kind = name.partition(":")
    path = folder / name
    if kind:
        content = nifti(path.read_bytes())[kind]
    if content is None:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    else:
        path.write_bytes(content)


def _files(folder: Path) -> set[tuple[str, int]]:
    """Every file and link with its time; not what libraries keep for themselves, as fonts."""
    links_too = (path for path in folder.rglob("*") if path.is_symlink() or path.is_file())
    return {(str(p), p.lstat().st_mtime_ns) for p in links_too if ".cache" not in p.parts}


def _words(row: Row, folder: Path) -> list[str]:
    places = {
        "GOOD": folder / "cases/case",
        "CASES": folder / "cases",
        "CACHE": folder / "cache",
        "LATER": folder / "later",
        "COMPACT": folder / "compact.npz",
        "RUN": folder / "run",
        "MODEL": folder / "models/model",
        "DOSES": folder / "doses",
        "OUT": folder / "out",
        "LOOP": folder / "loop",
        "DICOM": folder / "slices",
    }
    words = []
    for word in row.words.split():
        for name, place in places.items():
            if word == name or word.startswith(f"{name}/"):
                word = str(place) + word[len(name) :]
                break
        words.append(word)
    return words


def test_the_rows_are_many_and_apart() -> None:
    assert len(ROWS) >= 250 and len({row.id for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])
def test_what_is_broken_is_named_in_one_line(
    row: Row,
    good: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "in"
    shutil.copytree(good, folder, symlinks=True)
    _break(folder, row.broken)
    monkeypatch.setenv(MODEL_PATH_VARIABLE, str(folder / "models"))
    monkeypatch.chdir(tmp_path)
    words = _words(row, folder)
    before = _files(tmp_path)
    main: Callable[[list[str]], int] = command_line
    if words[0] == "training":
        main, words = training, words[1:]
    code = main(words)
    out, err = capsys.readouterr()
    said = ("warning:", "info:", "Refused ", "failed", "Failed", "prepare:", "unpack:", "\r")
    lines = [line for line in err.splitlines() if not line.startswith(said)]
    assert code == row.code, err
    assert "unexpectedly" not in err + out and "Traceback" not in err + out
    if code == 2:
        assert len([line for line in lines if line.startswith("error: ")]) == 1, err
        assert _files(tmp_path) == before
    assert row.named in err + out
    assert not list(tmp_path.rglob(".partial-*")) and not (tmp_path / "executed").exists()
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("DosePredictionLib models list", 0),
        ("DosePredictionLib check --json", 0),
        ("DosePredictionLib predict nowhere --output out --json", 2),
        ("training card nowhere --evaluation nowhere --cases 1", 2),
    ],
)
@pytest.mark.parametrize("stdout", ["closed", "full"])
def test_a_stdout_that_takes_nothing_is_at_most_one_line(
    words: str, code: int, stdout: str
) -> None:
    redirected = {"closed": ">&-", "full": "> /dev/full"}[stdout]
    done = subprocess.run(
        f"{sys.executable} -m {words} {redirected}",
        shell=True,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    is_printed = code == 0 and stdout == "full"
    assert done.returncode == (2 if is_printed else code), done.stderr
    assert len(done.stderr.splitlines()) == (1 if done.returncode else 0), done.stderr
    assert "Traceback" not in done.stderr
