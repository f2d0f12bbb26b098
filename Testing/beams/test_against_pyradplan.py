"""An open field in water, beside pyRadPlan's pencil beams."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from beam_phantoms import arrangement, open_dose, water

from DosePredictionLib.beams.ray_model import RayModel
from DosePredictionLib.volume import Grid

SIZE, STEP_MM = (64, 64, 40), 5.0


def pyradplan_dose(target: np.ndarray, grid: Grid) -> np.ndarray:
    """Dose `(z, y, x)` of one 90° field whose elements are all open."""
    pytest.importorskip("pyRadPlan")
    from pyRadPlan import PhotonPlan, calc_dose_influence, generate_stf
    from pyRadPlan.cst import create_cst, create_voi
    from pyRadPlan.ct import create_ct

    def image(array: np.ndarray) -> sitk.Image:
        made = sitk.GetImageFromArray(array)
        made.SetSpacing(grid.spacing)
        made.SetOrigin(grid.origin)
        return made

    ct = create_ct(cube_hu=image(np.zeros(grid.shape, dtype=np.float32)))
    masks = {"TARGET": target, "EXTERNAL": np.ones_like(target)}
    structures = [
        create_voi(
            name=kind,
            ct_image=ct,
            mask=image(mask.astype(np.uint8)),
            voi_type=kind,
            objectives=[],
        )
        for kind, mask in masks.items()
    ]
    plan = PhotonPlan(machine="Generic")
    plan.prop_stf = {"gantry_angles": [90.0], "couch_angles": [0.0], "bixel_width": 5.0}
    plan.prop_dose_calc = {
        "geometric_lateral_cutoff": 60.0,
        "dose_grid": {"resolution": dict.fromkeys("xyz", STEP_MM)},
    }
    set_of_structures = create_cst(structures, ct=ct)
    beams = generate_stf(ct, set_of_structures, plan)
    influence = calc_dose_influence(ct, set_of_structures, beams, plan)
    return np.asarray(influence.physical_dose.flat[0].sum(axis=1)).reshape(grid.shape)


@pytest.mark.slow
def test_on_the_axis_of_an_open_field_the_dose_is_within_3_percent() -> None:
    anatomy = water(SIZE, (STEP_MM,) * 3, (80.0, 80.0, 80.0))
    theirs = pyradplan_dose(anatomy.targets["PTV"], anatomy.grid)
    ours = open_dose(arrangement(90), anatomy, RayModel())
    axis = (slice(19, 21), slice(31, 33))
    depth_mm = STEP_MM * (SIZE[0] - 0.5 - np.arange(SIZE[0]))
    ratio = ours[axis].mean(axis=(0, 1)) / theirs[axis].mean(axis=(0, 1))
    beyond = (depth_mm >= 20) & (depth_mm <= 280)
    middle = (ratio[beyond].max() + ratio[beyond].min()) / 2
    assert np.abs(ratio[beyond] / middle - 1).max() < 0.03
    # From the same side: the other way round the ratio spans a factor of four.
    assert ours[20, 32, -5] > 2 * ours[20, 32, 5]
