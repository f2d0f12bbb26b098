"""Use cases without their programs: what they refuse, what they write, what they import."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import ROOT, pelvis_case, prediction_of, write_case_folder, write_nifti

from DosePredictionLib.app.choices import MappingChoice
from DosePredictionLib.app.evaluate import (
    CohortRequest,
    EvaluateRequest,
    EvaluationSettings,
    evaluate_case_files,
    evaluate_cohort,
    write_evaluation_report,
)
from DosePredictionLib.app.outputs import OutputRequest, earlier_files, write_outputs
from DosePredictionLib.app.several import CaseFailure, work_on_cases
from DosePredictionLib.app.strips import StripsRequest, write_strips
from DosePredictionLib.case import DOSE_MASK, Case
from DosePredictionLib.errors import CaseError, MappingError
from DosePredictionLib.evaluation.goals import GoalSet
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.structures.bound import bind

SMALL = ((40, 32, 24), (10.0, 10.0, 10.0))


@pytest.fixture
def small() -> Case:
    return pelvis_case(*SMALL)


# ---------------------------------------------------------------- without torch, Qt or argparse


def test_requests_and_evaluation_need_neither_torch_nor_argparse(tmp_path: Path) -> None:
    """In a Python where torch, Qt and slicer cannot be imported."""
    names = sorted(path.stem for path in (ROOT / "DosePredictionLib" / "app").glob("*.py"))
    assert len(names) > 10
    modules = [f"DosePredictionLib.app.{name}" for name in names if name != "__init__"]
    blocked = ("torch", "qt", "slicer", "vtk")
    for name in blocked:
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('no {name} here')\n")
    lines = [f"import {module}" for module in [*modules, "DosePredictionLib.evaluation.evaluate"]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    code = "\n".join(lines)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    for name in names:
        text = (ROOT / "DosePredictionLib" / "app" / f"{name}.py").read_text(encoding="utf-8")
        assert "import argparse" not in text and "Namespace" not in text, name


def test_only_the_command_line_imports_the_command_line() -> None:
    outside = [*(ROOT / "training").rglob("*.py"), *(ROOT / "DosePrediction").rglob("*.py")]
    outside += [
        path
        for path in (ROOT / "DosePredictionLib").rglob("*.py")
        if "cli" not in path.parts and path.name != "__main__.py"
    ]
    for path in outside:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(from|import) \S*\.cli\b", text, re.MULTILINE), path


# ---------------------------------------------------------------- outputs are one set


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_second_prediction_takes_the_place_of_the_first_whole(
    tmp_path: Path, small: Case, pelvis_model: DoseModel
) -> None:
    prediction = prediction_of(small, pelvis_model)
    first = OutputRequest(tmp_path, "nrrd", goals=None, report=True)
    folder = write_outputs(prediction, first, 0.0, 0.0).folder
    (folder / "notes.txt").write_text("a person's own")
    assert names_in(folder) == {"dose.nrrd", "prediction.json", "report.html", "notes.txt"}
    second = write_outputs(prediction, OutputRequest(tmp_path, goals=None), 0.0, 0.0)
    assert names_in(folder) == {"dose.nii.gz", "prediction.json", "notes.txt"}
    assert second.as_json()["report"] is None
    write_outputs(prediction, OutputRequest(tmp_path, published_names=True), 0.0, 0.0)
    assert "dose.nii.gz" not in names_in(folder) and len(names_in(folder)) == 3


def test_a_file_that_cannot_be_placed_leaves_the_earlier_set(
    tmp_path: Path, small: Case, pelvis_model: DoseModel
) -> None:
    prediction = prediction_of(small, pelvis_model)
    folder = write_outputs(prediction, OutputRequest(tmp_path, "nrrd"), 0.0, 0.0).folder
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "report.html").mkdir()
    with pytest.raises(ValueError, match=r"report.html is a folder"):
        write_outputs(prediction, OutputRequest(tmp_path, report=True), 0.0, 0.0)
    (folder / "report.html").rmdir()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not list(tmp_path.glob(".partial-*"))


@pytest.mark.parametrize(
    "record",
    ['{"files": ["../victim", "/etc/x", "..", ".", "", "tables", 3]}', "[]", "{", '{"files": 7}'],
)
def test_a_foreign_record_removes_nothing(tmp_path: Path, record: str) -> None:
    folder = tmp_path / "case"
    (folder / "tables").mkdir(parents=True)
    (tmp_path / "victim").write_text("kept")
    (folder / "prediction.json").write_text(record)
    assert earlier_files(folder) == frozenset()


def test_a_record_of_an_earlier_version_names_its_dose(tmp_path: Path) -> None:
    (tmp_path / "dose.dcm").write_text("")
    (tmp_path / "prediction.json").write_text('{"dose": "dose.dcm", "spread": null}')
    assert earlier_files(tmp_path) == {"dose.dcm"}


# ---------------------------------------------------------------- several cases


class Done:
    def as_json(self) -> dict[str, Any]:
        return {"case": "good"}


@pytest.mark.parametrize(
    "error", [CaseError("no CT"), OSError(28, "No space"), MemoryError(), RecursionError("deep")]
)
def test_whatever_one_case_raises_is_its_failure_alone(tmp_path: Path, error: Exception) -> None:
    paths = [tmp_path / "bad", tmp_path / "good"]

    def work(path: Path) -> Done:
        if path.name == "bad":
            raise error
        return Done()

    seen: list[CaseFailure] = []
    several = work_on_cases(paths, work, seen.append)
    assert several.as_json()["cases"] == [{"case": "good"}]
    assert [failure.case for failure in several.failed] == ["bad"] == [f.case for f in seen]
    assert several.failed[0].error and "\n" not in several.failed[0].error
    with pytest.raises(type(error)):
        work_on_cases(paths[:1], work)


# ---------------------------------------------------------------- evaluate


def hotter(path: Path, case: Case) -> Path:
    assert case.plan_dose is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_nifti(path, case.plan_dose.with_array(case.plan_dose.array + np.float32(1)))


def test_a_mapping_by_hand_counts_when_the_protocol_is_chosen(
    run: Callable[..., Any], tmp_path: Path, small: Case
) -> None:
    names = {"PTV": "Ziel", "Rectum": "Darm", "Bladder": "Blase"}
    folder = write_case_folder(tmp_path / "p", small, names=names)
    dose = hotter(tmp_path / "dose.nii.gz", small)
    options = [f"--map={channel}={name}" for channel, name in names.items()]
    call = ("evaluate", "--case", folder, "--prediction", dose)
    code, result, _ = run(*call, *options)
    assert code == 0 and result["protocol"] == "pelvis"
    assert result["structures"]["Rectum"]["mae_gy"] == pytest.approx(1, abs=1e-5)
    assert result["dvh_score_gy"] == pytest.approx(1, abs=1e-5)
    mapping = tmp_path / "mapping.json"
    mapping.write_text(json.dumps({"protocol": "pelvis", "channels": names}))
    assert run(*call, "--mapping", mapping)[1]["structures"].keys() == result["structures"].keys()
    code, result, error = run(*call)
    assert code == 0 and result["protocol"] is None and "Darm" in result["structures"]
    assert "no-protocol" in {check["id"] for check in result["checks"]}
    assert "warning:" in error and "Traceback" not in error
    code, result, _ = run(*call, "--map", "PTV=Ziel")
    assert code == 2 and "Rectum" in result["error"]["message"]


def test_without_a_protocol_there_are_gamma_and_a_report(tmp_path: Path, small: Case) -> None:
    names = {"PTV": "Boost", "Rectum": "Heart", "Bladder": "Lung_L"}
    folder = write_case_folder(tmp_path / "p", small, names=names)
    dose = hotter(tmp_path / "dose.nii.gz", small)
    settings = EvaluationSettings(gamma=("3%/3mm",))
    evaluated = evaluate_case_files(EvaluateRequest(folder, dose, None, settings))
    assert 0 <= evaluated.as_json()["gamma"]["3%/3mm"]["pass_rate_percent"] <= 100
    assert evaluated.bound.external_name == "Body"
    write_evaluation_report(evaluated, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Heart" in page and "Clinical goals" not in page


@pytest.mark.parametrize(
    "names",
    [
        {"PTV": "PTV", "Bladder": "Heart", "Rectum": "Lung_L", "Marrow": "Breast_L"},
        {"PTV": "PTV_5000", "Bladder": "Lungs", "Rectum": "Esophagus", "Marrow": "Heart"},
        {"PTV": "PTV", "Bladder": "Segment one", "Rectum": "Segment two"},
    ],
    ids=["breast", "lung", "names that say nothing"],
)
def test_a_target_and_a_cord_are_no_body_site(
    tmp_path: Path, small: Case, names: dict[str, str]
) -> None:
    folder = write_case_folder(tmp_path / "p", small, names=names)
    dose = hotter(tmp_path / "dose.nii.gz", small)
    record = evaluate_case_files(EvaluateRequest(folder, dose)).as_json()
    assert record["protocol"] is None
    assert set(names.values()) <= set(record["structures"])
    assert all(each["mae_gy"] is not None for each in record["structures"].values())


def test_a_case_of_nothing_but_a_protocols_structures_fits_it(small: Case) -> None:
    ptv, body = small.structures["PTV"], small.structures["Body"]
    bound = bind(replace(small, structures={"PTV70": ptv, "SpinalCord": ptv, "External": body}))
    assert bound.protocol is not None and bound.protocol.id == "openkbp"


def test_two_structures_for_one_channel_are_refused_not_taken_for_another_body_site(
    tmp_path: Path, small: Case
) -> None:
    folder = write_case_folder(tmp_path / "p", small)
    write_nifti(folder / "Rektum.nii.gz", small.structures["Rectum"])
    write_nifti(folder / "Enddarm.nii.gz", small.structures["Rectum"])
    (folder / "Rectum.nii.gz").unlink()
    dose = hotter(tmp_path / "dose.nii.gz", small)
    with pytest.raises(MappingError, match="--map Rectum="):
        evaluate_case_files(EvaluateRequest(folder, dose))


def test_a_cohorts_dose_is_the_one_that_the_record_names(tmp_path: Path, small: Case) -> None:
    write_case_folder(tmp_path / "cohort" / "a", small)
    write_case_folder(tmp_path / "cohort" / "b", small)
    for name in ("a", "b"):
        hotter(tmp_path / "out" / name / "dose.nii.gz", small)
    (tmp_path / "out" / "a" / "dose.dcm").write_text("of an earlier prediction")
    (tmp_path / "out" / "b" / "dose.dcm").write_text("of an earlier prediction")
    (tmp_path / "out" / "a" / "prediction.json").write_text('{"dose": "dose.nii.gz"}')
    cohort = evaluate_cohort(CohortRequest(tmp_path / "cohort", tmp_path / "out", workers=1))
    assert [record["case"] for record in cohort.records] == ["a"]
    (failure,) = cohort.failed
    assert failure.case == "b" and "dose.dcm, dose.nii.gz" in failure.error


def test_a_dose_mask_in_a_folder_is_the_region_of_the_score(tmp_path: Path, small: Case) -> None:
    folder = write_case_folder(tmp_path / "p", small)
    dose = hotter(tmp_path / "dose.nii.gz", small)
    half = np.zeros(small.grid.shape, np.float32)
    half[:, :16] = 1
    write_nifti(folder / f"{DOSE_MASK}.nii.gz", small.ct.with_array(half))
    record = evaluate_case_files(EvaluateRequest(folder, dose)).as_json()
    assert record["dose_score_region"] == DOSE_MASK and DOSE_MASK not in record["structures"]
    assert record["dose_score_gy"] == pytest.approx(2.0, rel=1e-5)  # all voxels over half of them
    with pytest.raises(CaseError, match="two dose masks"):
        mask = small.structures["Body"]
        replace(small, dose_mask=mask, structures={**small.structures, DOSE_MASK: mask})


# ---------------------------------------------------------------- strips, goals


def test_strips_of_an_all_zero_target_are_refused(tmp_path: Path, small: Case) -> None:
    folder = write_case_folder(tmp_path / "p", small)
    empty = small.ct.with_array(np.zeros(small.grid.shape, np.uint8))
    write_nifti(folder / "PTV.nii.gz", empty)
    for protocol in (None, "pelvis"):
        request = StripsRequest((folder,), tmp_path / "out", protocol=protocol)
        with pytest.raises(CaseError, match=r"no target.*all-zero"):
            write_strips(request)
    assert not (tmp_path / "out").exists()


def test_strips_take_a_target_that_is_mapped_by_hand(tmp_path: Path, small: Case) -> None:
    folder = write_case_folder(tmp_path / "p", small, names={"PTV": "Ziel"})
    request = StripsRequest((folder,), mapping=MappingChoice.parse(["PTV=Ziel"]))
    (case,) = write_strips(request).done
    assert all(file.is_file() for file in case.files) and len(case.files) == 4


def test_a_shipped_set_of_goals_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = GoalSet.default("pelvis", {"PTV": 45.0})
    monkeypatch.setattr(Path, "read_text", None)
    assert GoalSet.default("pelvis", {"PTV": 45.0}) is first is not None


def test_goals_find_structures_without_a_protocol_by_their_names(small: Case) -> None:
    names = {"PTV": "Boost", "Rectum": "Heart", "Bladder": "Lung_L"}
    structures = {names.get(name, name): mask for name, mask in small.structures.items()}
    bound = bind(replace(small, structures=structures))
    assert bound.protocol is None
    assert bound.resolve("heart") == "Heart" and bound.resolve("Rectum") is None
