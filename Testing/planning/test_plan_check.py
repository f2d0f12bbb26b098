"""Checks of plans: a sound one passes, and each single violation is caught by its own row."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import MACHINE, PAIRS, changed, sound_beam
from support import DICOM_SAMPLE, ROOT

from DosePredictionLib.delivery import TreatmentBeam
from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.planning.aperture import complexity, open_area_mm2, segments
from DosePredictionLib.planning.check import check_beam, check_plan
from DosePredictionLib.planning.machine import Machine
from DosePredictionLib.schema import to_json

Change = Callable[[TreatmentBeam], TreatmentBeam]
Run = Callable[..., tuple[int, Any, str]]
MIDDLE = PAIRS // 2


def failed(beam: TreatmentBeam, machine: Machine = MACHINE) -> set[str]:
    return {row.id for row in check_beam(beam, machine) if not row.passed}


def shifted(beam: TreatmentBeam, mm: float) -> TreatmentBeam:
    """One leaf pair of one segment moved along."""
    leaves = beam.leaves_mm.copy()
    leaves[2:4, :, MIDDLE] += mm
    return replace(beam, leaves_mm=leaves)


def sweeping(beam: TreatmentBeam, mm: float) -> TreatmentBeam:
    """Leaves that move while one MU is given."""
    leaves = beam.leaves_mm.copy()
    leaves[1:, 0, MIDDLE] -= mm
    return replace(beam, leaves_mm=leaves, meterset=3.0)


def narrow(beam: TreatmentBeam) -> TreatmentBeam:
    leaves = beam.leaves_mm.copy()
    leaves[2:4, 1] = leaves[2:4, 0] + 1.0
    return replace(beam, leaves_mm=leaves)


VIOLATIONS: dict[str, tuple[Change, set[str]]] = {
    "a control point too few": (
        lambda b: replace(b, stated_points=b.points + 1),
        {"control-points"},
    ),
    "meterset begins late": (lambda b: changed(b, "weight", 0, 0.01), {"meterset-start"}),
    "meterset falls": (lambda b: changed(b, "weight", 3, 0.2), {"meterset-rises"}),
    "meterset ends early": (lambda b: changed(b, "weight", -1, 0.99), {"meterset-end"}),
    "no monitor units": (lambda b: replace(b, meterset=None), {"beam-mu"}),
    "too many monitor units": (lambda b: replace(b, meterset=1000.0), {"beam-mu"}),
    "monitor units below 0": (lambda b: replace(b, meterset=-60.0), {"beam-mu"}),
    "something unsaid": (lambda b: replace(b, unstated=("GantryAngle",)), {"unstated"}),
    "something not judged": (lambda b: replace(b, unread=("wedges",)), {"unread"}),
    "electrons": (lambda b: replace(b, radiation="ELECTRON"), {"photons"}),
    "a gantry beyond its turn": (
        lambda b: changed(b, "gantry_degrees", 1, 361.0),
        {"gantry-angle"},
    ),
    "a collimator beyond its turn": (
        lambda b: changed(b, "collimator_degrees", -1, 400.0),
        {"collimator-angle"},
    ),
    "a couch beyond its turn": (lambda b: changed(b, "couch_degrees", -1, -1.0), {"couch-angle"}),
    "another energy": (lambda b: replace(b, energy_mv=15.0), {"energy"}),
    "no energy": (lambda b: replace(b, energy_mv=None), {"energy"}),
    "another source distance": (lambda b: replace(b, sad_mm=800.0), {"sad"}),
    "other leaves": (
        lambda b: changed(b, "leaf_borders_mm", MIDDLE, 0.5),
        {"leaf-boundaries"},
    ),
    "fewer leaves": (
        lambda b: replace(
            b, leaf_borders_mm=b.leaf_borders_mm[:-1], leaves_mm=b.leaves_mm[..., :-1]
        ),
        {"leaf-pairs"},
    ),
    "leaves along Y": (lambda b: replace(b, leaves_along="Y"), {"leaf-direction"}),
    "crossed leaves": (
        lambda b: changed(b, "leaves_mm", (2, 1, MIDDLE), -60.0),
        {"leaf-crossing", "leaf-gap"},
    ),
    "a closed pair in the field": (
        lambda b: changed(b, "leaves_mm", (2, 1, MIDDLE), b.leaves_mm[2, 0, MIDDLE]),
        {"leaf-gap"},
    ),
    "a leaf drawn too far back": (
        lambda b: replace(b, leaves_mm=b.leaves_mm - np.array([[[151.0], [0.0]]])),
        {"leaf-retract"},
    ),
    "a leaf beyond the axis": (
        lambda b: replace(b, leaves_mm=b.leaves_mm * 0.1 + np.array([[[155.0], [190.0]]])),
        {"leaf-overtravel", "segment-area"},
    ),
    "a bank spread too wide": (
        lambda b: changed(b, "leaves_mm", (slice(2, 4), 0, MIDDLE), -170.0),
        {"leaf-span"},
    ),
    "an X jaw too far back": (
        lambda b: changed(b, "jaws_x_mm", np.s_[:, 0], -201.0),
        {"jaw-x-retract"},
    ),
    "an X jaw beyond the axis": (
        lambda b: replace(b, jaws_x_mm=b.jaws_x_mm + 81.0, leaves_mm=b.leaves_mm + 81.0),
        {"jaw-x-overtravel"},
    ),
    "a Y jaw too far back": (
        lambda b: changed(b, "jaws_y_mm", np.s_[:, 1], 201.0),
        {"jaw-y-retract"},
    ),
    "a Y jaw beyond the axis": (
        lambda b: replace(b, jaws_y_mm=b.jaws_y_mm * 0.4 + 125.0),
        {"jaw-y-overtravel"},
    ),
    "jaws nearly closed": (
        lambda b: changed(b, "jaws_y_mm", np.s_[:, 1], -41.0),
        {"jaw-y-opening"},
    ),
    "an impossible dose rate": (
        lambda b: changed(b, "dose_rate_mu_min", 0, 1200.0),
        {"dose-rate"},
    ),
    "too small a segment": (
        lambda b: replace(changed(b, "weight", slice(1, 3), 0.01), meterset=60.0),
        {"segment-mu"},
    ),
    "too narrow a segment": (narrow, {"segment-area"}),
    "leaves too fast": (
        lambda b: sweeping(changed(b, "leaves_mm", (slice(1, None), 0, MIDDLE), -20.0), 130.0),
        {"leaf-speed"},
    ),
    "gantry too fast": (
        lambda b: replace(b, gantry_degrees=np.linspace(0, 179, b.points), meterset=3.0),
        {"gantry-speed"},
    ),
}


def test_a_sound_beam_breaks_no_limit() -> None:
    rows = check_beam(sound_beam(), MACHINE)
    assert [row.id for row in rows if not row.passed] == []
    assert len({row.id for row in rows}) == len(rows) >= 20
    assert all(row.source for row in rows)


@pytest.mark.parametrize("name", VIOLATIONS)
def test_each_violation_is_caught_by_its_row_alone(name: str) -> None:
    change, expected = VIOLATIONS[name]
    assert failed(change(sound_beam())) == expected


def test_every_row_has_a_violation_that_breaks_it() -> None:
    caught = set().union(*(expected for _, expected in VIOLATIONS.values()))
    every = {row.id for row in check_beam(sound_beam(), MACHINE)}
    # An arc of X jaws is as the one of Y jaws.
    assert every - caught == {"jaw-x-opening"}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.02, 40.0), st.integers(0, PAIRS - 1))
def test_wherever_leaves_cross_it_is_seen(seed: int, by_mm: float, pair: int) -> None:
    beam = sound_beam(seed=seed)
    assert not failed(beam)
    crossed = changed(beam, "leaves_mm", (1, 1, pair), beam.leaves_mm[1, 0, pair] - by_mm)
    row = next(row for row in check_beam(crossed, MACHINE) if row.id == "leaf-crossing")
    assert not row.passed
    assert row.place == f"control point 1, leaf pair {pair + 1}"
    assert row.value == pytest.approx(-by_mm, abs=1e-5)


def test_jaws_that_follow_matter_to_machines_whose_jaws_stand() -> None:
    beam = changed(sound_beam(), "jaws_y_mm", np.s_[:2, 0], -40.0)
    assert failed(beam) == set()
    standing = replace(MACHINE, jaws_follow_segments=False)
    assert failed(beam, standing) == {"jaw-y-stands"}
    assert failed(sound_beam(), standing) == set()


def test_a_leaf_beside_its_opposite_neighbor_matters_to_machines_that_forbid_it() -> None:
    beam = sound_beam()
    leaves = beam.leaves_mm.copy()
    leaves[:, 0, MIDDLE], leaves[:, 1, MIDDLE] = 25.0, 50.0
    leaves[:, 0, MIDDLE + 1], leaves[:, 1, MIDDLE + 1] = -50.0, -10.0
    beam = replace(beam, leaves_mm=leaves)
    assert failed(beam) == set()
    assert failed(beam, replace(MACHINE, interdigitation=False)) == {"interdigitation"}
    assert failed(sound_beam(), replace(MACHINE, interdigitation=False)) == set()


def test_leaves_closed_behind_the_jaws_are_no_closed_pair_in_the_field() -> None:
    beam = sound_beam()
    assert failed(changed(beam, "leaves_mm", (0, 1, 0), beam.leaves_mm[0, 0, 0])) == set()


def test_monitor_units_are_held_against_the_prescription() -> None:
    rows = check_plan([sound_beam(1), sound_beam(2)], MACHINE, fraction_gy=0.1)
    row = next(row for row in rows if row.id == "mu-per-gy")
    assert (row.value, row.passed) == (1200.0, False)
    assert all(row.passed for row in check_plan([sound_beam()], MACHINE, fraction_gy=1.8))
    assert [row.id for row in check_plan([], MACHINE) if not row.passed] == ["beams"]


def test_areas_and_complexity_are_those_worked_by_hand() -> None:
    """Ten pairs of 5 mm within the jaws, first closed to 40 mm and then to 20 mm."""
    beam = sound_beam(segments=2, mu=100.0)
    leaves = np.zeros_like(beam.leaves_mm)
    leaves[:2, 0], leaves[:2, 1] = -20, 20
    leaves[2:, 0], leaves[2:, 1] = -20, 0
    beam = replace(beam, leaves_mm=leaves, jaws_y_mm=np.tile([-25.0, 25.0], (beam.points, 1)))
    assert [open_area_mm2(beam, point) for point in (0, 2)] == [2000.0, 1000.0]
    assert [each.mu for each in segments(beam)] == pytest.approx([50, 50])
    figures = complexity([beam], 2.0)
    assert (figures["segments"], figures["mu_per_gy"]) == (2, 50.0)
    assert figures["mean_area_mm2"] == pytest.approx(1500.0)
    # Straight edges: each sequence has a variability of 1; areas are 1 and one half.
    assert figures["modulation_complexity_score"] == pytest.approx(0.75)


# ---------------------------------------------------------------- machines


def test_every_limit_of_every_shipped_machine_has_a_source() -> None:
    assert "generic-120" in Machine.available()
    for name in Machine.available():
        machine = Machine.load(name)
        assert machine.id == name and all(machine.sources.values())


def test_leaf_boundaries_are_ten_wide_forty_narrow_ten_wide() -> None:
    widths = np.diff(MACHINE.borders_mm)
    assert widths.tolist() == [10.0] * 10 + [5.0] * 40 + [10.0] * 10


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"transmission": 2}, "transmission must be of type float, at least 0"),
        ({"leaf_boundaries_mm": [0, 10, 5]}, "leaf_boundaries_mm must rise"),
        ({"sources": {"sad_mm": "here"}}, "must name the source of every limit"),
        ({"schema": "other"}, "machines have 'dose-prediction-machine/1'"),
        ({"wings": 2}, "unknown entries"),
        ({"dose_rate_mu_min": [600, 50]}, "must not be smaller"),
    ],
)
def test_a_faulty_machine_is_refused_with_the_place(
    change: dict, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "machine.json"
    path.write_text(json.dumps(to_json(MACHINE) | change))
    with pytest.raises(DosePredictionError, match=words):
        Machine.load(str(path))


def test_an_unknown_machine_lists_those_that_there_are() -> None:
    with pytest.raises(DosePredictionError, match=r"no machine 'other'; there are generic-120"):
        Machine.load("other")


# ---------------------------------------------------------------- the command


def test_plan_check_reads_the_plan_of_another_planning_system(run: Run) -> None:
    code, result, _ = run("plan-check", DICOM_SAMPLE / "RP.dcm", "--machine", "generic-120")
    assert code == 0 and result["label"] == "PROS"
    broken = {row["id"] for row in result["rows"] if not row["passed"]}
    assert broken == {"energy"}  # 15 MV
    assert result["left_out"] == ["CBCT"]  # calls itself treatment
    assert result["violations"] == 4 and result["complexity"]["segments"] == 4
    assert result["complexity"]["monitor_units"] == pytest.approx(235.07, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((DICOM_SAMPLE / "RS.dcm",), "RS.dcm is no RTPLAN but RT Structure Set Storage"),
        ((DICOM_SAMPLE / "RD.dcm",), "RD.dcm is no RTPLAN but RT Dose Storage"),
        ((ROOT / "README.md",), "is a text, not DICOM"),
        ((DICOM_SAMPLE / "none.dcm",), "There is no RTPLAN"),
        ((DICOM_SAMPLE / "RP.dcm", "--machine", "other"), "no machine 'other'"),
    ],
)
def test_what_is_no_plan_is_refused_in_one_line(run: Run, arguments: tuple, words: str) -> None:
    code, result, _ = run("plan-check", *arguments)
    assert code == 2 and words in result["error"]["message"]
