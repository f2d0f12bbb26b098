"""From a dose to a plan that breaks no limit, on a small patient."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
from plans import MACHINE
from support import centered_grid, ct_of, ellipsoid

from DosePredictionLib.case import Case, Prescription
from DosePredictionLib.errors import CaseError, DosePredictionError, PredictionCancelled
from DosePredictionLib.evaluation.evaluate import evaluate
from DosePredictionLib.evaluation.gamma import gamma_pass_rates
from DosePredictionLib.planning import planner as planner_module
from DosePredictionLib.planning.check import check_plan
from DosePredictionLib.planning.keeping import KeptGoals
from DosePredictionLib.planning.planner import (
    DeliverablePlan,
    Planner,
    PlanningSettings,
    equally_spaced,
)
from DosePredictionLib.planning.wishes import parse_wish
from DosePredictionLib.structures.bound import BoundCase, bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Grid, Volume

pytest.importorskip("pyRadPlan")

QUICK = PlanningSettings(iterations=40, segments=60, lateral_cutoff_mm=40.0)


def small_case(spacing: tuple = (5.0, 5.0, 5.0), direction: tuple | None = None) -> BoundCase:
    """A thigh with a target of 5 cm, and a dose that falls off from it."""
    grid = centered_grid((40, 36, 24), spacing, direction)
    target = ellipsoid(grid, (0, 0, 0), (25, 20, 20))
    body = ellipsoid(grid, (0, 0, 0), (85, 75, 400))
    masks = {"PTV": target, "Body": body, "Rectum": ellipsoid(grid, (0, 45, 0), (15, 12, 20))}
    case = Case(
        name="thigh",
        ct=Volume(ct_of(body), grid),
        structures={name: Volume(mask, grid) for name, mask in masks.items()},
        prescription=Prescription({"PTV": 45.0}, 25),
    )
    return bind(case, StructureProtocol.load("pelvis"))


def falling_dose(grid: Grid, peak_gy: float = 46.0) -> Volume:
    """45 Gy in the target, less with the distance from it."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")
    mm = grid.world_from_index(np.stack([x, y, z], axis=-1))
    radius = np.sqrt((mm[..., 0] / 25) ** 2 + (mm[..., 1] / 20) ** 2 + (mm[..., 2] / 20) ** 2)
    fall = np.where(radius < 1.1, 1.0, 1 / (1 + 1.6 * (radius - 1.1)))
    fall *= 1 / (1 + np.exp((np.abs(mm[..., 2]) - 35) / 4))
    return Volume((peak_gy * fall).astype(np.float32), grid)


@pytest.fixture(scope="module")
def planner() -> Planner:
    return Planner(small_case(), MACHINE, equally_spaced(7), 25, QUICK)


@pytest.fixture(scope="module")
def planned(
    planner: Planner,
) -> tuple[BoundCase, Volume, DeliverablePlan, list[tuple[float, str]]]:
    bound = small_case()
    wanted = falling_dose(bound.case.grid)
    heard: list[tuple[float, str]] = []
    plan = planner.planned(wanted, lambda share, stage: heard.append((share, stage)))
    return bound, wanted, plan, heard


def test_the_plan_breaks_no_limit(planned: tuple) -> None:
    _, _, plan, _ = planned
    broken = [row for row in check_plan(plan.beams, MACHINE, 1.8) if not row.passed]
    assert broken == [] and len(plan.beams) == 7


def test_what_is_recomputed_is_what_was_optimized(planned: tuple) -> None:
    """Another grid, another algorithm, leakage and gaps: within 2 % and 2 mm nearly everywhere."""
    _, _, plan, _ = planned
    rates = gamma_pass_rates(plan.optimized, plan.dose, ["3%/3mm"])
    assert rates["3%/3mm"]["pass_rate_percent"] >= 99.0


def test_a_dose_that_a_plan_gave_is_planned_again(planner: Planner, planned: tuple) -> None:
    _, _, plan, _ = planned
    again = planner.planned(plan.dose)
    rates = gamma_pass_rates(plan.dose, again.dose, ["2%/2mm"])
    assert rates["2%/2mm"]["pass_rate_percent"] >= 98.0


def test_more_segments_come_nearer_and_few_are_kept_to(planner: Planner, planned: tuple) -> None:
    bound, wanted, plan, _ = planned
    of_few = copy.copy(planner)
    of_few.settings = replace(planner.settings, segments=7)
    rough = of_few.planned(wanted)
    body = bound.external.binary()
    apart = [np.abs(each.dose.array - wanted.array)[body].mean() for each in (rough, plan)]
    assert apart[1] < apart[0]
    assert sum(beam.points // 2 for beam in rough.beams) <= 7


def test_a_goal_that_the_wanted_dose_meets_is_kept(planner: Planner, planned: tuple) -> None:
    bound, wanted, plan, _ = planned

    def coldest(dose: Volume) -> float:
        return float(evaluate(bound, dose).predicted["PTV"].dose_at_percent(98.0))

    least = coldest(wanted) - 0.1
    kept = KeptGoals.of(bound, wanted, wanted, [parse_wish(f"PTV D98% >= {least:.2f} Gy")])
    anew = planner.planned(wanted, keep=kept.lacking)
    short = [least - coldest(each.dose) for each in (plan, anew)]
    assert short[0] > 1.0 and short[1] < 0.5 * short[0]
    assert not [row for row in check_plan(anew.beams, MACHINE, 1.8) if not row.passed]


def test_the_target_gets_what_was_wanted(planned: tuple) -> None:
    bound, wanted, plan, _ = planned
    target, body = bound.structures["PTV"].mask.binary(), bound.external.binary()
    apart = plan.dose.array - wanted.array
    assert abs(apart[target].mean()) < 1.0
    assert np.abs(apart[body]).mean() < 2.0
    assert not plan.dose.array[~body].any()


def test_progress_rises_and_names_its_stages(planned: tuple) -> None:
    _, _, _, heard = planned
    shares = [share for share, _ in heard]
    assert shares == sorted(shares) and (shares[0], shares[-1]) == (0.0, 1.0)
    stages = list(dict.fromkeys(stage for _, stage in heard))
    assert stages[:3] == ["influence matrix", "fluence", "segments"]


@pytest.mark.parametrize("after", [1, 4, 9])
def test_it_can_be_cancelled_between_any_two_steps(after: int) -> None:
    calls = 0

    def heard(share: float, stage: str) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise PredictionCancelled("cancelled")

    bound = small_case()
    planner = Planner(bound, MACHINE, [0.0, 120.0], 25, QUICK)
    with pytest.raises(PredictionCancelled):
        planner.planned(falling_dose(bound.case.grid), heard)


def test_a_flipped_grid_gets_the_same_plan(planned: tuple) -> None:
    """Axes stored the other way round: the same patient."""
    straight = small_case()
    flipped = small_case(direction=((-1, 0, 0), (0, -1, 0), (0, 0, 1)))
    doses = []
    for bound in (straight, flipped):
        wanted = falling_dose(bound.case.grid)
        plan = Planner(bound, MACHINE, [0.0, 120.0], 25, QUICK).planned(wanted)
        doses.append(plan.dose.reordered_to_lps().array)
    np.testing.assert_allclose(doses[0], doses[1], atol=0.3)


@pytest.mark.parametrize(
    ("free", "remedy"),
    [(10 * 2**20, r"--dose-grid"), (2**10, r"fewer beams, or close other programs")],
)
def test_too_little_memory_is_said_before_the_work(
    monkeypatch: pytest.MonkeyPatch, free: int, remedy: str
) -> None:
    """A grid is proposed where there is one that may be asked for."""
    monkeypatch.setattr(planner_module, "available_memory_bytes", lambda: free)
    bound = small_case()
    planner = Planner(bound, MACHINE, equally_spaced(5), 25, QUICK)
    with pytest.raises(DosePredictionError, match=rf"influence matrix needs about .*{remedy}"):
        planner.planned(falling_dose(bound.case.grid))


def test_what_cannot_be_planned_is_refused_in_one_line() -> None:
    bound = small_case()
    without = replace(bound.case, structures={"Body": bound.case.structures["Body"]})
    with pytest.raises(CaseError, match="has no target to plan for"):
        Planner(bind(without), MACHINE, [0.0], 25)
    turn = np.radians(10)
    oblique = ((np.cos(turn), -np.sin(turn), 0), (np.sin(turn), np.cos(turn), 0), (0, 0, 1))
    with pytest.raises(CaseError, match="oblique by 10"):
        Planner(small_case(direction=oblique), MACHINE, [0.0], 25)
    with pytest.raises(CaseError, match="zero everywhere"):
        empty = bound.case.ct.with_array(np.zeros(bound.case.grid.shape, dtype=np.float32))
        Planner(bound, MACHINE, [0.0], 25, QUICK).planned(empty)
    with pytest.raises(CaseError, match="1 to 72 beams"):
        equally_spaced(0)
