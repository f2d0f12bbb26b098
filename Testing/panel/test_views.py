"""What the panel shows, without Qt: Apply, checks, structures, cards, tables, corrections."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from DosePredictionPanel.apply_state import Situation, apply_button
from DosePredictionPanel.corrections import Corrections
from DosePredictionPanel.finding_rows import blocking_messages, finding_rows, findings_title
from DosePredictionPanel.freshness import Freshness, RunSettings
from DosePredictionPanel.installation_view import read_report
from DosePredictionPanel.model_card import (
    doses_text,
    installed_models,
    model_card,
    prescription_text,
)
from DosePredictionPanel.result_tables import (
    change_table,
    dvh_table,
    goals_table,
    scores_table,
    verdict_of,
)
from DosePredictionPanel.structure_rows import structure_rows, structures_title
from organs import organ_model
from support import ROOT

from DosePredictionLib.evaluation.dvh import dvhs
from DosePredictionLib.evaluation.goals import GoalSet, evaluate_goals, parse_goal
from DosePredictionLib.findings import Finding
from DosePredictionLib.structures.mapping import propose_mapping
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Grid, Volume

READY = Situation(has_ct=True, has_segmentation=True, has_model=True)


def test_apply_can_be_pressed_when_everything_is_there() -> None:
    button = apply_button(READY)
    assert (button.text, button.enabled) == ("Apply", True)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"has_ct": False}, "Choose a CT"),
        ({"has_segmentation": False}, "Choose a segmentation"),
        ({"input_problem": "The CT has one slice."}, "one slice"),
        ({"has_model": False}, "No model"),
        ({"missing": "torch"}, "torch is missing"),
        ({"reading": True}, "being read"),
        ({"blocking": ("No PTV.", "No body.")}, "No PTV. (and 1 more)"),
    ],
)
def test_apply_is_disabled_and_says_why(change: dict, reason: str) -> None:
    button = apply_button(replace(READY, **change))
    assert not button.enabled
    assert reason in button.tool_tip


def test_apply_becomes_cancel_while_a_prediction_runs() -> None:
    running = replace(READY, running=True, blocking=("Too late to say.",))
    assert apply_button(running).text == "Cancel"
    assert apply_button(running).enabled
    assert not apply_button(replace(running, cancelling=True)).enabled


def test_apply_reads_update_when_the_result_is_out_of_date() -> None:
    assert apply_button(replace(READY, outdated=True)).text == "Update"


BEFORE = RunSettings({"prescription": "45"}, {"PTV": "PTV", "Rectum": "Rect", "Marrow": None})
STRUCTURES = ("PTV", "Rect", "Helper")


def test_a_result_is_out_of_date_once_a_segment_changes() -> None:
    assert not Freshness(now=BEFORE).edited(["Rect"], STRUCTURES).is_outdated  # nothing is shown
    state = Freshness(result=BEFORE, now=BEFORE)
    assert not state.is_outdated
    state = state.edited(["Rect"], STRUCTURES)
    assert state.reasons == ("Rect",)
    assert "Rect" in state.notice()
    state = state.edited([], STRUCTURES)  # undone
    assert not state.notice()


def test_a_removed_result_cannot_be_out_of_date() -> None:
    state = Freshness(result=BEFORE, now=replace(BEFORE, values={"prescription": "50"}))
    assert state.reasons == ("prescription",)
    assert not replace(state, result=None).notice()


def test_only_what_reaches_the_network_makes_a_result_out_of_date() -> None:
    state = Freshness(result=BEFORE, now=BEFORE)
    state = state.edited(["Helper"], STRUCTURES)
    assert not state.is_outdated
    state = state.edited(["CT", "Helper"], STRUCTURES)
    assert state.reasons == ("CT",)
    state = replace(state, now=replace(BEFORE, mapping={**BEFORE.mapping, "Marrow": "Helper"}))
    assert state.reasons == ("CT", "channel Marrow")


def test_many_changes_are_counted() -> None:
    values = {name: "1" for name in "abcde"}
    state = Freshness(result=BEFORE, now=replace(BEFORE, values={**BEFORE.values, **values}))
    assert "a, b, c and 2 more" in state.notice()


def test_findings_stand_worst_first_with_what_to_do() -> None:
    findings = [
        Finding("a", "info", "Spacing is coarse."),
        Finding("b", "blocking", "No target.", "Contour one.", position_mm=(1.0, 2.0, 3.0)),
        Finding("c", "warning", "Couch inside.", "Crop it."),
        Finding("c", "warning", "Couch inside.", "Crop it."),
    ]
    rows = finding_rows(findings)
    assert [row.severity for row in rows] == ["blocking", "warning", "info"]
    assert rows[0].text == "✗ No target.\n→ Contour one."
    assert rows[0].position_mm == (1.0, 2.0, 3.0)
    assert "Click" in rows[0].tool_tip
    assert "Click" not in rows[1].tool_tip
    assert blocking_messages(findings) == ("No target. Contour one.",)
    assert findings_title(findings) == "Checks – 1 blocking, 2 warnings, 1 note"
    assert findings_title([]) == "Checks – nothing found"


@pytest.mark.parametrize(
    ("remedy", "shown"),
    [
        (
            "Contour it, or map another structure: --map PTV70=NAME.",
            "Contour it, or map another structure in the section Structures.",
        ),
        (
            "Choose one: --map Bladder=Blase or --map Bladder='Harn blase'.",
            "Choose one in the section Structures.",
        ),
        ("Crop it.", "Crop it."),
    ],
)
def test_remedies_tell_of_the_panel_and_not_of_the_shell(remedy: str, shown: str) -> None:
    row = finding_rows([Finding("a", "warning", "Seen.", remedy)])[0]
    assert row.text == f"⚠ Seen.\n→ {shown}"


def test_structures_tell_how_they_were_matched() -> None:
    protocol = StructureProtocol.load("pelvis")
    names = ["PTV_4500", "Harnblase", "Rectum", "Left hip thing", "BODY"]
    mapping = propose_mapping(names, protocol, {"FemurHead_L": "Left hip thing"})
    rows = {row.channel: row for row in structure_rows(protocol, mapping, {"Rectum": 61.23})}
    assert list(rows) == protocol.names
    assert rows["Bladder"].structure == "Harnblase"
    assert rows["Bladder"].status == "ok"
    assert "synonym" in rows["Bladder"].tool_tip
    assert rows["Rectum"].volume == "61.2"
    assert rows["FemurHead_L"].status == "by_hand"
    assert rows["Marrow"].status == "empty"
    assert structures_title(list(rows.values())) == "Structures – 5 of 9 channels"


def test_a_tie_between_segments_blocks_its_row() -> None:
    protocol = StructureProtocol.load("pelvis")
    mapping = propose_mapping(["PTV", "Blase", "Harnblase", "Rectum", "Body"], protocol)
    rows = {row.channel: row for row in structure_rows(protocol, mapping, {})}
    assert rows["Bladder"].status == "blocking"
    assert "Harnblase fit the channel Bladder equally" in rows["Bladder"].tool_tip


def test_corrections_come_back_for_the_same_names_only(tmp_path: Path) -> None:
    store = Corrections(tmp_path / "folder" / "corrections.json")
    names = ["A", "B", "Blase"]
    store.remember("pelvis", names, {"Bladder": "Blase", "Marrow": None})
    again = Corrections(store.path)
    assert again.recall("pelvis", reversed(names)) == {"Bladder": "Blase", "Marrow": None}
    assert again.recall("openkbp", names) == {}
    assert again.recall("pelvis", ["A", "B"]) == {}
    again.remember("pelvis", names, {})
    assert store.recall("pelvis", names) == {}


def test_corrections_survive_a_damaged_or_unwritable_file(tmp_path: Path) -> None:
    path = tmp_path / "corrections.json"
    path.write_text("{not json", encoding="utf-8")
    assert Corrections(path).recall("pelvis", ["A"]) == {}
    occupied = tmp_path / "file"
    occupied.write_text("", encoding="utf-8")
    Corrections(occupied / "corrections.json").remember("pelvis", ["A"], {"PTV": "A"})
    assert occupied.read_text(encoding="utf-8") == ""


def test_the_installation_report_is_that_of_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "DosePredictionLib", "check", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    report = read_report(done.stdout)
    assert "openkbp-two-stage" in report.text
    assert set(report.devices) >= {"auto", "cpu"}


def test_gpus_are_offered_by_name() -> None:
    output = {"check": {"cuda_devices": [{"name": "Big GPU", "memory_gib": 8.0}]}}
    assert read_report(json.dumps(output)).devices["cuda:0"] == "Big GPU, 8 GiB"


def test_a_python_that_cannot_report_shows_what_it_said() -> None:
    report = read_report("", "Fatal Python error: no module named encodings")
    assert "no module named encodings" in report.text
    assert set(report.devices) == {"auto", "cpu"}


def test_the_card_of_a_shipped_model_tells_its_training_and_figures() -> None:
    models = installed_models()
    assert not models.problem
    manifest = models.manifests["openkbp-two-stage"]
    card = model_card(manifest)
    assert "OpenKBP" in card.summary
    assert "dose score" in card.summary
    assert "70 / 63 / 56 Gy in 35 fractions" in card.summary
    assert "doi" in card.details
    assert doses_text(manifest) == "70 / 63 / 56 Gy"
    assert prescription_text(manifest) == "70 / 63 / 56 Gy in 35 fractions"


def test_a_card_escapes_what_a_manifest_holds() -> None:
    manifest = next(iter(installed_models().manifests.values()))
    card = model_card(replace(manifest, training={"data": "<script>x</script>"}))
    assert "<script>" not in card.summary


def test_models_of_organs_are_not_offered_for_doses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOSE_PREDICTION_MODELS", str(tmp_path))
    organ_model(tmp_path, default=True)
    models = installed_models()
    assert "openkbp-two-stage" in models.manifests and not models.problem
    assert "organs-by-hu" not in models.manifests


def test_a_damaged_model_is_told_not_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models" / "broken"
    folder.mkdir(parents=True)
    (folder / "model.json").write_text("{", encoding="utf-8")
    monkeypatch.setenv("DOSE_PREDICTION_MODELS", str(folder.parent))
    models = installed_models()
    assert "broken" in models.problem


def uniform_curves(dose_gy: float) -> dict:
    grid = Grid((10, 10, 10), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    mask = np.zeros(grid.shape, dtype=bool)
    mask[3:7, 3:7, 3:7] = True
    dose = Volume(np.full(grid.shape, dose_gy, dtype=np.float32), grid)
    return dvhs(dose, {"PTV": Volume(mask, grid)})


def test_goals_stand_beside_the_plans() -> None:
    goals = [parse_goal("PTV", "D95% >= 42.75 Gy"), parse_goal("Nothing", "Dmean < 1 Gy")]
    predicted = evaluate_goals(goals, uniform_curves(45.0))
    planned = evaluate_goals(goals, uniform_curves(40.0))
    table = goals_table(predicted, planned)
    assert table.headers == ("Structure", "Goal", "Predicted", "Plan")
    first, second = table.rows
    assert [cell.text for cell in first] == ["PTV", "D95% ≥ 42.75 Gy", "✓ 45.0", "✗ 40.0"]
    assert first[2].tool_tip == "45.0 Gy: met, margin +2.2 Gy"
    assert second[2].status == "not_evaluable"
    assert "no structure Nothing" in second[2].tool_tip
    assert len(goals_table(predicted).headers) == 3
    after_edit = goals_table(planned, None, predicted)
    assert after_edit.headers == ("Structure", "Goal", "A", "B", "Δ")
    assert [cell.status for cell in after_edit.rows[0][2:]] == ["not_met", "met", ""]
    assert after_edit.rows[0][4].text == "−5.0"
    assert after_edit.places == (("PTV", "cold"), ("", ""))
    assert verdict_of(planned).lines[0].text == "PTV D95% 40.0 Gy (goal ≥ 42.75 Gy)"
    assert (verdict_of(predicted).met, verdict_of(predicted).count) == (1, 1)
    assert verdict_of(None).count == 0


def test_bands_stand_beside_the_goals_that_are_calibrated() -> None:
    """In the goal's unit; a goal on another volume has none."""
    texts = ("D95% >= 42.75 Gy", "D95% >= 95 %Rx", "D90% >= 42 Gy", "V40Gy >= 95 %")
    goals = evaluate_goals(
        [parse_goal("PTV", text) for text in texts],
        uniform_curves(45.0),
        prescriptions_gy={"PTV": 45.0},
    )
    ends = {"90": {"low": 43.1, "high": 46.0}, "50": {"low": 44.5, "high": 45.4}}
    bands = {"PTV": {"endpoints": {"D95_gy": ends, "V40Gy_percent": ends}}}
    table = goals_table(goals, bands=bands)
    assert table.headers[-1] == "90 %"
    cells = [row[-1] for row in table.rows]
    assert [cell.text for cell in cells] == ["43.1 – 46.0", "95.8 – 102.2", "", "43.1 – 46.0"]
    assert "43.1 – 46.0 Gy (90 %), 44.5 – 45.4 Gy (50 %)" in cells[0].tool_tip
    assert "46.0 % (90 %)" in cells[3].tool_tip
    planned, compared = (
        goals_table(goals, goals, bands=bands),
        goals_table(goals, None, goals, bands),
    )
    assert planned.headers[2:] == ("Predicted", "Plan", "90 %")
    assert compared.headers[2:] == ("A", "B", "Δ", "90 %")
    metrics = dvh_table(uniform_curves(45.0), uniform_curves(40.0), bands=bands)
    d95 = metrics.headers.index("D95%")
    assert "(50 %)" in metrics.rows[0][d95].tool_tip
    assert metrics.rows[1][d95].tool_tip == ""  # the plan's


def test_every_shipped_template_makes_a_table() -> None:
    for name in GoalSet.available():
        goals = GoalSet.load(name)
        assert len(goals_table(evaluate_goals(goals, uniform_curves(45.0))).rows) == len(
            goals.goals
        )


def test_dvh_metrics_copy_as_tab_separated_values() -> None:
    table = dvh_table(uniform_curves(45.0), uniform_curves(40.0))
    lines = table.as_text().splitlines()
    assert lines[0].split("\t")[:4] == ["Structure", "Dose", "cc", "Dmean"]
    assert lines[1].split("\t")[:4] == ["PTV", "predicted", "0.5", "45.0"]
    assert lines[2].split("\t")[:4] == ["", "plan", "0.5", "40.0"]


def test_the_change_is_new_minus_old() -> None:
    table = change_table(uniform_curves(40.0), uniform_curves(45.0))
    assert [cell.text for cell in table.rows[0][:3]] == ["PTV", "0.0", "+5.0"]
    assert table.rows[0][2].tool_tip == "from 40.0 to 45.0 Gy"


def test_scores_need_a_plan() -> None:
    assert scores_table(None).rows == ()
    table = scores_table({"dose_score_gy": 3.2984, "ssim": 0.8611, "dvh_score_gy": None})
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["OpenKBP dose score, Gy", "3.30"],
        ["Structural similarity", "0.861"],
    ]
