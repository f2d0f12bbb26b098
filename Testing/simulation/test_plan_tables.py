"""What a model makes of the plans of a cohort: kept, and the tables of techniques and wishes."""

from __future__ import annotations

import argparse
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from beams.beam_phantoms import beam_model
from support import pelvis_case

from benchmarks.plan_figures import (
    OrganFigures,
    PlanFigures,
    Planned,
    figures_of_cohort,
    softened,
)
from benchmarks.techniques import card_of
from benchmarks.techniques import describe as describe_techniques
from benchmarks.wishes import changes_of
from benchmarks.wishes import describe as describe_wishes
from DosePredictionLib.beams.arrangement import parse_beams
from DosePredictionLib.encoding.encoder import EncodingSettings, GridSettings
from DosePredictionLib.encoding.strips import StripSettings
from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.files import write_json
from DosePredictionLib.inference.predictor import Predictor
from DosePredictionLib.io.nifti import write_case_folder
from DosePredictionLib.wishes import Wish
from training.simulation.planning import PlanQuality
from training.simulation.plans import AnatomyPlans, PlanRecord
from training.simulation.population import draw_patient
from training.simulation.scan import draw_scan
from training.simulation.settings import Technique

pytestmark = pytest.mark.usefixtures("one_thread")

RECTUM = Wish("Rectum", 40.0, 25.0)


def record(name: str, technique: Technique, level: int, *wishes: Wish) -> PlanRecord:
    quality = PlanQuality(1.0, 1.05, 0.8, 1.02)
    return PlanRecord(name, technique, False, "0°", level, wishes, {}, quality, (), 1.0)


def anatomy(name: str, site: str, *plans: PlanRecord) -> AnatomyPlans:
    patient = replace(draw_patient(1), site=site)  # type: ignore[arg-type]
    return AnatomyPlans(name, "test", patient, draw_scan(1), plans, 1.0)


def planned(
    of: AnatomyPlans,
    number: int,
    mae_gy: float,
    rectum: tuple[float, float],
    d95_gy: tuple[float, float] = (44.0, 45.0),
    soft_gy: float | None = None,
) -> Planned:
    organs = {"Rectum": OrganFigures((20.0, 22.0), rectum), "SpinalCord": OrganFigures((5.0, 4.0))}
    return Planned(of, of.plans[number], PlanFigures(mae_gy, d95_gy, organs, soft_gy))


@pytest.fixture
def plans() -> list[Planned]:
    """Two anatomies, one with a wish that lowers the rectum's V40 from 50 to 30 %."""
    one = anatomy("a", "cervix", record("a0", "9", 0), record("a1", "9", 1, RECTUM))
    two = anatomy("b", "prostate_only", record("b0", "open", 0))
    return [
        planned(one, 0, 1.0, (45.0, 50.0), soft_gy=0.1),
        planned(one, 1, 2.0, (33.0, 30.0), (44.5, 45.0)),
        planned(two, 0, 3.0, (10.0, 10.0), (42.0, 45.0), soft_gy=0.3),
    ]


def test_errors_by_technique(plans: list[Planned]) -> None:
    beside = [replace(each, figures=replace(each.figures, mae_gy=4.0)) for each in plans]
    lines = {
        line[:16].strip(): line[16:].split()
        for line in describe_techniques(plans, beside).splitlines()
    }
    assert lines["9"][:6] == ["2", "1.50", "(1.50", "to", "1.50)", "0.75"]
    assert lines["open"][0:2] == ["1", "3.00"] and lines["open"][5:9] == [
        "3.00",
        "-",
        "3.00",
        "(1)",
    ]
    assert lines["all"][1] == "2.00" and lines["all"][-3:] == ["4.00", "50", "%"]
    assert lines["all"][5:10] == ["1.50", "0.75", "3.00", "(1)", "1.50"]
    assert lines["with wishes"][1] == "2.00" and "5" not in lines
    card = card_of(plans, "three plans")
    assert card["mae_body_gy"]["mean"] == 2.0 and card["mae_body_gy"]["patients"] == 2
    assert card["by_group"]["9"]["target_d95_gy"] == 0.75
    text = describe_techniques(plans)
    assert "change the dose by 0.200 Gy" in text and "10 % of the error of the same 2 plans" in text
    assert text.splitlines()[-4].split() == ["Rectum", "3", "2.00", "2.7"]


def test_a_wishs_change_by_hand(plans: list[Planned]) -> None:
    (change,) = changes_of(plans)
    assert (change.plan, change.wish) == ("a1", RECTUM)
    assert (change.planned, change.predicted) == (-20.0, -12.0)
    assert change.target_gy == pytest.approx(0.5)
    text = describe_wishes([change])
    assert "sign right in 1 of 1; size off by 40 % in the median" in text
    opposite = replace(change, anatomy="b", planned=0.4, predicted=-0.4, target_gy=-2.0)
    all_of_them, felt, largest, rectum = describe_wishes([change, opposite]).splitlines()[-4:]
    assert "right in 1 of 2" in all_of_them and "2.00 at most" in all_of_them
    assert "right in 1 of 1" in felt and "right in 1 of 2" in largest
    assert rectum.startswith("Rectum: sign right in 1 of 1")
    assert describe_wishes([]).startswith("No plan with wishes")


SETTINGS = EncodingSettings(
    GridSettings("fixed-spacing", spacing_mm=(12.0, 12.0, 12.0)),
    masks="occupancy",
    strips=StripSettings(angles=()),
    dose_scale_gy=45.0,
    further={"beam": {}, "wish": {"dose_gy": {"Rectum": 40.0}}},
)


def test_a_cohort_is_predicted_once(tmp_path: Path) -> None:
    cohort = tmp_path / "cohort"
    beams = parse_beams("0,120,240")
    case = pelvis_case((32, 32, 24), (12.0, 12.0, 8.0))
    body = case.structures["Body"].majority()
    case = replace(
        case, beams=beams, plan_dose=case.ct.with_array(np.where(body, 20.0, 0.0).astype("f4"))
    )
    of = anatomy("a", "cervix", record("a0", "9", 0), record("a1", "9", 1, RECTUM))
    for each in of.plans:
        wished = replace(case, wishes=each.wishes)
        write_case_folder(cohort / "test" / each.name, wished)
    (cohort / "records").mkdir()
    write_json(cohort / "records" / "a.json", asdict(of))
    model = beam_model(tmp_path / "model", SETTINGS, beams)
    call = argparse.Namespace(cohort=cohort, split="test", workers=1, figures=None)
    first = figures_of_cohort(call, str(model.folder), 5, soft=True)
    assert [each.plan.name for each in first] == ["a0", "a1"]
    dose = Predictor(model).predict(case).dose.array
    assert first[0].figures.mae_gy == pytest.approx(np.abs(dose - 20.0)[body].mean(), rel=1e-3)
    assert first[0].figures.soft_gy is not None and first[0].figures.soft_gy > 0
    assert first[1].figures.soft_gy is None
    wished = first[0].figures.organs["Rectum"].wished_percent
    assert wished is not None and "Bladder" in first[0].figures.organs
    shutil.rmtree(cohort / "test")  # nothing is read again
    assert figures_of_cohort(call, str(model.folder), 5, soft=True) == first
    with pytest.raises(DosePredictionError, match="no plans of the split 'calibration'"):
        figures_of_cohort(
            argparse.Namespace(**{**vars(call), "split": "calibration"}), str(model.folder), 5
        )


def test_soft_organs_beside_a_sharp_target() -> None:
    case = pelvis_case((48, 48, 32), (8.0, 8.0, 8.0))
    soft = softened(case).structures
    assert soft["PTV"] is case.structures["PTV"] and soft["Body"] is case.structures["Body"]
    blurred, drawn = soft["Rectum"].array, case.structures["Rectum"].array
    assert ((blurred > 0.01) & (blurred < 0.99)).any()
    assert blurred.sum() == pytest.approx(drawn.sum(), rel=0.02)
