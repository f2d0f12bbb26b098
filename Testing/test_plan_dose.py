"""A plan dose that does not belong is named with its cause, never scored and never learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import SAMPLES, pelvis_case, write_case_folder, write_nifti

from DosePredictionLib.case import Case, Prescription
from DosePredictionLib.checks.body_site import OTHER_SITE
from DosePredictionLib.checks.plan_dose import (
    IMPOSSIBLE,
    NOT_COMPARABLE,
    UNLIKE,
    learning_finding,
    plan_finding,
)
from DosePredictionLib.checks.registry import check_case
from DosePredictionLib.encoding.prescription import require_each_level
from DosePredictionLib.encoding.settings import EncodingSettings, GridSettings
from DosePredictionLib.errors import CaseError, PredictionError
from DosePredictionLib.evaluation.evaluate import evaluate
from DosePredictionLib.findings import DOSE_GAP, UNCERTAIN_DOSE, Finding, each_once
from DosePredictionLib.inference.predictor import Predictor
from DosePredictionLib.io import read_case
from DosePredictionLib.models.expectations import ModelExpectations
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol

PELVIS = StructureProtocol.load("pelvis")
ENCODING = EncodingSettings(GridSettings("fixed-spacing", spacing_mm=(6.0, 6.0, 6.0)))


def with_plan(factor: float) -> Case:
    case = pelvis_case()
    assert case.plan_dose is not None
    return replace(case, plan_dose=case.plan_dose.with_array(case.plan_dose.array * factor))


FAULTS = {
    "cGy": (100.0, IMPOSSIBLE, "cGy"),
    "one fraction": (1 / 25, IMPOSSIBLE, "one fraction"),
    "one fraction in cGy": (4.0, IMPOSSIBLE, "one fraction in cGy"),
    "percent": (100 / 45, IMPOSSIBLE, "percent"),
    "absurd": (1e6, IMPOSSIBLE, "no plan has"),
    "zero": (0.0, IMPOSSIBLE, "zero everywhere"),
    "negative": (-1.0, IMPOSSIBLE, "negative"),
    "half": (0.5, UNLIKE, "hardly belong"),
}


@pytest.mark.parametrize(("factor", "id", "words"), FAULTS.values(), ids=FAULTS)
def test_a_plan_that_does_not_belong_is_neither_scored_nor_learned(
    factor: float, id: str, words: str
) -> None:
    bound = bind(with_plan(factor), PELVIS)
    found = plan_finding(bound)
    assert found is not None and found.id == id and words in found.message
    assert learning_finding(bound) == found
    dose = pelvis_case().plan_dose
    assert dose is not None
    evaluation = evaluate(bound, dose)
    assert evaluation.scores is None and evaluation.planned is None


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.15])
def test_a_plan_near_its_prescription_belongs(factor: float) -> None:
    assert plan_finding(bind(with_plan(factor), PELVIS)) is None


@pytest.mark.parametrize(
    "sample", ["eclipse_rando_prostate", "eclipse_rando_prostate_dicom", "openkbp/pt_235.npz"]
)
def test_the_shipped_plans_belong(sample: str) -> None:
    assert learning_finding(bind(read_case(SAMPLES / sample))) is None


def test_without_a_prescription_the_limits_are_absolute() -> None:
    in_cgy = plan_finding(bind(replace(with_plan(100.0), prescription=None), PELVIS))
    assert in_cgy is not None and "cGy" in in_cgy.message
    assert plan_finding(bind(replace(with_plan(0.5), prescription=None), PELVIS)) is None


@pytest.mark.parametrize(("name", "severity"), [("Rectum", "info"), ("Body", "warning")])
def test_a_dose_that_leaves_out_what_is_scored_is_not_compared(name: str, severity: str) -> None:
    gap = Finding(DOSE_GAP, severity, f"It covers only 10 % of {name}.", "", name)  # type: ignore[arg-type]
    found = plan_finding(bind(replace(pelvis_case(), findings=(gap,)), PELVIS))
    assert found is not None and found.structure == name and "10 %" in found.message


@pytest.mark.parametrize("id", sorted(UNCERTAIN_DOSE))
def test_a_doubtful_dose_is_not_learned(id: str) -> None:
    doubt = Finding(id, "warning", "Doubtful.")
    assert learning_finding(bind(replace(pelvis_case(), findings=(doubt,)), PELVIS)) is not None


@pytest.mark.parametrize("name", ["cGy", "one fraction", "half"])
def test_training_refuses_such_a_case(tmp_path: Path, name: str) -> None:
    from training.data import TrainingCase

    folder = write_case_folder(tmp_path / "case", with_plan(FAULTS[name][0]))
    with pytest.raises(CaseError, match=FAULTS[name][2]):
        TrainingCase.read(
            folder,
            PELVIS,
            EncodingSettings(GridSettings("fixed-spacing", spacing_mm=(6.0, 6.0, 6.0))),
        )


@pytest.mark.parametrize("name", ["cGy", "one fraction", "absurd", "zero"])
@pytest.mark.parametrize("what", ["plan", "prediction"])
def test_evaluate_refuses_it_in_one_line(
    run: Callable, tmp_path: Path, name: str, what: str
) -> None:
    case, wrong = pelvis_case(), with_plan(FAULTS[name][0])
    assert case.plan_dose is not None and wrong.plan_dose is not None
    folder = write_case_folder(tmp_path / "case", wrong if what == "plan" else case)
    dose = case.plan_dose if what == "plan" else wrong.plan_dose
    file = write_nifti(tmp_path / "dose.nii.gz", dose.with_array(dose.array.astype(np.float32)))
    code, record, _ = run("evaluate", "--case", folder, "--prediction", file)
    assert code == 2 and FAULTS[name][2] in record["error"]["message"]


HEAD_AND_NECK = StructureProtocol.load("openkbp")
LEVELS = {"PTV70": 70.0, "PTV63": 63.0, "PTV56": 56.0}


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({"PTV70": 60.0}, "PTV63, PTV56"),
        ({"PTV70": 70.0, "PTV56": 56.0}, "PTV63"),
        ({"PTV": 60.0}, "for PTV, which is no target"),
        (LEVELS | {"PVT56": 56.0}, "for PVT56, which is no target"),
        (LEVELS, ""),
    ],
)
def test_a_model_of_several_levels_needs_each_targets_prescription(
    given: dict[str, float], refused: str
) -> None:
    case = read_case(SAMPLES / "openkbp/pt_235.npz")
    bound = bind(case, HEAD_AND_NECK, None, Prescription(given))
    if refused:
        with pytest.raises(CaseError, match=refused):
            require_each_level(bound, LEVELS)
    else:
        require_each_level(bound, LEVELS)


def test_the_shipped_model_refuses_one_level_before_it_computes() -> None:
    case = read_case(SAMPLES / "openkbp/pt_235.npz")
    with pytest.raises(CaseError, match="has a level for each target"):
        Predictor("openkbp-two-stage", "cpu").predict(
            case, prescription=Prescription({"PTV70": 60})
        )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"PTV70": 60.0}, ["PTV70"]),
        ({"PTV70": 66.0, "PTV63": 63.0, "PTV56": 54.0}, ["PTV70", "PTV56"]),
        ({"PTV70": 69.96, "PTV63": 63.0, "PTV56": 56.0}, []),
        ({"PTV": 60.0}, ["PTV"]),
        (LEVELS, []),
    ],
)
def test_a_dose_of_several_levels_that_is_not_scaled_says_so(
    given: dict[str, float], said: list[str]
) -> None:
    case = replace(read_case(SAMPLES / "openkbp/pt_235.npz"), prescription=Prescription(given))
    found = check_case(bind(case, HEAD_AND_NECK), ModelExpectations(prescription_gy=LEVELS))
    unlike = [finding for finding in found if finding.id == "prescription-unlike-model"]
    assert [finding.structure for finding in unlike] == said
    assert all("not scaled" in f.remedy and f.severity == "warning" for f in unlike)


@pytest.mark.parametrize("severity", ["info", "warning"])
def test_that_a_plan_covers_too_little_is_said_once(severity: str) -> None:
    gap = Finding(DOSE_GAP, severity, "It covers only 10 % of Rectum.", "", "Rectum")  # type: ignore[arg-type]
    bound = bind(replace(pelvis_case(), findings=(gap,)), PELVIS)
    found = each_once([*bound.findings, *check_case(bound)])
    about = [finding for finding in found if finding.message == gap.message]
    assert [finding.id for finding in about] == [NOT_COMPARABLE]


@pytest.mark.parametrize("given", [{"PTV": 50.4}, {"PTV": 45.0}])
def test_a_model_of_one_level_takes_its_targets_dose(given: dict[str, float]) -> None:
    require_each_level(bind(pelvis_case(), PELVIS, None, Prescription(given)), {"PTV": 45.0})


@pytest.mark.parametrize("stray", ["PVT", "ptv", "Rectum", "GTV"])
def test_a_prescription_with_a_name_of_no_target_is_refused(stray: str) -> None:
    bound = bind(pelvis_case(), PELVIS, None, Prescription({"PTV": 45.0, stray: 50.0}))
    with pytest.raises(CaseError, match=f"for {stray}, which is no target"):
        require_each_level(bound, {"PTV": 45.0})


def test_a_forced_model_of_another_site_predicts_with_a_warning() -> None:
    pelvis = pelvis_case()
    masks = dict(pelvis.structures)
    names = ("PTV", "Bladder", "Rectum", "Body")
    case = replace(
        pelvis, structures={n: masks[n] for n in names}, prescription=None, plan_dose=None
    )
    predictor = Predictor("openkbp-two-stage", "cpu")
    with pytest.raises(PredictionError, match="--force-model"):
        predictor.predict(case, {"PTV70": "PTV"})
    forced = predictor.predict(case, {"PTV70": "PTV"}, force_model=True)
    found = {finding.id: finding.severity for finding in forced.findings}
    assert found[OTHER_SITE] == "warning"
