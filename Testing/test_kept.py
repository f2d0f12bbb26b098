"""What was computed from volumes is kept with them, and with nothing else."""

from __future__ import annotations

import gc
import pickle
import weakref

import numpy as np
from support import centered_grid, ellipsoid, pelvis_case

from DosePredictionLib.external import complete_external, derive_external, holes_filled
from DosePredictionLib.kept import KEPT, kept
from DosePredictionLib.mask import Mask
from DosePredictionLib.volume import Grid, Volume

calls: list[tuple[float, ...]] = []


@kept
def total(volume: Volume, weight: float = 1.0, *, besides: Volume | None = None) -> float:
    calls.append((weight,))
    extra = 0.0 if besides is None else float(besides.array.sum())
    return weight * float(volume.array.sum()) + extra


def ones(grid: Grid) -> Volume:
    return Volume(np.ones(grid.shape, dtype=np.float32), grid)


def test_a_value_is_computed_once_for_the_same_volumes_and_values() -> None:
    grid = centered_grid((4, 3, 2), (1.0, 2.0, 3.0))
    volume, other = ones(grid), ones(grid)
    calls.clear()
    assert [total(volume), total(volume), total(volume, 2.0), total(volume, 2.0)] == [
        24,
        24,
        48,
        48,
    ]
    assert len(calls) == 2
    assert total(other) == 24 and len(calls) == 3  # equal voxels are not the same volume
    assert total(volume, besides=other) == total(volume, besides=other) == 48 and len(calls) == 4


def test_only_the_last_few_values_are_kept() -> None:
    volume = ones(centered_grid((4, 3, 2), (1.0, 2.0, 3.0)))
    calls.clear()
    for weight in range(20):
        total(volume, weight)
        total(volume, 0)  # used again and again: it stays
    assert len(calls) == 20
    assert all(len(values) <= 4 for values in volume.__dict__[KEPT].values())
    total(volume, 1)
    assert len(calls) == 21


def test_what_is_kept_goes_with_the_volume_and_is_not_pickled() -> None:
    grid = centered_grid((30, 20, 10), (4.0, 4.0, 5.0))
    mask = Mask(ellipsoid(grid, (0, 0, 0), (30, 20, 20)), grid)
    moved = mask.resampled_to(centered_grid((15, 10, 10), (8.0, 8.0, 5.0)))
    assert mask.resampled_to(moved.grid) is moved
    assert KEPT not in pickle.loads(pickle.dumps(mask)).__dict__
    seen = weakref.ref(moved)
    del moved
    assert seen() is not None
    gc.disable()
    try:
        del mask
        assert seen() is None  # without the garbage collector
    finally:
        gc.enable()


def test_a_contour_that_stays_in_the_body_leaves_the_body_the_same() -> None:
    case = pelvis_case()
    body, organ = case.structures["Body"], case.structures["Bladder"]
    before = complete_external(body, [organ])
    cut = organ.binary()
    cut[cut.shape[0] // 2] = False
    assert complete_external(body, [Mask(cut, case.grid)]) is before
    assert derive_external(case.ct) is derive_external(case.ct)


def test_the_body_is_the_union_without_holes_whatever_leaves_it() -> None:
    """Structures within the contour, across its surface, in a hole of it and beside it."""
    grid = centered_grid((40, 36, 12), (4.0, 4.0, 5.0))
    drawn = ellipsoid(grid, (0, 0, 0), (60, 50, 40)) & ~ellipsoid(grid, (20, 0, 0), (12, 12, 60))
    places = {"in": (-20, 0, 0), "across": (0, 50, 0), "hole": (20, 0, 0), "beside": (70, 60, 0)}
    organs = {name: ellipsoid(grid, at, (10, 10, 12)) for name, at in places.items()}
    for names in ([], ["in"], ["hole"], ["across", "hole"], ["beside"], list(places)):
        union = np.logical_or.reduce([drawn, *(organs[name] for name in names)])
        found = complete_external(Mask(drawn, grid), [Mask(organs[n], grid) for n in names])
        assert np.array_equal(found.array, holes_filled(union, 0)), names
    nothing = Mask(np.zeros(grid.shape, dtype=bool), grid)
    assert complete_external(nothing, [Mask(organs["in"], grid)]).is_empty
