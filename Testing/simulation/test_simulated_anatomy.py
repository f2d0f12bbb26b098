"""Simulated patients: what lies where, and that a seed always gives the same one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
from conftest import COARSE_MM

from DosePredictionLib.case import Case
from DosePredictionLib.structures.protocol import StructureProtocol
from training.simulation.anatomy import build_anatomy
from training.simulation.phantom import phantom_grid, simulate_anatomy
from training.simulation.population import Patient, Site, draw_patient
from training.simulation.shapes import Ellipsoid, Mirrored, Space, Tube

SITES = get_args(Site)
Anatomy = Callable[[Site], Case]


def mask(case: Case, name: str) -> np.ndarray:
    return case.structures[name].array > 0.5


def middle_mm(case: Case, name: str) -> np.ndarray:
    """Mean position x, y, z, LPS mm."""
    z, y, x = (axis.mean() for axis in np.nonzero(mask(case, name)))
    return case.grid.world_from_index(np.array([x, y, z]))


def test_a_seed_gives_the_same_patient_and_another_seed_another(
    anatomy: Anatomy, patient_of: Callable[[Site], Patient]
) -> None:
    case = anatomy("prostate")
    assert draw_patient(7) == draw_patient(7) != draw_patient(8)
    again = simulate_anatomy(patient_of("prostate"), phantom_grid(COARSE_MM))
    assert np.array_equal(case.ct.array, again.ct.array)
    for name in case.structures:
        assert np.array_equal(mask(case, name), mask(again, name)), name
    assert not np.array_equal(case.ct.array, anatomy("prostate_bed").ct.array)


@pytest.mark.parametrize("site", SITES)
def test_all_nine_structures_are_there_and_inside_the_body(anatomy: Anatomy, site: Site) -> None:
    case = anatomy(site)
    channels = {channel.name for channel in StructureProtocol.load("pelvis").inputs}
    assert set(case.structures) == channels
    body = mask(case, "Body")
    for name in channels:
        assert mask(case, name).any(), name
        # The sacral crest of a thin patient may come through the skin.
        allowed = 0.03 if name == "Marrow" else 0.0
        assert (mask(case, name) & ~body).sum() <= allowed * mask(case, name).sum(), name


@pytest.mark.parametrize("site", SITES)
def test_organs_do_not_overlap(anatomy: Anatomy, site: Site) -> None:
    organs = ("Bladder", "Rectum", "Small_Intestine", "Marrow", "SpinalCord")
    for first, second in itertools.combinations((*organs, "FemurHead_L", "FemurHead_R"), 2):
        shared = mask(anatomy(site), first) & mask(anatomy(site), second)
        # The contour of a head reaches a little into the socket.
        allowed = 0.1 if (first, second[:9]) == ("Marrow", "FemurHead") else 0.0
        assert shared.sum() <= allowed * mask(anatomy(site), second).sum(), (first, second)


@pytest.mark.parametrize("site", SITES)
def test_left_is_left_and_organs_lie_in_their_order(anatomy: Anatomy, site: Site) -> None:
    case = anatomy(site)
    names = ("FemurHead_L", "FemurHead_R", "Bladder", "Rectum", "Small_Intestine", "SpinalCord")
    at = {name: middle_mm(case, name) for name in names}
    assert at["FemurHead_L"][0] > 60 and at["FemurHead_R"][0] < -60
    assert at["Bladder"][1] < at["Rectum"][1] < at["SpinalCord"][1] + 40
    assert at["Small_Intestine"][2] > at["Bladder"][2] > at["FemurHead_L"][2] - 20
    assert abs(at["Bladder"][0]) < 20 and abs(at["Rectum"][0]) < 20


@pytest.mark.parametrize("site", SITES)
def test_a_target_lies_between_the_femoral_heads_and_in_front_of_the_sacrum(
    anatomy: Anatomy, site: Site
) -> None:
    case = anatomy(site)
    target = mask(case, "PTV")
    for head in ("FemurHead_L", "FemurHead_R"):
        assert not (target & mask(case, head)).any()
    # Its margin may enter bone; it is no bone target.
    dense = (case.ct.array > 300)[target].mean()
    assert dense < 0.12
    columns = np.argwhere(target)
    rows = columns[:, 1]
    behind_the_canal = rows > np.argwhere(mask(case, "SpinalCord"))[:, 1].max()
    assert behind_the_canal.mean() < 0.02
    volume_cc = target.sum() * np.prod(COARSE_MM) / 1000
    assert (25 if site == "prostate_only" else 60) < volume_cc < 2500


@pytest.mark.parametrize("site", SITES)
def test_tissues_have_their_hounsfield_units(
    anatomy: Anatomy, site: Site, patient_of: Callable[[Site], Patient]
) -> None:
    case, patient = anatomy(site), patient_of(site)
    hu = case.ct.array
    assert hu.dtype == np.int16 and hu.min() >= -1000 and hu.max() <= 3000
    assert abs(np.median(hu[mask(case, "Bladder")]) - 8) < 12
    assert abs(np.median(hu[mask(case, "Marrow")]) - patient.marrow_hu) < 60
    assert np.median(hu[mask(case, "Body")]) > -130
    assert (hu[~mask(case, "Body")] < -600).mean() > 0.97
    # Cortex is there, and only within bone's range.
    assert 300 < np.percentile(hu[mask(case, "FemurHead_L")], 95) < 1300


def test_measures_drawn_stay_within_their_limits() -> None:
    patients = [draw_patient(seed) for seed in range(300)]
    assert {patient.site for patient in patients} == set(SITES) - {"prostate_only", "nodes"}
    assert all(50 <= patient.bladder_cc <= 600 for patient in patients)
    assert all(-9 <= patient.pelvic_tilt_deg <= 9 for patient in patients)
    for patient in patients:
        female = patient.site in ("cervix", "endometrium")
        assert (
            patient.sex == "female" if female else patient.site == "rectum" or patient.sex == "male"
        )
    heads = {
        sex: [p.femoral_head_radius_mm for p in patients if p.sex == sex]
        for sex in ("male", "female")
    }
    assert np.mean(heads["male"]) - np.mean(heads["female"]) == pytest.approx(2.5, abs=0.5)


def test_bladder_has_the_volume_that_was_drawn(
    anatomy: Anatomy, patient_of: Callable[[Site], Patient]
) -> None:
    for site in ("prostate", "rectum"):
        volume_cc = mask(anatomy(site), "Bladder").sum() * np.prod(COARSE_MM) / 1000
        drawn = patient_of(site).bladder_cc
        # Neighbors take a share of it, and it is a little boxier than an ellipsoid.
        assert 0.6 * drawn < volume_cc < 1.25 * drawn


def test_every_site_has_the_organs_of_its_sex(patient_of: Callable[[Site], Patient]) -> None:
    organs = {site: set(build_anatomy(patient_of(site)).organs) for site in SITES}
    assert "Prostate" in organs["prostate"] and "Prostate" not in organs["prostate_bed"]
    assert "Uterus" in organs["cervix"] and "Uterus" not in organs["endometrium"]
    assert not organs["cervix"] & {"Prostate", "SeminalVesicles"}


def test_shapes_fill_the_volume_that_they_should() -> None:
    axis = np.arange(-30.0, 30.1, 2.0)
    still = np.zeros((len(axis),) * 3, dtype=np.float32)
    space = Space((axis, axis, axis), (still, still, still), (2.0, 2.0, 2.0))
    ball = space.occupancy(Ellipsoid((0, 0, 0), (15, 15, 15)))
    assert ball.sum() * 8 == pytest.approx(4 / 3 * np.pi * 15**3, rel=0.02)
    egg = space.occupancy(Ellipsoid((0, 0, 0), (10, 15, 20), tilt_deg=30))
    assert egg.sum() * 8 == pytest.approx(4 / 3 * np.pi * 3000, rel=0.03)
    tube = Tube([(10, 0, -20), (10, 0, 20)], 6)
    assert space.occupancy(tube).sum() * 8 == pytest.approx(
        np.pi * 36 * 40 + 4 / 3 * np.pi * 216, rel=0.03
    )
    mirrored = space.occupancy(Mirrored(tube))
    assert np.allclose(mirrored[..., ::-1], space.occupancy(tube))
