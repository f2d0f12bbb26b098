"""Goals, indices and scorecards: what is read, what is refused, and values worked by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.evaluation.dvh import dvh
from DosePredictionLib.evaluation.goals import (
    GoalSet,
    GoalTextError,
    evaluate_goals,
    parse_goal,
    parse_metric,
)
from DosePredictionLib.evaluation.indices import (
    homogeneity_icru83,
    overlap_cc,
    paddick_conformity,
    pelvic_endpoints,
    pelvic_score_terms,
    r50,
    rtog_conformity,
)
from DosePredictionLib.evaluation.scorecard import Scorecard, score_plan
from DosePredictionLib.volume import Grid, Volume

SPACING = (10.0, 10.0, 10.0)  # 1 cc a voxel


def slab(first: int, last: int) -> np.ndarray:
    mask = np.zeros((12, 4, 4), bool)
    mask[first:last] = True
    return mask


@pytest.fixture
def curves():
    """Dose 5 Gy a slice: slice k spans 5k - 2.5 to 5k + 2.5 Gy, 16 cc each."""
    dose = np.broadcast_to(5.0 * np.arange(12)[:, None, None], (12, 4, 4)).copy()
    return {
        name: dvh(dose, mask, spacing_mm=SPACING, name=name)
        for name, mask in {
            "PTV": slab(8, 11),
            "Rectum": slab(4, 8),
            "Body": np.ones((12, 4, 4), bool),
            "Empty": slab(0, 0),
        }.items()
    }


@pytest.mark.parametrize(
    ("text", "shown", "unit", "comparison", "limit"),
    [
        ("V40Gy <= 35 %", "V40Gy", "%", "<=", 35),
        ("V40 Gy ≤ 35%", "V40Gy", "%", "<=", 35),
        ("V4500cGy<195cc", "V45Gy", "cc", "<", 195),
        ("D0.1cc < 50 Gy", "D0.1cc", "Gy", "<", 50),
        ("D0.03 cm3 <= 5000 cGy", "D0.03cc", "Gy", "<=", 50),
        ("Dmean < 26 Gy", "Dmean", "Gy", "<", 26),
        ("D95% >= 95 %Rx", "D95%", "%Rx", ">=", 95),
        ("d95 ≥ 95%", "D95%", "%Rx", ">=", 95),
        ("V95%Rx >= 98 %", "V95%Rx", "%", ">=", 98),
        ("CI >= 0.8", "CI", "", ">=", 0.8),
        ("HI <= 0.12", "HI", "", "<=", 0.12),
        ("gEUD(a=8) <= 40 Gy", "gEUD(a=8)", "Gy", "<=", 40),
        ("gEUD <= 40 Gy", "gEUD", "Gy", "<=", 40),
    ],
)
def test_goals_are_read_as_clinicians_write_them(text, shown, unit, comparison, limit):
    goal = parse_goal("X", text)
    assert str(goal.metric).replace("(a=)", "") == shown
    assert (goal.metric.unit, goal.comparison, goal.limit) == (
        unit,
        comparison,
        pytest.approx(limit),
    )


@pytest.mark.parametrize(
    ("text", "position", "expected"),
    [
        ("V40Gyy <= 35 %", 5, "<, <=, > or >="),
        ("V40 <= 35 %", 4, "Gy, cGy or %"),
        ("X40 < 3", 0, "a metric"),
        ("D0.1cc < Gy", 9, "a limit"),
        ("Dmean < 26", 10, "Gy, cGy or %Rx"),
        ("V40Gy < 26 Gy", 11, "% or cc"),
        ("Dmean < 26 Gy please", 14, "the end"),
        ("D120% > 3 Gy", 5, "at most 100 %"),
        ("gEUD(a=0) < 3 Gy", 8, "other than 0"),
    ],
)
def test_what_cannot_be_read_is_shown_at_its_place(text, position, expected):
    with pytest.raises(GoalTextError) as caught:
        parse_goal("Rectum", text)
    assert caught.value.position == position
    assert expected in str(caught.value)
    lines = str(caught.value).splitlines()
    assert lines[2].index("^") - 2 == position


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("Dmean <= 20 Gy", "Dmean_gy"),
        ("D95% >= 42.75 Gy", "D95_gy"),
        ("D0.1cc < 50 Gy", "D0.1cc_gy"),
        ("V40Gy <= 35 %", "V40Gy_percent"),
        ("V20Gy <= 35 cc", "V20Gy_cc"),
        ("V95%Rx >= 98 %", "V95percent_percent"),
        ("D95% >= 95 %Rx", "D95_gy"),
        ("CI >= 0.8", None),
    ],
)
def test_a_goal_on_one_structure_measures_an_endpoint(text, endpoint):
    assert parse_goal("PTV", text).metric.endpoint == endpoint


def test_a_metric_alone_is_read():
    assert str(parse_metric("D2cc")) == "D2cc"
    with pytest.raises(GoalTextError, match="the end"):
        parse_metric("D2cc < 3 Gy")


def test_status_and_margin_by_hand(curves):
    goals = [
        parse_goal("Rectum", "Dmean < 28 Gy"),  # 17.5 to 37.5 Gy, evenly: 27.5
        parse_goal("Rectum", "V30Gy <= 35 %", variation="V30Gy <= 40 %"),  # 37.5 %
        parse_goal("Rectum", "V30Gy < 20 cc"),  # 24 cc
        parse_goal("Rectum", "D50% >= 50 %Rx"),  # 27.5 of 50 Gy
        parse_goal("PTV", "D95% >= 95 %Rx"),  # 37.5 to 52.5 Gy: 38.25 of 50 Gy
        parse_goal("Rectum", "Dmean <= 27.5 Gy"),
    ]
    rows = evaluate_goals(goals, curves, prescriptions_gy={"PTV": 50.0})
    assert [row["status"] for row in rows[:5]] == ["met", "variation", "not_met", "met", "not_met"]
    values = [27.5, 37.5, 24.0, 55.0, 76.5]
    margins = [0.5, -2.5, -4.0, 5.0, -18.5]
    assert [row["value"] for row in rows[:5]] == pytest.approx(values, abs=0.02)
    assert [row["margin"] for row in rows[:5]] == pytest.approx(margins, abs=0.02)
    assert [row["unit"] for row in rows[:5]] == ["Gy", "%", "cc", "%Rx", "%Rx"]
    assert rows[5]["margin"] == pytest.approx(0.0, abs=1e-6)


def test_what_cannot_be_evaluated_says_why(curves):
    goals = [
        parse_goal("Rectums", "Dmean < 28 Gy"),
        parse_goal("Empty", "Dmean < 28 Gy"),
        parse_goal("PTV", "D95% >= 95 %Rx"),
        parse_goal("Rectum", "D100cc < 50 Gy"),
        parse_goal("PTV", "CI >= 0.8", prescription="PTV70"),
        parse_goal("Rectum", "gEUD < 50 Gy"),
    ]
    rows = evaluate_goals(goals, curves)
    assert all(row["status"] == "not_evaluable" for row in rows)
    assert all(row["value"] is None and row["margin"] is None for row in rows)
    reasons = [row["reason"] for row in rows]
    assert "nearest names are Rectum" in reasons[0]
    assert "empty" in reasons[1]
    assert "needs a prescription" in reasons[2]
    assert "64 cc, less than 100 cc" in reasons[3]
    assert "no prescription for PTV70" in reasons[4]
    assert "exponent" in reasons[5]
    (no_body,) = evaluate_goals(
        [parse_goal("PTV", "R50 < 5")], curves, prescriptions_gy={"PTV": 50.0}
    )
    assert "body" in no_body["reason"]
    json.dumps(rows, allow_nan=False)


def test_structures_are_bound_by_the_resolver(curves):
    goals = [parse_goal("Enddarm", "Dmean < 28 Gy")]
    (row,) = evaluate_goals(goals, curves, resolve={"Enddarm": "Rectum"}.get)
    assert (row["structure"], row["bound_to"], row["status"]) == ("Enddarm", "Rectum", "met")


def test_a_variation_must_be_looser_and_alike():
    with pytest.raises(DosePredictionError, match="stricter"):
        parse_goal("Rectum", "Dmean < 28 Gy", variation="Dmean < 26 Gy")
    with pytest.raises(DosePredictionError, match="same metric"):
        parse_goal("Rectum", "Dmean < 28 Gy", variation="Dmax < 30 Gy")


def test_every_shipped_set_is_read_and_every_goal_has_a_source():
    assert set(GoalSet.available()) >= {
        "head_neck_70_35",
        "pelvis_nodal_45_50",
        "prostate_60_20",
        "prostate_78_39",
    }
    for name in GoalSet.available():
        goals = GoalSet.load(name)
        assert goals.id == name
        assert all(
            goal.source in goals.sources.values() or "(" in goal.source for goal in goals.goals
        )
        assert all(goal.priority in (1, 2, 3) for goal in goals.goals)
    with pytest.raises(DosePredictionError, match="there are head_neck"):
        GoalSet.load("nothing")


def test_a_broken_file_names_itself_and_the_goal(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text("{")
    with pytest.raises(DosePredictionError, match=r"mine\.json is no valid JSON"):
        GoalSet.read(path)
    content = {
        "schema": "dose-prediction-goals/1",
        "goals": [{"structure": "R", "goal": "V4 < 3 %"}],
    }
    path.write_text(json.dumps(content))
    with pytest.raises(DosePredictionError, match=r"mine\.json, goal 1: .*character 4"):
        GoalSet.read(path)
    content["goals"] = [{"structure": "R", "goal": "V4Gy < 3 %", "sauce": 1}]
    path.write_text(json.dumps(content))
    with pytest.raises(DosePredictionError, match=r"goals\[0\] has unknown entries \['sauce'\]"):
        GoalSet.read(path)
    path.write_text('{"schema": "other"}')
    with pytest.raises(DosePredictionError, match="schema"):
        GoalSet.read(path)


def test_indices_by_hand(curves):
    # At 45 Gy: body 10 slices above, of which slice 9's upper half, 10 and 11: 2.5 * 16 = 40 cc;
    # the PTV holds half of slice 9 and slice 10: 24 cc of its 48.
    target, body = curves["PTV"], curves["Body"]
    at_45 = body.volume_at_gy_cc(45.0)
    assert target.volume_at_gy_cc(45.0) == pytest.approx(24.0, abs=0.02)
    assert paddick_conformity(target, body, 45.0) == pytest.approx(24**2 / (48 * at_45), rel=2e-3)
    assert rtog_conformity(target, body, 45.0) == pytest.approx(at_45 / 48)
    assert r50(target, body, 90.0) == rtog_conformity(target, body, 45.0)
    assert at_45 == pytest.approx(
        40.0, abs=4.1
    )  # the outermost slice's dose is held, not continued
    assert homogeneity_icru83(target) == pytest.approx(0.96 * 15 / 45, rel=2e-3)
    assert paddick_conformity(target, body, 500.0) is None
    assert homogeneity_icru83(curves["Empty"]) is None
    grid = Grid((4, 4, 12), SPACING)
    assert overlap_cc(Volume(slab(0, 5), grid), Volume(slab(4, 8), grid)) == pytest.approx(16.0)


def test_the_pelvic_score_compares_percentage_points(curves):
    endpoints = pelvic_endpoints(curves, curves["Body"], 50.0)
    assert endpoints["Rectum Dmean"] == pytest.approx(55.0, abs=0.02)
    assert endpoints["Rectum V30Gy"] == pytest.approx(37.5, abs=0.05)
    assert endpoints["PTV HI"] == pytest.approx(32.0, rel=2e-3)
    assert "Bladder Dmean" not in endpoints
    changed = endpoints | {"Rectum Dmean": endpoints["Rectum Dmean"] + 3.0, "PTV CI": None}
    terms = pelvic_score_terms(changed, endpoints)
    assert terms["Rectum Dmean"] == pytest.approx(3.0)
    assert "PTV CI" not in terms


def test_a_varian_scorecard_is_read_and_scored(tmp_path, curves):
    def line(structure, kind, points, **fields):
        return {
            "Structure": {"TemplateStructureId": structure, "StructureId": ""},
            "MetricType": kind,
            "ScorePoints": [{"PointX": x, "Score": y, "Variation": False} for x, y in points],
        } | fields

    units = {"InputUnit": "Gy", "OutputUnit": "%"}
    card = {
        "TemplateName": "Rectum card",
        "DosePerFraction": 2.0,
        "NumberOfFractions": 25,
        "ScoreTemplates": [
            line("Rectum", "MeanDose", [(2000, 10), (3000, 0)], OutputUnit="cGy"),
            line("Rectum", "VolumeAtDose", [(30, 5), (40, 1), (60, 0)], InputValue=30, **units),
            line("PTV", "DoseAtVolume", [(50, 0), (100, 4)], InputValue=50, InputUnit="%",
                 OutputUnit="%"),
            line("Rectum", "VolumeOfRegret", [(0, 1), (1, 0)]),
            line("Bladder", "MaxDose", [(0, 1), (50, 0)], OutputUnit="Gy"),
        ],
    }  # fmt: skip
    path = tmp_path / "card.json"
    path.write_text(json.dumps(card))
    result = score_plan(Scorecard.read(path), curves)
    scores = [line["score"] for line in result["lines"]]
    assert scores[0] == pytest.approx(2.5, abs=0.01)  # 27.5 Gy
    assert scores[1] == pytest.approx(2.0, abs=0.02)  # 37.5 %
    assert scores[2] == pytest.approx(3.2, abs=0.02)  # 45 of 50 Gy is 90 %
    assert scores[3:] == [None, None]
    assert "not known here" in result["lines"][3]["reason"]
    assert "no structure Bladder" in result["lines"][4]["reason"]
    assert result["score"] == pytest.approx(7.7, abs=0.05)
    assert result["highest"] == 19.0
    card["ScoreTemplates"][0]["ScorePoints"] = []
    path.write_text(json.dumps(card))
    with pytest.raises(DosePredictionError, match="line 1 of the scorecard"):
        Scorecard.read(path)
    path.write_text("{}")
    with pytest.raises(DosePredictionError, match="no ScoreTemplates"):
        Scorecard.read(path)
