"""Preflight findings on a synthetic patient: an ellipse of tissue on a couch, 3 × 3 × 4 mm."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from support import ROOT

from DosePredictionLib.case import Case, Prescription
from DosePredictionLib.checks.registry import CHECKS, check_case, check_prediction
from DosePredictionLib.external import holes_filled
from DosePredictionLib.findings import Finding
from DosePredictionLib.mask import Mask
from DosePredictionLib.models.expectations import ModelExpectations
from DosePredictionLib.schema import from_json
from DosePredictionLib.structures.bound import BoundCase, bind
from DosePredictionLib.structures.eaten import eaten_findings
from DosePredictionLib.structures.mapping import ChannelMatch, StructureMapping, map_structures
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Grid, Volume

PELVIS = StructureProtocol.load("pelvis")
HEAD_AND_NECK = StructureProtocol.load("openkbp")
GRID = Grid((150, 110, 50), (3.0, 3.0, 4.0), (-223.5, -163.5, -98.0))
CARD = ModelExpectations(
    spacing_mm_min=(2.0, 2.0, 2.0),
    spacing_mm_max=(4.0, 4.0, 5.0),
    prescription_gy={"PTV": 45.0},
    fractions=25,
    technique="IMRT",
    hu_min=-1024.0,
    hu_max=2000.0,
)


def mm(grid: Grid = GRID) -> tuple[NDArray, NDArray, NDArray]:
    """LPS coordinates x, y, z of an axis-aligned LPS grid, each broadcast over `(z, y, x)`."""
    axes = [
        o + s * np.arange(n) for o, s, n in zip(grid.origin, grid.spacing, grid.size, strict=True)
    ]
    return axes[0][None, None], axes[1][None, :, None], axes[2][:, None, None]


def ball(x: float, y: float, z: float, radius: float, grid: Grid = GRID) -> NDArray[np.bool_]:
    across, deep, along = mm(grid)
    return (across - x) ** 2 + (deep - y) ** 2 + (along - z) ** 2 < radius**2


def ellipse(grid: Grid = GRID) -> NDArray[np.bool_]:
    across, deep, _ = mm(grid)
    return np.broadcast_to((across / 170) ** 2 + (deep / 110) ** 2 < 1, grid.shape).copy()


def couch(front: float, grid: Grid = GRID) -> NDArray[np.bool_]:
    """A shell of 6 mm and 450 mm across; `front` is the y of its upper side, mm."""
    across, deep, _ = mm(grid)
    return np.broadcast_to((deep >= front) & (deep < front + 6) & (abs(across) < 210), grid.shape)


def structures() -> dict[str, NDArray[np.bool_]]:
    return {
        "PTV": ball(0, 0, 0, 30),
        "Bladder": ball(0, -60, 0, 25),
        "Rectum": ball(0, 60, 0, 20),
        "FemurHead_L": ball(100, 0, 0, 22),
        "FemurHead_R": ball(-100, 0, 0, 22),
        "Body": ellipse(),
    }


def scan() -> NDArray[np.int16]:
    ct = np.where(ellipse(), 20, -1000).astype(np.int16)
    ct[couch(120)] = -200
    return ct


def case_of(
    ct: NDArray | None = None,
    masks: Mapping[str, NDArray] | None = None,
    prescription: Prescription | None = None,
    grid: Grid = GRID,
) -> Case:
    masks = structures() if masks is None else masks
    volumes = {name: Volume(mask, grid) for name, mask in masks.items()}
    return Case("case", Volume(scan() if ct is None else ct, grid), volumes, None, prescription)


def bound_by(case: Case, mapping: StructureMapping) -> BoundCase:
    """A case bound by a mapping that `bind` would not have made."""
    required = frozenset(PELVIS.required)
    return BoundCase(case, PELVIS, mapping, case.prescription, case.findings, required)


def check(
    case: Case,
    protocol: StructureProtocol = PELVIS,
    expectations: ModelExpectations | None = None,
    chosen: Mapping[str, str | None] | None = None,
) -> dict[str, Finding]:
    """Findings by id; that each has words and a sane place is checked on the way."""
    findings = check_case(bind(case, protocol, chosen, required=protocol.required), expectations)
    low, high = case.grid.bounds_mm()
    for finding in findings:
        assert finding.message.endswith((".", "?"))
        if finding.position_mm is not None:
            assert np.all(low <= finding.position_mm) and np.all(finding.position_mm <= high)
    assert [f.severity for f in findings] == sorted(
        (f.severity for f in findings), key=["blocking", "warning", "info"].index
    )
    return {finding.id: finding for finding in findings}


def test_a_sound_case_has_no_findings() -> None:
    case = case_of(prescription=Prescription({"PTV": 50.0}, 25, "step-and-shoot IMRT"))
    assert check(case, expectations=CARD) == {}


# --- The CT ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ct", "stated"),
    [
        (np.where(ellipse(), 130, 3).astype(np.int16), "8-bit"),
        (np.where(ellipse(), 1044, 24).astype(np.int16), "shifted"),
        (np.full(GRID.shape, -1000, np.int16), "distinguished"),
        (np.where(ellipse(), 0.6, 0.0).astype(np.float32), "distinguished"),
        (np.where(ellipse(), -500, -1000).astype(np.int16), "no tissue"),
    ],
    ids=["picture", "shifted", "constant", "scaled", "no tissue"],
)
def test_a_ct_that_is_not_hu_blocks(ct: NDArray, stated: str) -> None:
    findings = check(case_of(ct))
    assert set(findings) == {"ct-not-hu"}
    assert findings["ct-not-hu"].severity == "blocking"
    assert stated in findings["ct-not-hu"].message


def test_padding_below_air_is_worth_knowing_and_no_more() -> None:
    ct = scan()
    ct[:, :5] = -3024
    findings = check(case_of(ct), expectations=CARD)
    assert {i: f.severity for i, f in findings.items()} == {"ct-padding": "info"}


def test_ct_without_air_and_shifted_tissue_warn() -> None:
    fat_and_water = np.where(ball(0, 0, 0, 60), 20, -100).astype(np.int16)
    assert "ct-without-air" in check(case_of(fat_and_water))
    shifted = np.where(ellipse(), 1044, -1024).astype(np.int16)
    assert check(case_of(shifted))["target-not-tissue"].severity == "warning"


@pytest.mark.parametrize(("radius", "severity"), [(20.0, "warning"), (7.5, "info"), (4.0, None)])
def test_metal_is_found_where_most_of_it_lies(radius: float, severity: str | None) -> None:
    ct = scan()
    ct[ball(100, 0, 0, radius)] = 3071
    ct[couch(120)] = 3071  # outside the body: no concern
    found = check(case_of(ct)).get("metal")
    assert (found.severity if found else None) == severity
    if found and found.position_mm:
        assert np.linalg.norm(np.subtract(found.position_mm, (100, 0, 0))) < 20


def test_hu_beyond_the_models_range() -> None:
    ct = scan()
    ct[ball(0, 30, 20, 15)] = 1900
    expected = replace(CARD, hu_max=1500.0)
    assert "hu-out-of-range" in check(case_of(ct), expectations=expected)
    assert "hu-out-of-range" not in check(case_of(ct), expectations=CARD)


# --- Structures --------------------------------------------------------------------------------


def test_empty_structures_block_where_they_are_required() -> None:
    masks = structures()
    masks["Rectum"] = np.zeros(GRID.shape, bool)
    masks["FemurHead_L"] = np.zeros(GRID.shape, bool)
    case = case_of(masks=masks)
    mapping = map_structures(list(case.structures), PELVIS)
    empty = [f for f in check_case(bound_by(case, mapping)) if f.id == "structure-empty"]
    assert [(f.structure, f.severity) for f in empty] == [
        ("Rectum", "blocking"),
        ("FemurHead_L", "warning"),
    ]


def test_missing_structures_are_told_once() -> None:
    case = case_of()
    mapping = map_structures(list(case.structures), PELVIS)
    assert "structure-missing" in {f.id for f in mapping.findings}
    assert "structure-missing" not in {f.id for f in check_case(bound_by(case, mapping))}
    silent = StructureMapping("pelvis", mapping.matches)
    assert "structure-missing" in {f.id for f in check_case(bound_by(case, silent))}


def test_a_mapping_without_a_required_structure_blocks() -> None:
    case = case_of()
    matches = tuple(ChannelMatch(c.name, None, "") for c in PELVIS.channels)
    findings = check_case(bound_by(case, StructureMapping("pelvis", matches)))
    blocking = {f.structure for f in findings if f.severity == "blocking"}
    assert blocking == {"PTV", "Bladder", "Rectum"}  # a missing body is derived


@pytest.mark.parametrize("required", [(), ("PTV",), ("PTV", "Rectum"), ("PTV", "Marrow")])
def test_what_the_task_does_not_require_does_not_block(required: tuple[str, ...]) -> None:
    matches = tuple(ChannelMatch(c.name, None, "") for c in PELVIS.channels)
    bound = replace(
        bound_by(case_of(), StructureMapping("pelvis", matches)), required=frozenset(required)
    )
    blocking = {f.structure for f in check_case(bound) if f.severity == "blocking"}
    assert blocking == set(required)


def test_tiny_structure_counts_its_voxels() -> None:
    masks = structures()
    masks["Rectum"] = np.zeros(GRID.shape, bool)
    masks["Rectum"][25, 75, 70:73] = True
    found = check(case_of(masks=masks))["structure-tiny"]
    assert "3 voxels" in found.message
    assert found.position_mm == pytest.approx((-10.5, 61.5, 2.0))


def test_slices_left_out_are_counted() -> None:
    masks = structures()
    masks["Bladder"][22:24] = False
    found = check(case_of(masks=masks))["structure-gaps"]
    assert "2 of the" in found.message
    assert found.position_mm is not None and found.position_mm[2] == pytest.approx(-10.0)


def test_a_target_of_two_parts_is_no_gap_but_every_other_slice_is() -> None:
    masks = structures()
    masks["PTV"] = ball(0, 0, -30, 12) | ball(0, 0, 30, 12)
    assert "structure-gaps" not in check(case_of(masks=masks))
    masks["PTV"] = ball(0, 0, 0, 30)
    masks["PTV"][::2] = False
    assert check(case_of(masks=masks))["structure-gaps"].structure == "PTV"


def test_organs_that_overlap_report_their_common_volume() -> None:
    masks = structures()
    masks["Rectum"] = ball(0, -30, 0, 20)
    common = np.count_nonzero(masks["Rectum"] & masks["Bladder"]) * GRID.voxel_volume_cc
    findings = check(case_of(masks=masks))
    assert f"share {common:.2f} cc" in findings["structures-overlap"].message
    masks["Rectum"] = masks["Bladder"].copy()
    assert "same region" in check(case_of(masks=masks))["structures-overlap"].message


def test_marrow_may_hold_the_femoral_heads() -> None:
    masks = {**structures(), "Marrow": ball(100, 0, 0, 40) | ball(-100, 0, 0, 40)}
    assert "structures-overlap" not in check(case_of(masks=masks))


@pytest.mark.parametrize(("x", "severity"), [(0.0, None), (150.0, "warning"), (190.0, "blocking")])
def test_target_outside_the_body(x: float, severity: str | None) -> None:
    masks = {**structures(), "PTV": ball(x, 0, 0, 30)}
    found = check(case_of(masks=masks)).get("target-outside-body")
    assert (found.severity if found else None) == severity
    if found and found.position_mm:
        assert found.position_mm[0] > 150


def test_target_outside_the_body_of_a_case_without_contour() -> None:
    masks = {"PTV70": ball(0, 0, 0, 30), "Brainstem": ball(0, 60, 60, 10)}
    findings = check(case_of(masks=masks), HEAD_AND_NECK)
    assert {i: f.severity for i, f in findings.items()} == {"external-missing": "info"}
    masks["PTV70"] = ball(200, -120, 0, 20)
    findings = check(case_of(masks=masks), HEAD_AND_NECK)
    assert findings["target-outside-body"].severity == "blocking"


def test_organ_outside_the_body_warns() -> None:
    masks = {**structures(), "Bladder": ball(0, -110, 0, 20)}
    assert check(case_of(masks=masks))["structure-outside-body"].severity == "warning"


@pytest.mark.parametrize("eaten", ["Bladder", "PTV"])
def test_a_structure_cut_out_of_the_body_counts_as_body(eaten: str) -> None:
    """As Segment Editor does when it overwrites other segments."""
    masks = structures()
    masks["Body"] &= ~masks[eaten]
    case = case_of(masks=masks)
    findings = check(case)
    assert set(findings) == {"external-completed"}
    found = findings["external-completed"]
    assert found.severity == "warning"
    assert eaten in found.message and "Allow overlap" in found.remedy
    assert bind(case, PELVIS).external.array[masks[eaten]].all()
    assert np.array_equal(bind(case, PELVIS).external.array, ellipse())


def test_a_segment_that_another_one_has_eaten_is_noticed() -> None:
    """Bladder +10 mm over the PTV; the rectum shrinks by itself, which is nobody's doing."""
    before = case_of().structures
    masks = structures()
    masks["Bladder"] = ball(0, -60, 0, 40)
    masks["PTV"] &= ~masks["Bladder"]
    masks["Rectum"] = ball(0, 60, 0, 15)
    masks["Body"] &= ~masks["Bladder"]
    (found,) = eaten_findings(before, case_of(masks=masks).structures, besides=["Body"])
    lost_cc = np.count_nonzero(ball(0, 0, 0, 30) & masks["Bladder"]) * 0.036
    assert found.message.startswith(f"PTV lost {lost_cc:.1f} of")
    assert "to Bladder" in found.message
    assert found.position_mm is not None
    assert found.position_mm[1] < -15  # where the bladder is
    assert eaten_findings(before, before) == []


def test_states_on_different_grids_or_without_a_structure_are_not_compared() -> None:
    masks = structures()
    other = Grid(GRID.size, (3.0, 3.0, 4.0), (0.0, 0.0, 0.0))
    masks["PTV"] &= ball(0, 0, 30, 30)
    now = {name: Mask(mask, other) for name, mask in masks.items()}
    assert eaten_findings(case_of().structures, now) == []
    assert eaten_findings(case_of().structures, {}) == []


def test_gas_left_out_of_the_body_is_filled_and_worth_knowing() -> None:
    masks = structures()
    masks["Body"] &= ~ball(60, 0, 0, 15)
    found = check(case_of(masks=masks))["external-completed"]
    assert found.severity == "info"
    assert np.array_equal(bind(case_of(masks=masks), PELVIS).external.array, ellipse())


def test_what_cuts_the_body_open_is_enclosed_and_what_encloses_all_is_left_alone() -> None:
    """Up to the skin: no hole, but the structure itself belongs to the body."""
    masks = structures()
    bound = bind(case_of(masks=masks), PELVIS)
    assert np.array_equal(bound.external.array, masks["Body"])
    masks["Bladder"] = ball(0, -100, 0, 25)
    masks["Body"] &= ~masks["Bladder"]
    assert bind(case_of(masks=masks), PELVIS).external.array[masks["Bladder"]].all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_holes_are_filled_in_slices_across_any_axis(axis: int) -> None:
    mask = np.zeros((3, 7, 9), bool)
    mask[1, 1:6, 1:8] = True
    mask[1, 3, 4] = False  # enclosed in its slice
    mask[1, 5, 2] = mask[1, 4, 2] = False  # a notch: open to the edge
    turned = np.moveaxis(mask, 0, axis)
    filled = np.moveaxis(holes_filled(turned, axis), axis, 0)
    mask[1, 3, 4] = True
    assert np.array_equal(filled, mask)
    assert holes_filled(filled, 0) is filled
    assert not holes_filled(np.zeros((2, 3, 4), bool), axis).any()


def test_occupancy_masks_are_taken_as_they_are() -> None:
    masks = {name: mask.astype(np.float32) for name, mask in structures().items()}
    assert check(case_of(masks=masks), expectations=CARD) == {}


# --- Orientation -------------------------------------------------------------------------------


def test_left_and_right_swapped() -> None:
    masks = structures()
    masks["FemurHead_L"], masks["FemurHead_R"] = masks["FemurHead_R"], masks["FemurHead_L"]
    found = check(case_of(masks=masks))["left-right-swapped"]
    assert "200 mm" in found.message
    assert found.severity == "warning"
    del masks["FemurHead_R"]
    assert "left-right-swapped" in check(case_of(masks=masks))
    del masks["FemurHead_L"]
    masks["FemurHead_R"] = ball(-100, 0, 0, 22)
    assert "left-right-swapped" not in check(case_of(masks=masks))


def test_one_side_against_the_derived_body() -> None:
    masks = {"PTV70": ball(0, 0, 0, 30), "Parotid_L": ball(-60, 0, 40, 15)}
    assert "left-right-swapped" in check(case_of(masks=masks), HEAD_AND_NECK)


def test_front_and_back_exchanged() -> None:
    masks = structures()
    masks["Bladder"], masks["Rectum"] = masks["Rectum"], masks["Bladder"]
    assert "120 mm posterior" in check(case_of(masks=masks))["orientation-implausible"].message


@pytest.mark.parametrize(
    ("flips", "words"),
    [
        ((), None),
        (("x",), None),  # what is mirrored looks like another patient
        (("y",), "anterior"),
        (("x", "y"), "anterior"),  # called supine, and scanned prone
        (("z",), "superior"),
        (("x", "z"), "superior"),  # called head first, and scanned feet first
    ],
)
def test_bones_alone_tell_how_the_patient_lies(flips: tuple[str, ...], words: str | None) -> None:
    places = {"Marrow": (0, 40, 30), "FemurHead_L": (100, 0, -20), "FemurHead_R": (-100, 0, -20)}
    signs = [-1 if axis in flips else 1 for axis in "xyz"]
    middle = {name: ball(0, 0, 0, 20) for name in ("PTV", "Bladder", "Rectum")}
    masks = {**middle, "Body": ellipse()}
    for name, place in places.items():
        x, y, z = (sign * mm for sign, mm in zip(signs, place, strict=True))
        masks[name] = ball(x, y, z, 22)
    if "x" in flips:  # whoever contours goes by what is seen
        masks["FemurHead_L"], masks["FemurHead_R"] = masks["FemurHead_R"], masks["FemurHead_L"]
    found = check(case_of(masks=masks)).get("orientation-implausible")
    assert (found is None) if words is None else (found is not None and words in found.message)


def test_prone_patient_has_the_couch_in_front() -> None:
    ct = np.where(ellipse(), 20, -1000).astype(np.int16)
    assert "patient-prone" not in check(case_of(ct))
    ct[couch(-126)] = -200
    found = check(case_of(ct))["patient-prone"]
    assert found.severity == "warning"
    assert found.position_mm is not None and found.position_mm[1] < -110
    ct[couch(120)] = -200  # a board in front, the couch behind
    assert "patient-prone" not in check(case_of(ct))


def test_couch_inside_body() -> None:
    masks = structures()
    masks["Body"] = masks["Body"] | couch(120)
    found = check(case_of(masks=masks))["couch-in-body"]
    assert found.position_mm is not None and found.position_mm[1] == pytest.approx(123, abs=5)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("flip", [1.0, -1.0])
def test_findings_do_not_depend_on_how_the_file_is_stored(
    order: tuple[int, int, int], flip: float
) -> None:
    masks = structures()
    masks["FemurHead_L"], masks["FemurHead_R"] = masks["FemurHead_R"], masks["FemurHead_L"]
    masks["Bladder"][22:24] = False
    masks["Rectum"] = ball(0, 130, 0, 20)
    ct = np.where(ellipse(), 20, -1000).astype(np.int16)
    ct[couch(-126)] = -200
    direction = np.eye(3)[:, order] * flip
    corner = [
        GRID.origin[a] + (0 if flip > 0 else GRID.spacing[a] * (GRID.size[a] - 1)) for a in range(3)
    ]
    stored = Grid(
        tuple(GRID.size[a] for a in order),  # type: ignore[arg-type]
        tuple(GRID.spacing[a] for a in order),  # type: ignore[arg-type]
        tuple(corner),
        tuple(map(tuple, direction)),
    )
    plain = case_of(ct, masks)
    moved = Case(
        "moved",
        plain.ct.resampled_to(stored, "nearest"),
        {name: volume.resampled_to(stored, "nearest") for name, volume in plain.structures.items()},
    )
    expected, found = check(plain), check(moved)
    assert set(found) == set(expected) >= {"left-right-swapped", "structure-gaps", "patient-prone"}
    place, same_place = (
        found["left-right-swapped"].position_mm,
        expected["left-right-swapped"].position_mm,
    )
    assert place == pytest.approx(same_place)


# --- Extent and model --------------------------------------------------------------------------


def test_ct_too_short_for_the_target() -> None:
    masks = {**structures(), "PTV": ball(0, 0, -50, 30)}
    found = check(case_of(masks=masks))["ct-short"]
    assert "below" in found.message and "ends 20 mm" in found.message


def test_a_body_that_tapers_off_is_not_cut() -> None:
    """The vertex of a head close above the target."""
    head = ball(0, 0, 0, 90)
    ct = np.where(head, 20, -1000).astype(np.int16)
    masks = {"PTV70": ball(0, 0, 65, 20), "External": head}
    assert check(case_of(ct, masks), HEAD_AND_NECK) == {}


@pytest.mark.parametrize(
    ("prescription", "expected"),
    [
        (Prescription({"PTV": 45.0}, 25, "IMRT"), set()),
        (Prescription({"PTV": 51.7}, 25, "imrt"), set()),
        (Prescription({"PTV": 51.8}, 25), {"prescription-unlike-model"}),
        (Prescription({"PTV": 38.0}, 25), {"prescription-unlike-model"}),
        (Prescription({"PTV_other": 60.0}), {"prescription-unlike-model"}),
        (Prescription({"PTV": 45.0}, 5), {"fractionation-unlike-model"}),
        (Prescription({"PTV": 45.0}, 25, "VMAT"), {"technique-unlike-model"}),
        (Prescription({"PTV": 45.0}, 25, "9-field IMRT, simulated"), set()),
        (None, set()),
    ],
)
def test_prescription_against_the_card(
    prescription: Prescription | None, expected: set[str]
) -> None:
    findings = check(case_of(prescription=prescription), expectations=CARD)
    assert set(findings) == expected


def test_spacing_outside_the_models_range() -> None:
    narrow = replace(CARD, spacing_mm_max=(2.9, 4.0, 5.0))
    assert "3 × 3 × 4 mm" in check(case_of(), expectations=narrow)["spacing-out-of-range"].message


def test_expectations_are_read_from_a_card() -> None:
    card = {"spacing_mm_min": [2, 2, 2], "prescription_gy": {"PTV": 45}, "fractions": 25}
    read = from_json(ModelExpectations, card)
    assert read.spacing_mm_min == (2.0, 2.0, 2.0)
    assert read.prescription_gy == {"PTV": 45.0}
    assert from_json(ModelExpectations, {}) == ModelExpectations()


def test_a_full_size_ct_is_checked_in_two_seconds() -> None:
    grid = Grid((512, 512, 200), (1.0, 1.0, 2.0), (-255.5, -255.5, -199.0))
    masks = {name: np.zeros(grid.shape, bool) for name in ("Body", "PTV", "Bladder", "Rectum")}
    masks["Body"][:, 150:360, 90:420] = True
    masks["PTV"][80:120, 230:280, 230:280] = True
    masks["Bladder"][80:120, 180:230, 230:280] = True
    masks["Rectum"][80:120, 290:330, 230:280] = True
    ct = np.full(grid.shape, -1000, np.int16)
    ct[:, 150:360, 90:420] = 20
    case = case_of(ct, masks, grid=grid)
    bound = bind(case, PELVIS, required=PELVIS.required)
    start = time.process_time()
    findings = check_case(bound, CARD)
    assert time.process_time() - start < 2.0
    assert [f.id for f in findings if f.severity != "info"] == ["spacing-out-of-range"]


def test_a_whole_femur_in_a_head_is_told_with_its_size() -> None:
    masks = structures()
    assert "femur-not-head" not in check(case_of(masks=masks))
    masks["FemurHead_L"] = np.zeros(GRID.shape, bool)
    masks["FemurHead_L"][:, 20:34, 60:74] = True
    finding = check(case_of(masks=masks))["femur-not-head"]
    assert finding.structure == "FemurHead_L" and re.search(
        r"\d+ cc and is \d+ mm", finding.message
    )


@pytest.mark.parametrize(
    ("names", "blocks"),
    [
        (["PTV", "urinary_bladder", "colon", "femur_left", "femur_right"], True),
        (["PTV70", "Bladder", "Rectum"], True),
        (["PTV", "Bladder", "SpinalCord"], False),  # an organ of the model is there
        (["PTV70", "Bladder"], False),  # one organ states little
        (["PTV70", "Liver", "Heart"], False),
    ],
)
def test_a_model_of_another_body_site_blocks(names: list[str], blocks: bool) -> None:
    ball = structures()["PTV"]
    case = case_of(masks={name: ball for name in names})
    protocol = StructureProtocol.load("openkbp")
    findings = check_case(bind(case, protocol, {"PTV70": names[0]}))
    assert ("model-of-another-site" in {f.id for f in findings}) == blocks


def test_a_model_of_targets_alone_is_of_no_body_site() -> None:
    case = case_of(masks=dict.fromkeys(("PTV", "Bladder", "Rectum"), structures()["PTV"]))
    protocol = StructureProtocol.load(str(ROOT / "training/recipes/pelvis_ptv_only.json"))
    findings = check_case(bind(case, protocol))
    assert "model-of-another-site" not in {finding.id for finding in findings}


# --- After the prediction ----------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "stated"), [(1.0, False), (0.7, True), (1.3, True)])
def test_a_target_dose_far_from_the_prescription_is_told(factor: float, stated: bool) -> None:
    case = case_of(prescription=Prescription({"PTV": 45.0}, 25))
    dose = Volume(np.full(case.grid.shape, 45.0 * factor, np.float32), case.grid)
    findings = check_prediction(bind(case, PELVIS), dose)
    assert [f.id for f in findings] == (["target-dose-implausible"] if stated else [])
    assert all("Gy" in f.message and f.remedy for f in findings)


STATISTICS = {"anatomy", "distribution", "distribution_fit"}
"""Files that are no check, but what one of them compares with."""


def test_no_check_finds_what_the_table_does_not_list() -> None:
    listed = [id for check in CHECKS for id in check.findings]
    assert len(set(listed)) == len(listed)
    files = {path.stem for path in (ROOT / "DosePredictionLib/checks").glob("*.py")}
    assert {check.run.__name__.removeprefix("check_") for check in CHECKS} == (
        files - {"__init__", "registry", "thresholds", "view"} - STATISTICS
    )
