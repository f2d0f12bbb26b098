"""Cohorts of many plans an anatomy: what is drawn, splits, refusals; and one made and resumed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from DosePredictionLib.io import read_case
from training.__main__ import main
from training.simulation import plans
from training.simulation.plans import plan_split_of, read_plan_records, simulate_plans
from training.simulation.settings import TECHNIQUES, FastPlanSettings, PlanCohortSettings
from training.simulation.techniques import (
    WISHED_GY,
    draw_arrangement,
    draw_wishes,
    limits_of,
    techniques_of,
)
from training.splits import names_in_fold


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_of_ten_anatomies_five_train_and_three_test() -> None:
    counts = Counter(plan_split_of(index) for index in range(30, 40))
    assert counts == {"training": 5, "test": 3, "validation": 1, "calibration": 1}
    assert sum(plan_split_of(index) == "test" for index in range(84)) >= 25


def test_techniques_are_used_equally_often_and_never_twice_for_an_anatomy() -> None:
    drawn = [techniques_of(index, TECHNIQUES, 2) for index in range(60)]
    assert all(len(set(each)) == 3 for each in drawn)
    counts = Counter(each for three in drawn for each in three)
    assert counts.pop("open") == 60 and set(counts) == set(TECHNIQUES) - {"open"}
    assert set(counts.values()) == {24}
    assert techniques_of(7, ("9",), 2) == ["9"] and techniques_of(7, ("open",), 2) == ["open"]


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_a_third_of_the_arrangements_is_not_symmetric(technique: str) -> None:
    drawn = [draw_arrangement(technique, rng_of(seed)) for seed in range(150)]  # type: ignore[arg-type]
    assert 0.2 < np.mean([asymmetric for _, asymmetric in drawn]) < 0.47
    for arrangement, asymmetric in drawn:
        fields = len(arrangement.gantry_degrees)
        assert arrangement.modulated == (technique != "open")
        if technique == "arc":
            assert (12 <= fields <= 25) if asymmetric else fields == 36
        elif technique == "open":
            assert fields in (3, 4) and arrangement.beams[0].aperture.margin_mm == 7.0
        else:
            assert fields == int(technique)
    assert draw_arrangement(technique, rng_of(5)) == draw_arrangement(technique, rng_of(5))  # type: ignore[arg-type]


def test_wishes_lie_between_what_the_target_takes_and_what_was_given(anatomy) -> None:  # type: ignore[no-untyped-def]
    case = anatomy("cervix")
    target = case.structures["PTV"].majority()
    dose = case.ct.with_array(np.full(case.ct.array.shape, 45.0, np.float32))
    assert draw_wishes(0, case, dose, rng_of(1)) == ()
    wishes = [wish for seed in range(20) for wish in draw_wishes(2, case, dose, rng_of(seed))]
    assert {wish.structure for wish in wishes} <= set(WISHED_GY) and len(wishes) > 20
    for wish in wishes:
        organ = case.structures[wish.structure].majority()
        inside = 100 * np.count_nonzero(organ & target) / np.count_nonzero(organ)
        low, high = (inside + share * (100 - inside) for share in (0.5, 0.72))
        assert low - 0.1 <= wish.percent <= high + 0.1
        assert wish.dose_gy == WISHED_GY[wish.structure]
    nothing = dose.with_array(np.zeros_like(dose.array))
    assert draw_wishes(2, case, nothing, rng_of(1)) == ()


def test_more_is_let_through_where_beams_or_wishes_allow_less() -> None:
    plain, sided, box = (limits_of(*each, ()) for each in (("9", False), ("9", True), ("open", 0)))  # type: ignore[arg-type, misc]
    assert plain.conformity > sided.conformity > box.conformity
    wished = limits_of("9", False, [object()])  # type: ignore[list-item]
    assert wished.near_maximum > plain.near_maximum


def test_all_plans_of_an_anatomy_are_in_one_fold() -> None:
    names = [
        f"plan_18_{i:04d}_{t}_{level}" for i in range(9) for t in ("arc", "4") for level in "01"
    ]
    parts = [names_in_fold(names, (part, 2), 3) for part in range(2)]
    assert parts[0] | parts[1] == set(names) and not parts[0] & parts[1]
    anatomies = [{name[:12] for name in part} for part in parts]
    assert not anatomies[0] & anatomies[1] and {len(each) for each in anatomies} == {4, 5}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--beams", "4", "6"], "plans in several ways have open, 4"),
        (["--beams", "mixed", "--bixel", "5"], "--bixel is for plans with one number"),
        (["--beams", "mixed", "--goals", "4"], "--goals"),
        (["--beams", "left"], "--beams"),
    ],
)
def test_a_wrong_call_is_refused_in_one_line(
    more: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["simulate", "--cases", "1", "--seed", "1", "--output", str(tmp_path / "out"), *more]
    try:
        code = main(call)
    except SystemExit as exit_:
        code = exit_.code  # type: ignore[assignment]
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2 and said in message
    assert not (tmp_path / "out").exists()


def test_an_anatomy_is_planned_with_beams_and_wishes_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyRadPlan")
    # In this process, whose imports are done.
    monkeypatch.setattr(plans, "side_by_side", lambda work, items, *_: enumerate(map(work, items)))
    settings = PlanCohortSettings(
        seed=3,
        techniques=("open", "5"),
        levels=2,
        spacing_mm=(6.0, 6.0, 6.0),
        plan=FastPlanSettings(bixel_mm=10.0, dose_grid_mm=8.0, iterations=15, further_iterations=8),
    )
    (record,) = simulate_plans(tmp_path, settings, [0], 1)
    assert [plan.technique for plan in record.plans] == ["5", "5", "open"]
    for plan in record.plans:
        assert plan.quality.coverage == pytest.approx(1.0, abs=0.01)
        folder = tmp_path / record.split / plan.name
        assert folder.is_dir() == (not plan.faults)
        if not plan.faults:
            case = read_case(folder)
            assert case.wishes == plan.wishes and case.beams is not None
            assert case.beams.modulated == (plan.technique == "5")
    written = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    assert simulate_plans(tmp_path, settings, [0], 1) == read_plan_records(tmp_path) == [record]
    assert all(file.stat().st_mtime_ns == time for file, time in written.items())
