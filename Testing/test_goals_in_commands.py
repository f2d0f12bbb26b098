"""Goals, scorecards, tables and comparisons as the commands give them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from support import pelvis_case, write_case_folder, write_nifti

from DosePredictionLib.case import Case
from DosePredictionLib.evaluation.dvh import dvh
from DosePredictionLib.evaluation.goals import GoalSet
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol


@pytest.fixture
def shifted(tmp_path: Path, case: Case) -> Path:
    """The plan's dose and 1 Gy."""
    assert case.plan_dose is not None
    return write_nifti(
        tmp_path / "shifted.nii.gz", case.plan_dose.with_array(case.plan_dose.array + 1.0)
    )


def goals_file(path: Path, *goals: dict) -> Path:
    content = {"schema": "dose-prediction-goals/1", "title": "Test", "goals": goals}
    path.write_text(json.dumps(content))
    return path


def test_the_shipped_set_for_the_case_is_judged_unless_another_is_chosen(run, case_folder, shifted):
    call = ("evaluate", "--case", case_folder, "--prediction", shifted)
    code, result, _ = run(*call)
    assert code == 0 and result["goal_set"] == "pelvis_nodal_45_50"
    assert len(result["goals"]) == len(GoalSet.load("pelvis_nodal_45_50").goals)
    code, result, _ = run(*call, "--goals", "none")
    assert code == 0 and result["goals"] == [] and result["goal_set"] is None


def test_a_goals_own_file_is_judged_for_the_prediction_and_for_the_plan(
    run, tmp_path, case, case_folder, shifted
):
    mean_gy = dvh(case.plan_dose, case.structures["Rectum"]).mean_gy
    goals = goals_file(
        tmp_path / "goals.json",
        {"structure": "Rectum", "goal": f"Dmean <= {mean_gy + 0.5:.4f} Gy"},
        {"structure": "Uterus", "goal": "Dmean <= 3 Gy"},
    )
    code, result, _ = run(
        "evaluate", "--case", case_folder, "--prediction", shifted, "--goals", goals
    )
    assert code == 0
    judged, unknown = result["goals"]
    assert judged["status"] == "not_met" and judged["margin"] == pytest.approx(-0.5, abs=0.01)
    assert judged["reference"]["status"] == "met"
    assert judged["reference"]["margin"] == pytest.approx(0.5, abs=0.01)
    assert unknown["status"] == "not_evaluable" and "Uterus" in unknown["reason"]
    assert unknown["value"] is None and unknown["reference"]["value"] is None


def test_a_goal_that_cannot_be_read_shows_the_place(run, tmp_path, case_folder, shifted):
    goals = goals_file(tmp_path / "goals.json", {"structure": "PTV", "goal": "V40Gy =< 3 %"})
    code, result, _ = run(
        "evaluate", "--case", case_folder, "--prediction", shifted, "--goals", goals
    )
    assert code == 2
    message = result["error"]["message"]
    assert "goal 1" in message and "character 7" in message
    code, result, _ = run(
        "evaluate", "--case", case_folder, "--prediction", shifted, "--goals", "pelvis"
    )
    assert code == 2 and "pelvis_nodal_45_50" in result["error"]["message"]


def test_goals_bind_to_the_structure_that_they_name_not_to_the_channel():
    case = pelvis_case()
    protocol = StructureProtocol.load("pelvis")
    bowel = case.structures.pop("Small_Intestine")
    case.structures.update(Bowel_Bag=bowel, ROI_7=case.structures.pop("Rectum"))
    chosen = {"Small_Intestine": "Bowel_Bag", "Rectum": "ROI_7"}
    resolve = bind(case, protocol, chosen).resolve
    assert resolve("Bowel_Bag") == "Small_Intestine"
    assert resolve("Small_Intestine") is None
    assert resolve("rectum") == "Rectum" == resolve("ROI_7")
    assert resolve("Femoral head left") == "FemurHead_L"
    assert resolve("Uterus") is None


def test_predict_writes_goals_with_and_without_a_plan(run, tmp_path, case, pelvis_model):
    folders = [write_case_folder(tmp_path / "planned", case)]
    folders.append(write_case_folder(tmp_path / "unplanned", case))
    (folders[1] / "dose_plan.nii.gz").unlink()
    out = tmp_path / "out"
    goals = goals_file(tmp_path / "goals.json", {"structure": "PTV", "goal": "Dmean >= 0 Gy"})
    code, result, _ = run(
        "predict", *folders, "--model", pelvis_model.folder, "--output", out, "--goals", goals,
        "--figures",
    )  # fmt: skip
    assert code == 0
    records = [json.loads(Path(r["prediction"]).read_text()) for r in result["cases"]]
    for record in records:
        assert [goal["status"] for goal in record["goals"]] == ["met"]
        assert (out / record["case"] / "dvh.png").read_bytes()[:4] == b"\x89PNG"
    assert "reference" in records[0]["goals"][0] and "reference" not in records[1]["goals"][0]
    assert records[0]["goal_set"] == "goals"


def test_every_number_as_a_table_and_as_a_report(run, tmp_path, case_folder, shifted):
    table, report = tmp_path / "numbers.csv", tmp_path / "report.html"
    code, result, _ = run(
        "evaluate", "--case", case_folder, "--prediction", shifted, "--csv", table,
        "--report", report,
    )  # fmt: skip
    assert code == 0
    rows = list(csv.DictReader(table.open()))
    by_measure = {(row["structure"], row["measure"]): row for row in rows}
    mean = by_measure["Bladder", "Dmean_gy"]
    assert float(mean["difference"]) == pytest.approx(1.0, abs=1e-4)
    goal = by_measure["Bladder", "goal V45Gy <= 35 %"]
    assert goal["status"] in {"met", "not_met"} and goal["reference_status"] == "met"
    assert float(goal["prediction"]) >= float(goal["reference"])
    text = report.read_text()
    assert text.count("ICRU Report 62") == 1  # a source is cited once, under the table
    assert "Clinical goals" in text and "V30Gy" in text and "not for clinical use" in text.lower()
    assert result["pelvic_score_points"] > 0 and result["masked_mae_d97_gy"] is not None


def test_a_scorecard_is_scored(run, tmp_path, case, case_folder, shifted):
    mean_gy = dvh(case.plan_dose, case.structures["Bladder"]).mean_gy + 1
    points = [{"PointX": 0, "Score": 10}, {"PointX": 2 * mean_gy, "Score": 0}]
    card = tmp_path / "card.json"
    template = {
        "Structure": {"TemplateStructureId": "Bladder"},
        "MetricType": "MeanDose",
        "OutputUnit": "Gy",
        "ScorePoints": points,
    }
    card.write_text(json.dumps({"TemplateName": "Bladder only", "ScoreTemplates": [template]}))
    code, result, _ = run(
        "evaluate", "--case", case_folder, "--prediction", shifted, "--scorecard", card
    )
    assert code == 0
    assert result["scorecard"]["score"] == pytest.approx(5.0, abs=0.01)


def test_two_models_are_compared_by_patient(run, tmp_path, case):
    rng = np.random.default_rng(0)
    for index in range(6):
        write_case_folder(tmp_path / "cohort" / f"p{index}", case)
        for model, offset in (("a", 1.0), ("b", 2.0)):
            folder = tmp_path / model / f"p{index}"
            folder.mkdir(parents=True)
            dose = case.plan_dose.array + np.float32(offset + 0.1 * rng.random())
            write_nifti(folder / "dose.nii.gz", case.plan_dose.with_array(dose))
    code, result, _ = run(
        "evaluate", "--cohort", tmp_path / "cohort", "--predictions", tmp_path / "a",
        "--compare", tmp_path / "b", "--csv", tmp_path / "all.csv", "--goals", "none",
        "--workers", "1",
    )  # fmt: skip
    assert code == 0
    entry = next(e for e in result["comparison"] if e["key"] == "mae_body_gy")
    assert entry["mean_difference"] == pytest.approx(1.0, abs=0.1) and entry["p_value"] < 0.05
    assert len({row["case"] for row in csv.DictReader((tmp_path / "all.csv").open())}) == 6


def test_templates_are_for_distinct_prescriptions():
    chosen = {
        gy: GoalSet.default("pelvis", {"PTV": gy}).id for gy in (45.0, 46.0, 50.4, 60.0, 78.0)
    }
    assert chosen[45.0] == chosen[46.0] == chosen[50.4] == "pelvis_nodal_45_50"
    assert chosen[60.0] == "prostate_60_20" and chosen[78.0] == "prostate_78_39"
    assert GoalSet.default("openkbp", {"PTV70": 70.0, "PTV56": 56.0}).id == "head_neck_70_35"
    assert GoalSet.default("pelvis", {"PTV": 20.0}) is None
    assert GoalSet.default("pelvis", {}) is None
