"""Channels state what they are: a new one goes everywhere, and twins for gradients agree."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support import ROOT, centered_grid, ellipsoid, mirrored_case, pelvis_case, write_case_folder

from DosePredictionLib.encoding.channels import registry
from DosePredictionLib.encoding.channels.base import Channel, Source
from DosePredictionLib.encoding.channels.differentiable import (
    soft_disjoint,
    soft_distance,
    soft_occupancy,
    soft_strips,
    soft_target_dose,
    straight_binary,
)
from DosePredictionLib.encoding.channels.mask import disjoint_order
from DosePredictionLib.encoding.channels.registry import model_channels
from DosePredictionLib.encoding.channels.target_dose import target_levels
from DosePredictionLib.encoding.derived import DerivedInputs
from DosePredictionLib.encoding.encoder import (
    EncodingSettings,
    GridSettings,
    encode,
    network_channels,
)
from DosePredictionLib.encoding.strips import STRIP_ANGLES, strip_masks
from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.inference.predictor import Predictor
from DosePredictionLib.mask import Mask
from DosePredictionLib.models.dose_model import Architecture, DoseModel
from DosePredictionLib.networks import build_network
from DosePredictionLib.schema import from_json, to_json
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Grid
from training.augmentation import Crop, Spatial, varied_crop
from training.cache import HEADER, open_cache, prepare
from training.config import AugmentationConfig, TrainingConfig
from training.data import TrainingCase
from training.sampling import Samples

pytestmark = pytest.mark.usefixtures("one_thread")

PELVIS = StructureProtocol.load("pelvis")
HEAD_AND_NECK = StructureProtocol.load("openkbp")
SIZE, SPACING = (48, 48, 32), (8.0, 8.0, 8.0)
PLAIN = EncodingSettings(GridSettings("as-is", size=SIZE, spacing_mm=SPACING), dose_scale_gy=52.0)
QUIET = AugmentationConfig(flip_probability=0.0, ct_noise_hu=0.0, ct_shift_hu=0.0)


# --- A new channel is one class and one line ----------------------------------------------------


@dataclass(frozen=True)
class SideChannel(Channel):
    """How far a voxel lies to one side of the target, in units of `reach_mm`."""

    sign: float = 1.0
    reach_mm: float = 100.0

    def computed(self, source: Source) -> NDArray:
        """Positions along x, from the target's center."""
        grid = source.case.grid
        x_mm = grid.origin[0] + grid.spacing[0] * np.arange(grid.size[0])
        (target,) = source.case.bound.targets
        center = np.argwhere(target.array).mean(axis=0)[2]
        middle_mm = target.grid.world_from_index([center, 0, 0])[0]
        row = self.sign * (x_mm - middle_mm) / self.reach_mm
        return np.broadcast_to(row, grid.shape)


def side_channels(protocol: StructureProtocol, settings: EncodingSettings) -> Sequence[Channel]:
    own = settings.further.get("side")
    if own is None:
        return []
    pair = (("to the left", "to the right", 1.0), ("to the right", "to the left", -1.0))
    return [
        SideChannel(name, mirror, "derived", -7.0, "linear", "float32", sign=sign, **own)
        for name, mirror, sign in pair
    ]


@pytest.fixture
def with_side(monkeypatch: pytest.MonkeyPatch) -> EncodingSettings:
    monkeypatch.setitem(registry.CHANNEL_KINDS, "side", side_channels)
    return replace(PLAIN, further={"side": {"reach_mm": 50.0}})


def test_a_new_channel_goes_through_encoding_training_and_prediction(
    with_side: EncodingSettings, tmp_path: Path
) -> None:
    case = pelvis_case(SIZE, SPACING)
    path = write_case_folder(tmp_path / "cases" / "patient", case)
    encoded = encode(bind(case, PELVIS), with_side)
    x_mm = case.grid.origin[0] + 8.0 * np.arange(48)
    assert encoded.input.shape[0] == 16
    np.testing.assert_allclose(encoded.input[14, 3, 5], x_mm / 50, atol=1e-5)
    # The mirrored patient, the manifest, the network's channels.
    order = encoded.channels.mirrored
    assert order[14:] == [15, 14]
    mirrored = encode(bind(mirrored_case(case), PELVIS), with_side).input
    np.testing.assert_allclose(encoded.input[order][..., ::-1], mirrored, atol=1e-5)
    assert from_json(EncodingSettings, json.loads(json.dumps(to_json(with_side)))) == with_side
    counts = network_channels(PELVIS, with_side)
    assert counts["derived_channels"] == 2
    # Training: directly, from a cache, in padded crops, flipped.
    read = TrainingCase.read(path, PELVIS, with_side)
    prepare(path.parent, tmp_path / "cache", PELVIS, with_side, workers=1)
    (cached,) = open_cache(tmp_path / "cache", PELVIS, with_side)
    for each in (read, cached):
        assert np.array_equal(each.input(), encoded.input)
    padded = cached.stored_block((-4, 0, -2), (8, 8, 8))
    assert (padded[14:, :4] == -7).all() and (padded[14:, :, :, :2] == -7).all()
    assert np.array_equal(padded[14, 4, 0, 2:], encoded.input[14, 0, 0, :6])
    crop = (32, 48, 48)
    flipped = replace(QUIET, flip_probability=1.0)
    config = TrainingConfig("pelvis", with_side, crop=crop, augmentation=flipped)
    sample = Samples([cached], config, PELVIS)[0]
    assert (sample.input[15] == cached_crop(cached, config)[14].flip(-1)).all()
    # Prediction: the model's network receives it.
    arguments = {**counts, "stage1_filters": 2, "stage2_filters": 2}
    torch.manual_seed(5)
    network = build_network("two_stage", arguments).eval()
    model = model_of(tmp_path, with_side, arguments, network)
    dose = Predictor(model, "cpu", "fp32").predict(case).dose.array
    with torch.no_grad():
        final = network(torch.from_numpy(encoded.input)[None]).final[0, 0].numpy()
    body = case.structures["Body"].binary()
    np.testing.assert_allclose(dose, np.where(body, np.maximum(final, 0) * 52, 0), atol=1e-2)


def cached_crop(case: TrainingCase, config: TrainingConfig) -> torch.Tensor:
    return Samples([case], replace(config, augmentation=QUIET), PELVIS)[0].input


def model_of(
    folder: Path, settings: EncodingSettings, arguments: dict, network: torch.nn.Module
) -> DoseModel:
    from DosePredictionLib.models.manifest import SCHEMA_VERSION, ModelManifest
    from DosePredictionLib.models.published import published_expectations

    manifest = ModelManifest(
        schema_version=SCHEMA_VERSION,
        name="side",
        title="side",
        protocol="pelvis",
        architecture=Architecture("two_stage", arguments),
        encoding=settings,
        expectations=published_expectations(PELVIS),
        weights_sha256="",
    )
    return DoseModel.create(folder / "side", manifest, network.state_dict())


def test_a_kind_that_is_not_installed_is_named() -> None:
    with pytest.raises(DosePredictionError, match=r"the kind beams, .* it knows ct, mask"):
        model_channels(PELVIS, replace(PLAIN, further={"beams": {}}))


def test_a_model_that_cannot_be_mirrored_says_why(
    with_side: EncodingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.CHANNEL_KINDS, "side", lambda *args: side_channels(*args)[:1])
    with pytest.raises(DosePredictionError, match="to the left is to the right, which is no chan"):
        _ = model_channels(PELVIS, with_side).mirrored


def test_the_channels_need_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import DosePredictionLib.encoding.encoder, DosePredictionLib.encoding.channels.registry"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# --- What training does with what channels state ------------------------------------------------


def training_case(folder: Path, settings: EncodingSettings) -> TrainingCase:
    path = write_case_folder(folder / "patient", pelvis_case(SIZE, SPACING))
    return TrainingCase.read(path, PELVIS, settings)


def crop_of(case: TrainingCase) -> Crop:
    x = torch.from_numpy(case.input())
    shape = (1, *x.shape[1:])
    body = torch.from_numpy(case.body)[None]
    return Crop(x, torch.zeros(shape), torch.ones(shape), body, case.spacing_mm)


def test_beyond_the_grid_lies_air_and_every_surface_is_far_away(tmp_path: Path) -> None:
    blind = replace(
        PLAIN, ct_window_hu=(-1e9, 1e9), derived=DerivedInputs(distances="all", target_dose=True)
    )
    case = training_case(tmp_path, blind)
    padding = [channel.padding for channel in case.channels.channels]
    assert padding[1:14] == [0.0] * 13  # masks and strips
    assert padding[14:] == [1.0] * 9 + [0.0]  # distances, target dose
    assert padding[0] == pytest.approx(0.5, abs=1e-5)  # no gray that the inside does not have
    block = case.stored_block((-8, 0, 0), (16, 48, 48))
    for index, value in enumerate(padding):
        assert (block[index, :8] == np.float32(value)).all(), case.channels.channels[index].name
    # A turned crop brings in the same from outside.
    turned = varied_crop(crop_of(case), case.channels, Spatial(degrees=30.0), [])
    for index in (0, *range(14, 23)):
        assert turned.input[index, 0, 0, 0] == pytest.approx(padding[index], abs=1e-4)


def test_a_dropped_organ_takes_its_distance_along(tmp_path: Path) -> None:
    derived = DerivedInputs(distances="all", distance_clip_mm=60.0, target_dose=True)
    settings = replace(PLAIN, derived=derived)
    case, absent = training_case(tmp_path, settings), pelvis_case(SIZE, SPACING)
    dropped = PELVIS.names.index("SpinalCord")
    ours = varied_crop(crop_of(case), case.channels, None, [dropped]).input.numpy()
    others = {k: v for k, v in absent.structures.items() if k != "SpinalCord"}
    expected = encode(bind(replace(absent, structures=others), PELVIS), settings).input
    np.testing.assert_allclose(ours, expected, atol=1e-3)
    # A target without which strips and prescribed dose are others.
    target = PELVIS.names.index("PTV")
    without = varied_crop(crop_of(case), case.channels, None, [target]).input
    assert not without[10:14].any() and not without[-1].any() and (without[14] == 1).all()


def test_a_turned_crop_has_the_strips_and_doses_of_its_target(tmp_path: Path) -> None:
    case = training_case(tmp_path, replace(PLAIN, derived=DerivedInputs(target_dose=True)))
    turned = varied_crop(crop_of(case), case.channels, Spatial(degrees=20.0, scale=1.1), [])
    target, body = turned.input[1].numpy() > 0, turned.body[0].numpy()
    grid = Grid(SIZE, SPACING)
    assert np.array_equal(turned.input[10:14].numpy(), strip_masks(target, body, grid))
    assert torch.equal(turned.input[-1], turned.input[1])
    assert not torch.equal(turned.input[1], crop_of(case).input[1])


def test_a_cache_of_an_older_layout_is_refused(tmp_path: Path) -> None:
    write_case_folder(tmp_path / "cases" / "patient", pelvis_case(SIZE, SPACING))
    cache = tmp_path / "cache"
    prepare(tmp_path / "cases", cache, PELVIS, PLAIN, workers=1)
    header = json.loads((cache / HEADER).read_text())
    del header["encoding"]["further"]  # written before the setting was there
    (cache / HEADER).write_text(json.dumps(header))
    assert len(open_cache(cache, PELVIS, PLAIN)) == 1
    (cache / HEADER).write_text(json.dumps({**header, "version": 1}))
    with pytest.raises(DosePredictionError, match=r"layout of version 1.* Prepare it anew"):
        open_cache(cache, PELVIS, PLAIN)
    with pytest.raises(DosePredictionError, match="layout of version 1"):
        prepare(tmp_path / "cases", cache, PELVIS, PLAIN, workers=1)


# --- Twins for gradients ------------------------------------------------------------------------


def test_soft_occupancy_is_the_resampled_mask() -> None:
    source = centered_grid((40, 36, 20), (2.0, 3.0, 4.0))
    target = centered_grid((30, 22, 17), (3.1, 4.7, 5.2))
    mask = ellipsoid(source, (4, -6, 3), (22, 30, 25))
    expected = Mask(mask, source).resampled_to(target).weights()
    occupancy = torch.from_numpy(mask.astype(np.float32)).requires_grad_()
    ours = soft_occupancy(occupancy, source, target)
    np.testing.assert_allclose(ours.detach().numpy(), expected, atol=1e-3)
    ours.sum().backward()
    # Every source voxel gives as much as its share of a target voxel's volume.
    share = np.prod(source.spacing) / np.prod(target.spacing)
    assert occupancy.grad[10, 18, 20].item() == pytest.approx(share, rel=1e-4)


def test_soft_strips_are_the_strips_and_pull_at_their_edges() -> None:
    grid = centered_grid((40, 50, 4), (3.0, 2.0, 5.0))
    target = ellipsoid(grid, (8, -6, 0), (15, 9, 30))
    body = ellipsoid(grid, (0, 0, 0), (55, 45, 90))
    expected = strip_masks(target, body, grid, STRIP_ANGLES, 3.0)
    soft, inside = (torch.from_numpy(each.astype(np.float64)) for each in (target, body))
    soft.requires_grad_()
    ours = soft_strips(soft, inside, STRIP_ANGLES, grid.spacing, 3.0)
    assert np.array_equal(ours.detach().numpy(), expected)
    rng = np.random.default_rng(2)
    partial = torch.from_numpy(np.clip(rng.random(target.shape) * 0.5 + 0.55 * target, 0, 1))
    halves = soft_strips(partial, inside, STRIP_ANGLES, grid.spacing) > 0.5
    assert np.array_equal(halves, strip_masks((partial > 0.5).numpy(), body, grid, STRIP_ANGLES))
    ours.sum().backward()
    assert soft.grad is not None and torch.isfinite(soft.grad).all() and soft.grad.any()
    small = torch.rand(2, 5, 4, dtype=torch.float64, requires_grad=True)
    whole = torch.ones_like(small).detach()
    assert torch.autograd.gradcheck(lambda t: soft_strips(t, whole, (0, 45), grid.spacing), small)


def test_soft_targets_are_disjoint_with_their_doses() -> None:
    from test_encoding import head_and_neck_case

    settings = EncodingSettings(
        GridSettings("native", spacing_mm_min=(2.0,) * 3, spacing_mm_max=(6.0,) * 3),
        masks="occupancy",
        derived=DerivedInputs(target_dose=True),
    )
    case = head_and_neck_case()
    encoded = encode(bind(case, HEAD_AND_NECK), settings)
    bound, masks = bind(case, HEAD_AND_NECK), []
    for channel in HEAD_AND_NECK.inputs:
        mask = bound.mask(channel.name)
        empty = np.zeros(encoded.grid.shape, np.float32)
        masks.append(empty if mask is None else mask.resampled_to(encoded.grid).weights())
    nested = torch.from_numpy(np.stack(masks)).requires_grad_()
    disjoint = soft_disjoint(nested, disjoint_order(HEAD_AND_NECK))
    assert np.array_equal(disjoint.detach().numpy(), encoded.input[1:11])
    dose = soft_target_dose(disjoint, target_levels(HEAD_AND_NECK, settings.dose_scale_gy))
    np.testing.assert_allclose(dose.detach().numpy(), encoded.input[-1], atol=1e-6)
    dose.sum().backward()
    assert nested.grad is not None and nested.grad[:3].any()


def test_thresholds_and_distances_keep_their_values_and_get_the_stated_gradient() -> None:
    grid = centered_grid((24, 24, 12), (2.0, 2.0, 3.0))
    mask = ellipsoid(grid, (0, 0, 0), (14, 12, 10))
    occupancy = torch.from_numpy(mask.astype(np.float32)).requires_grad_()
    distance = soft_distance(occupancy, grid.spacing, 20.0)
    settings = replace(PLAIN, derived=DerivedInputs(distances="targets", distance_clip_mm=20.0))
    channels = model_channels(PELVIS, settings)
    masks = np.zeros((9, *grid.shape), dtype=np.float32)
    masks[0] = mask
    source = Source(PELVIS, settings, grid.spacing, masks, mask | True)
    expected = channels.channels[-1].computed(source)
    np.testing.assert_allclose(distance.detach().numpy(), expected, atol=1e-6)
    distance.sum().backward()
    near = np.abs(expected) <= 2.0 / 20.0
    assert near.any()
    np.testing.assert_allclose(occupancy.grad.numpy(), np.where(near, -2.0 / 20.0, 0), atol=1e-6)
    soft = torch.tensor([[[0.2, 0.5, 0.9]]], requires_grad=True)
    hard = straight_binary(soft)
    assert hard.tolist() == [[[0, 1, 1]]]
    (hard * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert soft.grad is not None and soft.grad.tolist() == [[[1, 2, 3]]]
