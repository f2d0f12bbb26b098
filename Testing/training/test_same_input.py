"""Training and prediction see one and the same input: a case a row, every way of training."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from support import (
    OBLIQUE,
    OPENKBP_SAMPLE,
    centered_grid,
    ct_of,
    ellipsoid,
    pelvis_case,
    write_case_folder,
    write_nifti,
)

from DosePredictionLib.beams.arrangement import parse_beams
from DosePredictionLib.case import Case, Prescription
from DosePredictionLib.encoding.derived import DerivedInputs
from DosePredictionLib.encoding.encoder import EncodedCase, EncodingSettings, GridSettings, encode
from DosePredictionLib.encoding.strips import StripSettings, tangent_strips
from DosePredictionLib.errors import CaseError, DosePredictionError
from DosePredictionLib.io import read_case
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Volume
from training.cache import open_cache, prepare
from training.compact import open_compact, write_compact
from training.config import AugmentationConfig, TrainingConfig
from training.data import TrainingCase, cut, load_cases, require_one_prescription
from training.sampling import Samples, random_start

pytestmark = pytest.mark.usefixtures("one_thread")

PROTOCOLS = {name: StructureProtocol.load(name) for name in ("pelvis", "openkbp")}
SIZE, SPACING = (48, 48, 32), (8.0, 8.0, 8.0)
AS_IS = EncodingSettings(GridSettings("as-is", size=SIZE, spacing_mm=SPACING), dose_scale_gy=52.0)
FIXED = EncodingSettings(GridSettings("fixed-spacing", spacing_mm=(9.0, 9.0, 11.0)))
NATIVE = EncodingSettings(
    GridSettings("native", spacing_mm_min=(2.0, 2.0, 2.0), spacing_mm_max=(10.0, 10.0, 10.0))
)
ALL_DERIVED = DerivedInputs(distances="all", distance_clip_mm=60.0, target_dose=True)
PLAIN = AugmentationConfig(flip_probability=0.0, ct_noise_hu=0.0, ct_shift_hu=0.0)


@dataclass(frozen=True)
class Row:
    """A case, and how a model sees it."""

    case: Callable[[], Case | Path]
    settings: EncodingSettings
    protocol: str = "pelvis"
    finding: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)


def pelvis(**changes: Any) -> Case:
    return replace(pelvis_case(SIZE, SPACING), **changes)


def with_structures(
    change: Callable[[str, Volume], Volume | None], case: Case | None = None
) -> Case:
    case = case or pelvis()
    changed = {name: change(name, mask) for name, mask in case.structures.items()}
    return replace(case, structures={k: v for k, v in changed.items() if v is not None})


def softened(name: str, mask: Volume) -> Volume:
    values = ndimage.gaussian_filter(mask.array.astype(np.float32), 0.8)
    return Volume(np.clip(values, 0, 1), mask.grid)


def without(*names: str, case: Case | None = None) -> Case:
    return with_structures(lambda name, mask: None if name in names else mask, case)


def emptied(*names: str, case: Case | None = None) -> Case:
    def change(name: str, mask: Volume) -> Volume:
        return mask.with_array(mask.array & False) if name in names else mask

    return with_structures(change, case)


def speck(name: str, mask: Volume) -> Volume:
    """The spinal cord as a single voxel filled by a fifth."""
    if name != "SpinalCord":
        return mask
    values = np.zeros(mask.array.shape, dtype=np.float32)
    values[25, 30, 24] = 0.2
    return Volume(values, mask.grid)


def at_the_edge() -> Case:
    """A target that ends where the CT does."""
    case = pelvis()
    target = ellipsoid(case.grid, (0, 0, 110), (35, 30, 40))
    return with_structures(lambda n, mask: Volume(target, mask.grid) if n == "PTV" else mask, case)


def shifted_body(strips: bool = True) -> Case:
    """A patient beside the CT's middle: the native grid is as large as the CT, and elsewhere."""
    case = pelvis()
    body = ellipsoid(case.grid, (24, 0, 0), (150, 100, 400))
    case = with_structures(lambda n, mask: Volume(body, mask.grid) if n == "Body" else mask, case)
    case = replace(case, ct=Volume(ct_of(body), case.grid))
    return with_strips(case) if strips else case


def with_strips(case: Case, angles: tuple[int, ...] = (0, 45, 90, 135)) -> Case:
    strips = tangent_strips(case.structures["PTV"], case.structures["Body"], angles, 8.0)
    return replace(case, strips=strips)


def nested() -> Case:
    """Nested head-and-neck targets and one parotid."""
    grid = centered_grid(SIZE, (5.0, 5.0, 6.0))
    external = ellipsoid(grid, (0, 0, 0), (90, 100, 200))
    masks = {
        "PTV_7000": ellipsoid(grid, (20, 0, 0), (18, 18, 24)),
        "PTV_6300": ellipsoid(grid, (15, 0, 0), (30, 26, 36)),
        "PTV_5600": ellipsoid(grid, (0, 0, 0), (55, 36, 60)),
        "LeftParotid": ellipsoid(grid, (65, 10, 30), (12, 14, 18)),
        "External": external,
    }
    dose = 70 * ndimage.gaussian_filter(masks["PTV_5600"].astype(np.float32), 3)
    return Case(
        "nested",
        Volume(ct_of(external), grid),
        {name: Volume(mask, grid) for name, mask in masks.items()},
        Volume(dose, grid),
        Prescription({"PTV70": 70.0, "PTV63": 63.0, "PTV56": 56.0}, 35),
    )


def turned(direction: tuple) -> Case:
    return pelvis_case(SIZE, SPACING, direction)


def occupancy(settings: EncodingSettings) -> EncodingSettings:
    return replace(settings, masks="occupancy")


ROWS = {
    "binary masks": Row(pelvis, NATIVE),
    "resampled": Row(pelvis, FIXED, finding="resampled-to-model-grid"),
    "exactly the model's size": Row(pelvis, AS_IS),
    "fractions as binary": Row(lambda: with_structures(softened), FIXED),
    "fractions as touched": Row(lambda: with_structures(softened), replace(AS_IS, masks="touched")),
    "fractions as occupancy": Row(lambda: with_structures(softened), occupancy(NATIVE)),
    "binary as occupancy, resampled": Row(pelvis, occupancy(FIXED)),
    "absent organs": Row(lambda: without("Small_Intestine", "FemurHead_R", "Marrow"), NATIVE),
    "absent external": Row(
        lambda: without("External", case=nested()),
        replace(NATIVE, air_outside_external=True),
        "openkbp",
    ),
    "all-zero organs": Row(lambda: emptied("SpinalCord", "FemurHead_L"), FIXED),
    "all-zero external": Row(lambda: emptied("External", case=nested()), NATIVE, "openkbp"),
    "all-zero with its distance": Row(
        lambda: emptied("Marrow"), replace(NATIVE, derived=ALL_DERIVED)
    ),
    "smaller than half a voxel": Row(lambda: with_structures(speck), NATIVE),
    "target at the grid's edge": Row(at_the_edge, NATIVE, finding="target-near-end-of-data"),
    "target within reach": Row(pelvis, replace(FIXED, grid=replace(FIXED.grid, reach_mm=25.0))),
    "nested targets": Row(nested, replace(NATIVE, air_outside_external=True), "openkbp"),
    "nested targets and their doses": Row(nested, replace(NATIVE, derived=ALL_DERIVED), "openkbp"),
    "nested targets as occupancy": Row(
        nested, occupancy(replace(FIXED, derived=DerivedInputs(target_dose=True))), "openkbp"
    ),
    "another prescription": Row(
        lambda: pelvis(prescription=Prescription({"PTV": 50.4}, 28)),
        AS_IS,
        config={"prescription_gy": {"PTV": 45.0}},
    ),
    "no prescription": Row(
        lambda: pelvis(prescription=None), AS_IS, config={"prescription_gy": {"PTV": 45.0}}
    ),
    "back to front": Row(lambda: turned(((-1, 0, 0), (0, -1, 0), (0, 0, 1))), NATIVE),
    "permuted axes": Row(lambda: turned(((0, 0, 1), (1, 0, 0), (0, 1, 0))), NATIVE),
    "oblique": Row(lambda: turned(OBLIQUE), FIXED, finding="resampled-to-model-grid"),
    "other spacings": Row(lambda: pelvis_case((90, 40, 24), (4.0, 8.0, 12.0)), NATIVE),
    "strips that came with the case": Row(
        lambda: with_strips(pelvis()), AS_IS, finding="strips-from-files"
    ),
    "strips of a shifted grid": Row(shifted_body, NATIVE, finding="strips-recomputed"),
    "strips of some angles": Row(
        lambda: with_strips(pelvis(), (0, 90)), AS_IS, finding="strips-recomputed"
    ),
    "strips with a margin": Row(pelvis, replace(AS_IS, strips=StripSettings(margin_mm=9.0))),
    "distances and doses": Row(pelvis, replace(AS_IS, derived=ALL_DERIVED)),
    "finer distances": Row(
        pelvis, replace(FIXED, derived=DerivedInputs(distances="targets", refinement=2))
    ),
    "its own beams": Row(
        lambda: pelvis(beams=parse_beams("20,95,181-300")), replace(FIXED, further={"beam": {}})
    ),
    "the model's beams": Row(
        lambda: OPENKBP_SAMPLE,
        replace(NATIVE, further={"beam": {}}),
        "openkbp",
        finding="beams-of-model",
    ),
    "air outside the body": Row(pelvis, replace(FIXED, air_outside_external=True)),
    "a window without contrast": Row(pelvis, replace(AS_IS, ct_window_hu=(-1e9, 1e9))),
    "a possible-dose mask": Row(
        lambda: OPENKBP_SAMPLE, replace(NATIVE, air_outside_external=True), "openkbp"
    ),
    "the possible-dose mask as an input": Row(
        lambda: OPENKBP_SAMPLE,
        replace(NATIVE, further={"region": {"of": "possible_dose_mask"}}),
        "openkbp",
        finding="possible-dose-mask-input",
    ),
    "the body as an input": Row(nested, replace(NATIVE, further={"region": {}}), "openkbp"),
}


def write_folder(folder: Path, case: Case) -> Path:
    """A case folder whose plan reaches its targets, wherever they have been moved to."""
    assert case.plan_dose is not None
    highest_gy = 45.0 if case.prescription is None else case.prescription.highest_gy
    dose_gy = case.plan_dose.array
    for name, mask in case.structures.items():
        if name.startswith("PTV"):
            dose_gy = np.where(mask.touched(), np.float32(highest_gy), dose_gy)
    return write_case_folder(folder, replace(case, plan_dose=case.plan_dose.with_array(dose_gy)))


@pytest.fixture
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Row, Path]:
    """A row and its case on disk."""
    row = ROWS[request.param]
    case = row.case()
    folder = tmp_path / "cases"
    if isinstance(case, Path):
        folder.mkdir()
        (folder / case.name).write_bytes(case.read_bytes())
        return row, folder / case.name
    path = write_folder(folder / "patient", case)
    for angle, strip in (case.strips or {}).items():
        write_nifti(path / f"strip_full_theta{angle:03d}.nii.gz", strip)
    return row, path


@pytest.mark.parametrize("stored", ROWS, indirect=True)
def test_training_sees_what_prediction_sees(stored: tuple[Row, Path], tmp_path: Path) -> None:
    row, path = stored
    protocol = PROTOCOLS[row.protocol]
    required = protocol.required
    predicted = encode(bind(read_case(path), protocol, required=required), row.settings)
    assert not [f for f in predicted.findings if f.severity == "blocking"]
    if row.finding:
        assert row.finding in {finding.id for finding in predicted.findings}
    read = TrainingCase.read(path, protocol, row.settings)
    _same(read.input(), predicted)
    prepare(path.parent, tmp_path / "cache", protocol, row.settings, workers=1)
    (cached,) = open_cache(tmp_path / "cache", protocol, row.settings)
    assert np.array_equal(cached.input(), read.input())
    for name in ("mask_bits", "dose_gy", "region", "body"):
        assert np.array_equal(getattr(cached, name), getattr(read, name)), name
    assert cached.prescription_gy == read.prescription_gy
    _same_in_compact_file(read, row, path.parent, tmp_path / "cases.npz")
    for case in (read, cached):
        _same_in_crops(case, row)


def test_a_target_that_leaves_the_grid_is_not_trained_on(tmp_path: Path) -> None:
    """As every case that prediction refuses: in a cache, in a compact file, and read directly."""
    small = replace(AS_IS, grid=GridSettings("as-is", size=(48, 48, 16), spacing_mm=(8, 8, 4)))
    outside = pelvis()
    far = ellipsoid(outside.grid, (0, 125, 0), (20, 15, 20))
    outside = with_structures(lambda n, m: m.with_array(far) if n == "PTV" else m, outside)
    no_hu = pelvis(ct=Volume(np.zeros(SIZE[::-1], dtype=np.int16), pelvis().grid))
    cases = tmp_path / "cases"
    for name, case, settings, said in (
        ("cut", pelvis(), small, "The target with a margin of 2 cm"),
        ("outside", outside, AS_IS, "lie outside Body"),
        ("raw", no_hu, AS_IS, "not HU"),
    ):
        path = write_folder(cases / name, case)
        with pytest.raises(CaseError, match=said) as refused:
            TrainingCase.read(path, PROTOCOLS["pelvis"], settings)
        assert str(path) in str(refused.value)
        with pytest.raises(CaseError, match=said):
            load_cases(cases, PROTOCOLS["pelvis"], settings, workers=1)
        for number, write in enumerate((prepare, write_compact)):
            target = tmp_path / f"{name}{number}"
            done = write(cases, target, PROTOCOLS["pelvis"], settings, workers=1)
            assert not done.cases and said in done.refused[name]
        shutil.rmtree(path)


def test_a_cohort_of_two_prescriptions_needs_one_for_the_model(tmp_path: Path) -> None:
    protocol = PROTOCOLS["pelvis"]
    for gy in (45.0, 50.4):
        case = pelvis(prescription=Prescription({"PTV": gy}, 28))
        write_folder(tmp_path / "cases" / str(gy), case)
    cases = load_cases(tmp_path / "cases", protocol, AS_IS, workers=1)
    config = TrainingConfig("pelvis", AS_IS)
    with pytest.raises(DosePredictionError, match=r"45 and 50\.4 Gy.*prescription_gy"):
        require_one_prescription(cases, config, protocol)
    require_one_prescription(cases[:1], config, protocol)
    stated = replace(config, prescription_gy={"PTV": 45.0})
    require_one_prescription(cases, stated, protocol)
    levels = replace(config, protocol="openkbp")
    require_one_prescription(cases, levels, PROTOCOLS["openkbp"])


def _same(x: np.ndarray, predicted: EncodedCase) -> None:
    """Equal to the last bit, but for what a channel's storage rounds."""
    channels = predicted.channels
    partial = channels.settings.masks == "occupancy"
    for index, channel in enumerate(channels.channels):
        expected = predicted.input[index]
        if channel.storage == "float16":
            expected = expected.astype(np.float16).astype(np.float32)
        if channel.storage == "recomputed" and partial:  # from rounded masks
            np.testing.assert_allclose(x[index], expected, atol=5e-4, err_msg=channel.name)
        else:
            assert np.array_equal(x[index], expected), channel.name


def _same_in_crops(case: TrainingCase, row: Row) -> None:
    """Whole, shifted and padded crops, and mirrored ones."""
    channels, protocol = case.channels, PROTOCOLS[row.protocol]
    whole = case.input()
    for more, flip in ((0, 0.0), (16, 0.0), (-16, 1.0)):
        crop = tuple(max(edge + more, 16) for edge in whole.shape[1:])
        config = TrainingConfig(
            row.protocol,
            row.settings,
            crop=crop,
            augmentation=replace(PLAIN, flip_probability=flip),
            **row.config,
        )
        start = random_start(case, crop, np.random.default_rng((config.seed, 0, 0)))
        sample = Samples([case], config, protocol)[0]
        expected = np.stack(
            [
                cut(whole[index], start, crop, channel.padding)
                for index, channel in enumerate(channels.channels)
            ]
        )
        dose = cut(case.dose_gy, start, crop) / row.settings.dose_scale_gy
        if row.config and case.prescription_gy:
            dose = dose * 45.0 / case.prescription_gy
        if flip:
            expected, dose = expected[channels.mirrored][..., ::-1], dose[..., ::-1]
        assert torch.equal(sample.input, torch.from_numpy(expected.copy()))
        np.testing.assert_allclose(sample.labels["dose"][0].numpy(), dose, rtol=1e-5)


def _same_in_compact_file(read: TrainingCase, row: Row, folder: Path, file: Path) -> None:
    """In the dose region's box, but for the steps of the CT; or refused before any work."""
    protocol = PROTOCOLS[row.protocol]
    can = row.settings.masks != "occupancy" and row.settings.derived.refinement == 1
    can = can and "beam" not in row.settings.further
    if not can:
        with pytest.raises(DosePredictionError, match="Train on a cache instead"):
            write_compact(folder, file, protocol, row.settings, workers=1)
        return
    write_compact(folder, file, protocol, row.settings, workers=1)
    (packed,) = open_compact(file, protocol, row.settings)
    x, expected = packed.input(), read.input()
    x = x[(slice(None), *packed.region_box)]
    expected = expected[(slice(None), *read.region_box)]
    inside = read.region[read.region_box]
    low, high = row.settings.ct_window_hu
    assert np.abs(x - expected)[0][inside].max() <= 4.0 / (high - low) + 1e-6
    assert (x[0][~inside] == read.channels.channels[0].padding).all()
    for index, channel in enumerate(read.channels.channels):
        if channel.storage in ("bits", "recomputed"):
            assert np.array_equal(x[index], expected[index]), channel.name
    assert packed.prescription_gy == read.prescription_gy
