"""Channels computed from the masks: by hand, mirrored, and alike in training and prediction."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import OPENKBP_SAMPLE, mirrored_case, pelvis_case

from DosePredictionLib.case import Case
from DosePredictionLib.encoding.channels.base import Source
from DosePredictionLib.encoding.channels.registry import model_channels
from DosePredictionLib.encoding.derived import DerivedInputs
from DosePredictionLib.encoding.encoder import (
    EncodingSettings,
    GridSettings,
    encode,
    mirrored_channels,
    network_channels,
)
from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.geometry import signed_distance_mm
from DosePredictionLib.io import read_case
from DosePredictionLib.networks import build_network
from DosePredictionLib.schema import from_json, to_json
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Grid, Volume

PELVIS = StructureProtocol.load("pelvis")
HEAD_AND_NECK = StructureProtocol.load("openkbp")
EVERYTHING = DerivedInputs(distances="all", distance_clip_mm=40.0, target_dose=True)
PLAIN = EncodingSettings(
    GridSettings("as-is", size=(48, 48, 32), spacing_mm=(8, 8, 8)), dose_scale_gy=52.0
)


def encoded(case, protocol, settings):
    return encode(bind(case, protocol), settings)


def derived_of(masks, spacing_mm, derived):
    """Derived channels of pelvis masks alone, as training makes them."""
    channels = model_channels(PELVIS, replace(PLAIN, derived=derived))
    body = np.ones(masks.shape[1:], dtype=bool)
    source = Source(PELVIS, channels.settings, spacing_mm, masks, body)
    return np.stack([channels.channels[i].computed(source) for i in channels.indices("derived")])


def test_distances_are_signed_and_anisotropic():
    mask = np.zeros((3, 3, 7), dtype=bool)
    mask[1, 1, 2:5] = True
    distance = signed_distance_mm(mask, (2.0, 3.0, 5.0))
    np.testing.assert_allclose(distance[1, 1], [3, 1, -1, -2, -1, 1, 3])
    assert distance[1, 0, 3] == pytest.approx(3 - 1)
    assert distance[0, 1, 3] == pytest.approx(5 - 1)
    assert distance[0, 0, 0] == pytest.approx(np.sqrt(16 + 9 + 25) - 1)


def test_distances_are_the_same_without_simpleitk(monkeypatch):
    rng = np.random.default_rng(7)
    mask = rng.random((17, 23, 29)) > 0.97  # specks, some on the volume's faces
    mask[5:12, 4:15, 8:20] = True
    fast = signed_distance_mm(mask, (2.0, 3.0, 5.0))
    monkeypatch.setitem(sys.modules, "SimpleITK", None)  # as on a machine that only trains
    np.testing.assert_allclose(signed_distance_mm(mask, (2.0, 3.0, 5.0)), fast, atol=1e-5)


def test_an_empty_structure_is_far_away_and_a_full_one_all_around():
    empty = np.zeros((9, 2, 2, 2), dtype=np.float32)
    settings = DerivedInputs(distances="targets")
    assert (derived_of(empty, (1, 1, 1), settings) == 1).all()
    assert (derived_of(empty + 1, (1, 1, 1), settings) == -1).all()


def test_without_them_the_input_is_what_it_was():
    case = pelvis_case((48, 48, 32), (8.0, 8.0, 8.0))
    plain = encoded(case, PELVIS, PLAIN).input
    more = encoded(case, PELVIS, replace(PLAIN, derived=EVERYTHING)).input
    assert plain.shape[0] == 14
    assert more.shape[0] == 14 + 9 + 1
    assert np.array_equal(more[:14], plain)


def test_the_targets_dose_is_the_level_of_each():
    case = read_case(OPENKBP_SAMPLE)
    grid = GridSettings("native", spacing_mm_min=(2.7, 2.7, 1.5), spacing_mm_max=(5.5, 5.5, 3.5))
    settings = EncodingSettings(grid, dose_scale_gy=70.0, derived=DerivedInputs(target_dose=True))
    result = encoded(case, HEAD_AND_NECK, settings).input
    dose = result[-1] * 70
    assert set(np.unique(dose.round(3))) <= {0.0, 56.0, 63.0, 70.0}
    for index, channel in enumerate(HEAD_AND_NECK.inputs):
        if channel.level_gy is not None and result[1 + index].any():
            assert (dose[result[1 + index] > 0.5].round(3) == channel.level_gy).all()
    pelvis = encoded(pelvis_case(), PELVIS, replace(PLAIN, derived=DerivedInputs(target_dose=True)))
    assert np.array_equal(pelvis.input[-1], pelvis.input[1])  # no level of its own: 1


def test_the_mirrored_patient_has_the_mirrored_channels():
    settings = replace(PLAIN, derived=EVERYTHING)
    case = pelvis_case((48, 48, 32), (8.0, 8.0, 8.0))
    # One femur head gone, so that left and right differ.
    lone = {k: v for k, v in case.structures.items() if k != "FemurHead_L"}
    case = replace(case, structures=lone)
    order = mirrored_channels(PELVIS, settings)
    plain = encoded(case, PELVIS, settings).input
    other = encoded(mirrored_case(case), PELVIS, settings).input
    assert sorted(order) == list(range(24))
    assert np.array_equal(plain[order][..., ::-1], other)
    assert not np.array_equal(plain[..., ::-1], other)


@pytest.mark.parametrize("derived", [DerivedInputs(), EVERYTHING])
def test_a_network_for_an_encoding_takes_its_input(derived):
    settings = replace(PLAIN, derived=derived)
    x = encoded(pelvis_case((48, 48, 32), (8.0, 8.0, 8.0)), PELVIS, settings).input
    channels = network_channels(PELVIS, settings)
    filters = {"stage1_filters": 2, "stage2_filters": 2}
    network = build_network("two_stage", {**channels, **filters}).eval()
    with torch.no_grad():
        final = network(torch.from_numpy(x)[None]).final
    assert final.shape[2:] == x.shape[1:]


def test_the_settings_travel_in_the_manifest_and_old_manifests_have_none():
    settings = replace(PLAIN, derived=EVERYTHING)
    content = json.loads(json.dumps(to_json(settings)))
    assert from_json(EncodingSettings, content) == settings
    del content["derived"]
    assert from_json(EncodingSettings, content) == PLAIN


def test_refined_distances_know_where_in_a_voxel_an_edge_lies() -> None:
    derived = DerivedInputs(distances="targets", distance_clip_mm=100.0, refinement=2)
    fine = Grid((16, 16, 16), (2.0, 2.0, 2.0), (1.0, 1.0, 1.0))
    mask = np.zeros(fine.shape, dtype=bool)
    mask[:, :, 5:] = True  # the edge lies at x = 10 mm, in the middle of a voxel of 4 mm
    ct = np.zeros(fine.shape, dtype=np.int16)
    body = Volume(np.ones(fine.shape, dtype=bool), fine)
    case = Case("edge", Volume(ct, fine), {"PTV": Volume(mask, fine), "Body": body})
    grid = GridSettings("fixed-spacing", spacing_mm=(4.0, 4.0, 4.0))
    result = encode(bind(case, PELVIS), EncodingSettings(grid, derived=derived), divisor=8)
    assert result.grid.matches(Grid((8, 8, 8), (4.0, 4.0, 4.0), (2.0, 2.0, 2.0)))
    distance = result.input[-1] * 100
    centers = 2.0 + 4 * np.arange(8)
    np.testing.assert_allclose(distance[4, 4], 10.0 - centers, atol=1.01)
    assert abs(distance[4, 4, 2]) < 1e-5
    with pytest.raises(DosePredictionError, match="compact file"):
        derived_of(result.input[1:10], (4, 4, 4), derived)


def test_a_refined_grid_fills_the_same_box() -> None:
    grid = Grid((4, 5, 6), (2.0, 3.0, 4.0), (10.0, 20.0, 30.0))
    fine = grid.refined(2)
    for mine, whole in zip(fine.bounds_mm(), grid.bounds_mm(), strict=True):
        np.testing.assert_allclose(mine, whole)
    assert fine.size == (8, 10, 12)
