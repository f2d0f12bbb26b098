"""Which fluence comes near most voxels, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from DosePredictionLib.beams.operator import MatrixOperator
from DosePredictionLib.planning.nearness import nearest_fluence, tolerance_weights


def test_steep_and_low_doses_count_less_and_targets_do_not() -> None:
    wanted = np.zeros((3, 3, 12), dtype=np.float32)
    wanted[..., :4], wanted[..., 4:8], wanted[..., 8:] = 50.0, 40.0, 2.0
    target = wanted == 50.0
    weights = tolerance_weights(wanted, 5.0, target)[1, 1]
    # Between 40 and 2 Gy the dose changes by 38 Gy in 10 mm, between 50 and 40 by 10 Gy.
    allowed = 1.0**2
    expected = {
        2: 1.0,
        3: 1.0,  # the target's edge
        4: allowed / (allowed + (2 * 1.0) ** 2),
        6: 1.0,
        7: allowed / (allowed + (2 * 3.8) ** 2),
        8: 0.3 * allowed / (allowed + (2 * 3.8) ** 2),
        10: 0.3,
    }
    for place, value in expected.items():
        assert weights[place] == pytest.approx(value, rel=1e-5), place


def one_element(voxels: int) -> MatrixOperator:
    return MatrixOperator(sparse.csc_array(np.ones((voxels, 1), dtype=np.float32)))


@pytest.mark.parametrize(("firm", "least", "most"), [(False, 10.0, 10.7), (True, 11.7, 12.3)])
def test_one_voxel_out_of_reach_does_not_spoil_the_others(
    firm: bool, least: float, most: float
) -> None:
    """Nine voxels want 10 Gy and one wants 30; least squares give 12 to all."""
    wanted = np.array([10.0] * 9 + [30.0], dtype=np.float32)
    kept = np.full(10, firm)
    found, weights = nearest_fluence(one_element(10), wanted, np.ones(10, np.float32), kept, 60)
    assert least <= found.dose[0] <= most
    assert (weights == 1).all() if firm else weights[-1] < 0.3 < weights[0]
