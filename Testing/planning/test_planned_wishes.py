"""Goals that a person asks of a plan, as changes of the wanted dose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from DosePredictionLib.case import Case, Prescription
from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.planning.keeping import KeptGoals
from DosePredictionLib.planning.wishes import parse_wish, wanted_dose
from DosePredictionLib.structures.bound import BoundCase, bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Grid, Volume

GRID = Grid((10, 10, 10), (4.0, 4.0, 4.0))


def patient() -> BoundCase:
    masks = {name: np.zeros(GRID.shape, dtype=bool) for name in ("PTV", "Rectum", "Body")}
    masks["Body"][:] = True
    masks["Rectum"][2:4] = True
    masks["PTV"][6:8] = True
    case = Case(
        "cube",
        Volume(np.zeros(GRID.shape, dtype=np.int16), GRID),
        {name: Volume(mask, GRID) for name, mask in masks.items()},
        prescription=Prescription({"PTV": 45.0}, 25),
    )
    return bind(case, StructureProtocol.load("pelvis"))


BOUND = patient()
RECTUM = BOUND.structures["Rectum"].mask.binary()
PTV = BOUND.structures["PTV"].mask.binary()


def ramp(seed: int = 0) -> Volume:
    random = np.random.default_rng(seed)
    return Volume(random.uniform(0, 50, GRID.shape).astype(np.float32), GRID)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(50, 450), st.integers(0, 1000))
def test_a_volume_limit_is_met_by_the_wanted_dose(seed: int, tenths: int, permille: int) -> None:
    gy, percent = tenths / 10, permille / 10
    dose = ramp(seed)
    wanted = wanted_dose(BOUND, dose, [parse_wish(f"Rectum V{gy:g}Gy <= {percent:g} %")])
    inside = wanted.dose.array[RECTUM]
    assert (inside >= gy).mean() <= percent / 100 + 1e-6
    # As little as can be: nothing rises, nothing outside moves, and what is met is left alone.
    assert np.all(inside <= dose.array[RECTUM])
    np.testing.assert_array_equal(wanted.dose.array[~RECTUM], dose.array[~RECTUM])
    allowed = int(percent / 100 * RECTUM.sum())
    assert np.count_nonzero(inside != dose.array[RECTUM]) <= RECTUM.sum() - allowed


@pytest.mark.parametrize(
    ("text", "inside", "met"),
    [
        ("Rectum Dmean <= 20 Gy", RECTUM, lambda v: v.mean() <= 20.001),
        ("Rectum Dmax <= 30 Gy", RECTUM, lambda v: v.max() <= 30),
        ("Rectum D5% <= 30 Gy", RECTUM, lambda v: (v >= 30).mean() <= 0.05),
        ("Rectum D0.64cc < 30 Gy", RECTUM, lambda v: (v >= 30).sum() <= 10),
        ("PTV D95% >= 95 %Rx", PTV, lambda v: (v >= 0.95 * 45 - 1e-4).mean() >= 0.95),
        ("PTV Dmin >= 40 Gy", PTV, lambda v: v.min() >= 40),
        ("Rectum V50%Rx <= 10 %", RECTUM, lambda v: (v >= 22.5).mean() <= 0.1),
    ],
)
def test_every_kind_of_limit_is_met(text: str, inside: np.ndarray, met) -> None:
    wanted = wanted_dose(BOUND, ramp(), [parse_wish(text)], counts=[7.0])
    assert met(wanted.dose.array[inside])
    moved = wanted.dose.array != ramp().array
    assert moved.any() and not moved[~inside].any()
    assert np.all(wanted.weights.array[moved] == 7) and np.all(wanted.weights.array[~moved] == 1)


def test_a_limit_that_is_met_changes_nothing() -> None:
    wanted = wanted_dose(BOUND, ramp(), [parse_wish("Rectum V60Gy <= 0 %")])
    np.testing.assert_array_equal(wanted.dose.array, ramp().array)
    assert np.all(wanted.weights.array == 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Rectum", "takes a structure and a goal"),
        ("Rectum V40Gy", "takes a structure and a goal"),
        ("V40Gy <= 30 %", "takes a structure and a goal"),
        ("Heart V40Gy <= 30 %", "there is no such structure; there are PTV"),
        ("PTV CI >= 0.8", "not for this"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_in_one_line(text: str, words: str) -> None:
    with pytest.raises(DosePredictionError, match=words):
        wanted_dose(BOUND, ramp(), [parse_wish(text)])


def test_percent_of_a_prescription_is_of_the_target_that_a_goal_is_on() -> None:
    masks = {name: np.zeros(GRID.shape, dtype=bool) for name in ("PTV70", "PTV56", "External")}
    masks["External"][:], masks["PTV70"][6:8], masks["PTV56"][2:4] = True, True, True
    case = replace(
        BOUND.case,
        structures={name: Volume(mask, GRID) for name, mask in masks.items()},
        prescription=Prescription({"PTV70": 70.0, "PTV56": 56.0}, 35),
    )
    bound = bind(case, StructureProtocol.load("openkbp"))
    wanted = wanted_dose(bound, ramp(), [parse_wish("PTV56 Dmin >= 95 %Rx")])
    assert wanted.dose.array[masks["PTV56"]].min() == pytest.approx(0.95 * 56)


def flat(*changes: tuple[np.ndarray, float]) -> Volume:
    """45 Gy everywhere, and another dose in some voxels."""
    dose = np.full(GRID.shape, 45.0, dtype=np.float32)
    for voxels, gy in changes:
        dose[voxels] = gy
    return Volume(dose, GRID)


def test_what_misses_both_the_goal_and_the_wanted_dose_lacks_the_difference() -> None:
    cold, beside = np.zeros(GRID.shape, dtype=bool), np.zeros(GRID.shape, dtype=bool)
    cold[6, :2] = True  # a tenth of the target
    beside[5, :2] = True
    wanted = flat((RECTUM, 20.0), (beside, 30.0))
    texts = ("PTV D95% >= 95 %Rx", "PTV Dmax <= 40 Gy", "Rectum Dmean <= 25 Gy", "PTV CI >= 2")
    kept = KeptGoals.of(BOUND, wanted, wanted, [parse_wish(text) for text in texts])
    assert [goal.text for goal in kept.goals] == ["D95% >= 95 %Rx", "Dmean <= 25 Gy"]
    assert kept.lacking(wanted) is None

    lack = kept.lacking(flat((RECTUM, 20.0), (cold, 40.0), (beside, 29.0)))
    assert lack is not None
    # Beside the target, too, where less is given than was wanted; a DVH reads between voxels.
    np.testing.assert_allclose(lack.array[cold], 0.95 * 45 - 40)
    np.testing.assert_allclose(lack.array[beside], 1.0)
    assert not lack.array[~(cold | beside)].any()

    hot = kept.lacking(flat((RECTUM, 30.0), (beside, 30.0)))
    assert hot is not None
    np.testing.assert_allclose(hot.array, np.where(RECTUM, -10.0, 0))


def test_what_a_person_asks_for_on_top_is_not_kept_but_weighed() -> None:
    """Of a template's goals: one that is asked for by a wish alone, one that a wish gives up."""
    dose = flat((RECTUM, 30.0))
    wished = wanted_dose(BOUND, dose, [parse_wish("Rectum Dmean <= 20 Gy")]).dose
    spared = wanted_dose(BOUND, dose, [parse_wish("PTV Dmax <= 40 Gy")]).dose
    goals = [parse_wish("Rectum Dmean <= 25 Gy"), parse_wish("PTV D98% >= 95 %Rx")]
    kept = [KeptGoals.of(BOUND, dose, each, goals).goals for each in (dose, wished, spared)]
    assert [[goal.structure for goal in each] for each in kept] == [["PTV"], ["PTV"], []]


@pytest.mark.parametrize(
    "text", ["Bladder V20Gy <= 5 cc", "Bladder D2cc <= 5 Gy", "Bladder Dmean <= 5 Gy"]
)
def test_a_structure_of_no_voxel_cannot_be_asked_for(text: str) -> None:
    masks = {**BOUND.case.structures, "Bladder": Volume(np.zeros(GRID.shape, dtype=bool), GRID)}
    bound = bind(replace(BOUND.case, structures=masks), StructureProtocol.load("pelvis"))
    with pytest.raises(DosePredictionError, match="--goal Bladder"):
        wanted_dose(bound, ramp(), [parse_wish(text)])
