from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from support import OPENKBP_SAMPLE, centered_grid, ct_of, ellipsoid, pelvis_case

from DosePredictionLib.case import Case, Prescription
from DosePredictionLib.checks.registry import check_case
from DosePredictionLib.encoding.encoder import (
    EncodingSettings,
    GridSettings,
    decode,
    encode,
)
from DosePredictionLib.encoding.strips import strip_masks, tangent_strips
from DosePredictionLib.io import read_case
from DosePredictionLib.mask import to_binary
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Volume

PELVIS = StructureProtocol.load("pelvis")
HEAD_AND_NECK = StructureProtocol.load("openkbp")
AS_IS = EncodingSettings(
    GridSettings("as-is", size=(80, 64, 48), spacing_mm=(5.0, 5.0, 5.0)), dose_scale_gy=52.0
)
FIXED = EncodingSettings(GridSettings("fixed-spacing", spacing_mm=(6.0, 6.0, 6.0)))
NATIVE = EncodingSettings(
    GridSettings("native", spacing_mm_min=(2.0, 2.0, 2.0), spacing_mm_max=(6.0, 6.0, 6.0))
)


def encoded(case: Case, settings: EncodingSettings, protocol: StructureProtocol = PELVIS):
    return encode(bind(case, protocol), settings)


def head_and_neck_case() -> Case:
    """Nested targets, a couch under the patient, and only an External beside them."""
    grid = centered_grid((96, 96, 64), (3.0, 3.0, 3.0))
    external = ellipsoid(grid, (0, 0, 0), (90, 100, 200))
    ct = ct_of(external)
    ct[:, 84:87, :] = 200  # a couch top at y = 109 … 115 mm
    masks = {
        "PTV_7000": ellipsoid(grid, (20, 0, 0), (18, 18, 24)),
        "PTV_6300": ellipsoid(grid, (15, 0, 0), (30, 26, 36)),
        "PTV_5600": ellipsoid(grid, (0, 0, 0), (55, 36, 60)),
        "External": external,
    }
    structures = {name: Volume(mask, grid) for name, mask in masks.items()}
    prescription = Prescription({"PTV70": 70.0, "PTV63": 63.0, "PTV56": 56.0}, 35)
    return Case("nested", Volume(ct, grid), structures, prescription=prescription)


def test_a_case_of_exactly_the_models_size_passes_bit_for_bit(case: Case) -> None:
    for spacing in [(5.0, 5.0, 5.0), (4.1, 4.3, 6.7)]:
        own = pelvis_case(spacing=spacing)
        result = encoded(own, AS_IS)
        assert result.grid == own.grid
        expected = (np.clip(own.ct.array, -1000, 1000).astype(np.float32) + 1000) / 2000
        assert np.array_equal(result.input[0], expected)
        for index, name in enumerate(PELVIS.names):
            assert np.array_equal(result.input[1 + index], own.structures[name].array)
        ptv, body = own.structures["PTV"].array, own.structures["Body"].array
        assert np.array_equal(result.input[10:], strip_masks(ptv, body, own.grid))


def test_the_dose_of_an_untouched_case_comes_back_bit_for_bit(case: Case) -> None:
    result = encoded(case, AS_IS)
    dose = np.random.default_rng(3).normal(20, 20, case.grid.shape).astype(np.float32)
    back = decode(dose, result, case)
    body = case.structures["Body"].array
    assert back.grid is case.grid
    assert np.array_equal(back.array, np.where(body, np.maximum(dose, 0), 0))


@pytest.mark.parametrize(
    "direction",
    [
        None,
        ((-1, 0, 0), (0, -1, 0), (0, 0, 1)),
        ((0, 0, 1), (1, 0, 0), (0, 1, 0)),
    ],
)
@pytest.mark.parametrize("settings", [NATIVE, FIXED])
def test_a_smooth_dose_survives_the_way_there_and_back(
    direction: tuple | None, settings: EncodingSettings
) -> None:
    case = pelvis_case((64, 60, 56), (4.0, 5.0, 5.0), direction)
    result = encoded(case, settings)
    assert result.grid.is_axis_aligned
    assert all(n % 16 == 0 for n in result.grid.size)
    assert case.plan_dose is not None
    dose = case.plan_dose.resampled_to(result.grid, "linear").array
    back = decode(dose, result, case)
    error = np.abs(back.array - case.plan_dose.array)
    assert error.mean() < (1e-6 if settings is NATIVE else 0.25)


def test_native_keeps_the_cases_own_voxels() -> None:
    case = pelvis_case((64, 60, 56), (4.0, 5.0, 5.0))
    result = encoded(case, NATIVE)
    offset = case.grid.index_from_world(result.grid.origin)
    assert np.allclose(offset, np.round(offset))
    assert np.allclose(result.grid.spacing, case.grid.spacing)
    body = case.structures["Body"].array
    assert result.body.sum() == body.sum()


def test_native_resamples_a_spacing_outside_the_cards_range() -> None:
    case = pelvis_case((200, 60, 30), (1.5, 5.0, 8.0))
    result = encoded(case, NATIVE)
    assert np.allclose(result.grid.spacing, (2.0, 5.0, 6.0))
    assert "resampled-to-model-grid" in {finding.id for finding in result.findings}


def test_an_oblique_case_is_resampled_onto_an_axis_aligned_grid() -> None:
    angle = np.radians(12)
    tilt = (
        (1, 0, 0),
        (0, float(np.cos(angle)), float(-np.sin(angle))),
        (0, float(np.sin(angle)), float(np.cos(angle))),
    )
    case = pelvis_case((80, 72, 64), (4.0, 4.0, 4.0), tilt)
    result = encoded(case, NATIVE)
    assert result.grid.is_axis_aligned
    cc = result.input[1].sum() * result.grid.voxel_volume_cc
    expected = case.structures["PTV"].array.sum() * case.grid.voxel_volume_cc
    assert np.isclose(cc, expected, rtol=0.03)


def test_nested_targets_become_disjoint_and_the_higher_level_wins() -> None:
    case = head_and_neck_case()
    result = encoded(case, replace(NATIVE, air_outside_external=True), HEAD_AND_NECK)
    high, mid, low = result.input[1:4]
    assert (high + mid + low).max() <= 1
    nested = case.structures
    assert high.sum() == nested["PTV_7000"].array.sum()
    assert mid.sum() == (nested["PTV_6300"].array & ~nested["PTV_7000"].array).sum()
    union = result.input[1:4].max(axis=0) > 0.5
    assert np.array_equal(result.input[11:], strip_masks(union, result.body, result.grid))


def test_the_couch_becomes_air_and_only_an_external_is_needed() -> None:
    case = head_and_neck_case()
    result = encoded(case, replace(NATIVE, air_outside_external=True), HEAD_AND_NECK)
    assert result.input[0][~result.body].max() == 0
    assert result.input.shape[0] == 1 + 10 + 4
    assert not result.input[4:11].any()  # no organ is contoured


def test_a_missing_external_is_derived_without_the_couch() -> None:
    case = head_and_neck_case()
    structures = {k: v for k, v in case.structures.items() if k != "External"}
    result = encoded(replace(case, structures=structures), NATIVE, HEAD_AND_NECK)
    true = case.structures["External"].array
    derived = result.external.array
    assert 2 * (true & derived).sum() / (true.sum() + derived.sum()) > 0.97
    assert not derived[:, 84:87, :].any()


def test_strips_that_came_with_the_case_are_used_and_reported(case: Case) -> None:
    ptv, body = case.structures["PTV"], case.structures["Body"]
    marked = {
        angle: strip.with_array(np.roll(strip.array, 3, axis=2))
        for angle, strip in tangent_strips(ptv, body).items()
    }
    own = replace(case, strips=marked)
    used = encode(bind(own, PELVIS), AS_IS)
    assert np.array_equal(used.input[10], marked[0].array)
    assert "strips-from-files" in {finding.id for finding in used.findings}
    anew = encode(bind(own, PELVIS), AS_IS, recompute_strips=True)
    assert np.array_equal(anew.input[10:], encoded(case, AS_IS).input[10:])


def test_a_target_that_does_not_fit_the_grid_blocks() -> None:
    case = pelvis_case()
    small = GridSettings("as-is", size=(64, 48, 16), spacing_mm=(5.0, 5.0, 4.0))
    result = encoded(case, replace(AS_IS, grid=small))
    (finding,) = [f for f in result.findings if f.severity == "blocking"]
    assert finding.id == "target-outside-model-grid"


def cropped_in_z(case: Case, below_mm: float, above_mm: float) -> Case:
    """The case with a CT that ends this far below and above its targets."""
    bound = bind(case, HEAD_AND_NECK)
    planes = np.flatnonzero(np.any([t.array.any(axis=(1, 2)) for t in bound.targets], axis=0))
    step = case.grid.spacing[2]
    first = max(0, int(planes[0] - round(below_mm / step)))
    last = min(case.grid.size[2], int(planes[-1] + 1 + round(above_mm / step)))
    grid = case.grid.cropped((0, 0, first), (*case.grid.size[:2], last - first))

    def cut(volume: Volume | None) -> Volume | None:
        return None if volume is None else Volume(volume.array[first:last], grid)

    return replace(
        case,
        ct=cut(case.ct),
        structures={name: cut(mask) for name, mask in case.structures.items()},
        plan_dose=cut(case.plan_dose),
        dose_mask=cut(case.dose_mask),
    )


@pytest.mark.parametrize("beyond_mm", [0.0, 5.0, 15.0])
def test_where_the_ct_ends_is_a_warning_and_no_refusal(beyond_mm: float) -> None:
    settings = DoseModel.load("openkbp-two-stage").manifest.encoding
    whole = read_case(OPENKBP_SAMPLE)
    for below, above in ((beyond_mm, beyond_mm), (beyond_mm, 500), (500, beyond_mm)):
        case = cropped_in_z(whole, below, above)
        bound = bind(case, HEAD_AND_NECK)
        result = encode(bound, settings)
        findings = [*result.findings, *check_case(bound)]
        assert not [f.message for f in findings if f.severity == "blocking"]
        (end,) = [f for f in result.findings if f.id == "target-near-end-of-data"]
        assert end.severity == "warning" and end.message.startswith("The CT ends")
        inside = sum(t.array.sum() for t in bound.targets)
        assert result.input[1:4].sum() == inside  # the whole target is seen


def test_a_body_contour_that_ends_before_the_ct_is_a_warning() -> None:
    """The native grid follows the external contour, which may end above and below the target."""
    case = pelvis_case((64, 60, 56), (4.0, 5.0, 5.0))
    for beyond in (8, 1, 0, -2):
        planes = np.flatnonzero(case.structures["PTV"].array.any(axis=(1, 2)))
        body = case.structures["Body"].array.copy()
        body[: planes[0] - beyond] = False
        body[planes[-1] + 1 + beyond :] = False
        short = replace(case, structures={**case.structures, "Body": Volume(body, case.grid)})
        for settings in (NATIVE, FIXED, replace(NATIVE, grid=replace(NATIVE.grid, reach_mm=30.0))):
            result = encoded(short, settings)
            assert not [f for f in result.findings if f.severity == "blocking"]
            found = [f for f in result.findings if f.id == "target-near-end-of-data"]
            assert [f.message[:13] for f in found] == ["The body ends"] * (beyond < 4)
    within = replace(NATIVE, grid=replace(NATIVE.grid, reach_mm=12.0))
    cut = encode(bind(case, PELVIS), within, divisor=1)
    (blocking,) = [f for f in cut.findings if f.severity == "blocking"]
    assert blocking.id == "target-outside-model-grid"  # the model's own limit


def test_a_structure_smaller_than_half_a_voxel_is_not_lost() -> None:
    occupancy = np.zeros((4, 4, 4), dtype=np.float32)
    occupancy[1, 2, 3] = 0.2
    assert np.argwhere(to_binary(occupancy)).tolist() == [[1, 2, 3]]
    assert not to_binary(np.zeros((2, 2, 2))).any()


def test_the_dose_mask_zeroes_the_output_and_is_no_input(case: Case) -> None:
    region = np.zeros(case.grid.shape, dtype=bool)
    region[:20] = True
    masked = replace(case, dose_mask=Volume(region, case.grid))
    one, other = encoded(case, AS_IS), encoded(masked, AS_IS)
    assert np.array_equal(one.input, other.input)
    dose = np.ones(case.grid.shape, dtype=np.float32)
    assert not decode(dose, other, masked).array[20:].any()


def test_a_dose_mask_is_believed_a_little_outside_the_body(case: Case) -> None:
    body = case.structures["Body"].touched()
    near, far = _grown(body, 10.0) & ~body, ~_grown(body, 20.0)
    assert near.any() and far.any()
    masked = replace(case, dose_mask=Volume(body | near | far, case.grid))
    dose = np.ones(case.grid.shape, dtype=np.float32)
    found = decode(dose, encoded(masked, AS_IS), masked).array
    assert found[body | near].all() and not found[far].any()
    assert not decode(dose, encoded(case, AS_IS), case).array[near].any()


@pytest.mark.parametrize("name", ["PTV", "Bladder"])
def test_a_structure_past_the_skin_keeps_its_dose_without_a_body_contour(
    case: Case, name: str
) -> None:
    masks = {key: mask for key, mask in case.structures.items() if key != "Body"}
    body = case.structures["Body"].touched()
    past = masks[name].touched() | (_grown(body, 10.0) & _grown(masks[name].touched(), 80.0))
    assert (past & ~body).any()
    bare = replace(case, structures={**masks, name: Volume(past, case.grid)})
    result = encode(bind(bare, PELVIS, required=PELVIS.required), AS_IS)
    dose = np.ones(case.grid.shape, dtype=np.float32)
    assert decode(dose, result, bare).array[past].all()


def _grown(mask: np.ndarray, mm: float) -> np.ndarray:
    assert AS_IS.grid.spacing_mm == (5.0, 5.0, 5.0)
    return np.asarray(ndimage.maximum_filter(mask, 2 * int(mm / 5.0) + 1))


def test_a_missing_body_is_derived_from_the_ct(case: Case) -> None:
    masks = {name: mask for name, mask in case.structures.items() if name != "Body"}
    bare = replace(case, structures=masks)
    result = encode(bind(bare, PELVIS, required=PELVIS.required), AS_IS)
    channel = result.input[1 + PELVIS.index("Body")]
    drawn = encoded(case, AS_IS).input[1 + PELVIS.index("Body")]
    assert np.array_equal(channel > 0, result.body)
    assert 2 * (channel * drawn).sum() / (channel.sum() + drawn.sum()) > 0.95
