from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from support import (
    OPENKBP_SAMPLE,
    PELVIS_SAMPLE,
    csv_folder,
    pelvis_case,
    write_case_folder,
    write_nifti,
)

from DosePredictionLib.case import Case
from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.io import read_case
from DosePredictionLib.io.openkbp import EDGE
from DosePredictionLib.io.volumes import read_volume, write_volume
from DosePredictionLib.volume import Volume

# ---------------------------------------------------------------- NIfTI case folders


@pytest.mark.parametrize("suffix", ["", "_256_64"])
@pytest.mark.parametrize(
    "direction", [None, ((-1, 0, 0), (0, -1, 0), (0, 0, 1)), ((0, 0, 1), (1, 0, 0), (0, 1, 0))]
)
def test_a_case_folder_reads_back_what_was_written(
    tmp_path: Path, suffix: str, direction: tuple | None
) -> None:
    case = pelvis_case((20, 18, 16), (12.0, 11.0, 13.0), direction)
    read = read_case(write_case_folder(tmp_path / "p1", case, suffix))
    assert read.name == "p1"
    assert read.grid.matches(case.grid)
    assert np.array_equal(read.ct.array, case.ct.array)
    assert set(read.structures) == set(case.structures)
    for name, mask in case.structures.items():
        assert np.array_equal(read.structures[name].array, mask.array)
    assert read.plan_dose is not None and case.plan_dose is not None
    assert np.allclose(read.plan_dose.array, case.plan_dose.array)
    assert read.prescription is not None
    assert read.prescription.target_gy == {"PTV": 45.0}
    assert read.prescription.fractions == 25


def test_the_shipped_pelvis_reads() -> None:
    case = read_case(PELVIS_SAMPLE)
    assert case.grid.size == (152, 102, 92)
    assert np.allclose(case.grid.spacing, 2.5)
    assert case.plan_dose is not None
    mean = {
        name: float(case.plan_dose.array[case.structures[name].array].mean())
        for name in ("PTV", "Rectum", "Bladder")
    }
    # The planning system's own means, in its DVH.
    assert mean == pytest.approx({"PTV": 45.88, "Rectum": 39.11, "Bladder": 45.91}, abs=0.3)


def test_nrrd_and_nifti_round_trip_on_an_oblique_anisotropic_grid(tmp_path: Path) -> None:
    from support import OBLIQUE, centered_grid

    grid = centered_grid((7, 6, 5), (3.0, 2.0, 1.0), OBLIQUE)
    values = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    for name in ("dose.nii.gz", "dose.nrrd"):
        write_volume(tmp_path / name, Volume(values, grid), "a dose")
        read = read_volume(tmp_path / name)
        assert read.grid.matches(grid)
        assert np.array_equal(read.array, values)
    assert sorted(path.name for path in tmp_path.glob("*dose*")) == ["dose.nii.gz", "dose.nrrd"]


def test_masks_of_255_or_labels_are_normalised_with_a_finding(tmp_path: Path, case: Case) -> None:
    folder = write_case_folder(tmp_path / "p", case)
    bladder = case.structures["Bladder"]
    write_nifti(folder / "Bladder.nii.gz", bladder.with_array(bladder.array.astype(np.uint8) * 255))
    read = read_case(folder)
    assert np.array_equal(read.structures["Bladder"].array, bladder.array)
    (finding,) = [f for f in read.findings if f.id == "mask-normalized"]
    assert finding.structure == "Bladder" and "255" in finding.message


def test_a_structure_on_another_grid_is_resampled_and_reported(tmp_path: Path, case: Case) -> None:
    folder = write_case_folder(tmp_path / "p", case)
    from support import centered_grid, ellipsoid

    fine = centered_grid((90, 80, 80), (2.0, 2.0, 2.0))
    write_nifti(folder / "Rectum.nii.gz", Volume(ellipsoid(fine, (0, 48, 0), (14, 14, 40)), fine))
    read = read_case(folder)
    cc = float(read.structures["Rectum"].array.sum()) * case.grid.voxel_volume_cc
    assert cc == pytest.approx(4 / 3 * np.pi * 1.4 * 1.4 * 4.0, rel=0.02)
    assert "structure-resampled" in {finding.id for finding in read.findings}


def test_stored_strips_are_read_with_their_angles(tmp_path: Path, case: Case) -> None:
    folder = write_case_folder(tmp_path / "p", case, "_256_64")
    for angle in (0, 45, 90, 135):
        strip = case.structures["PTV"].array.astype(np.uint8)
        write_nifti(folder / f"strip_full_theta{angle:03d}.nii.gz", Volume(strip, case.grid))
    read = read_case(folder)
    assert read.strips is not None and sorted(read.strips) == [0, 45, 90, 135]
    assert set(read.structures) == set(case.structures)


def test_a_prediction_in_the_folder_is_no_structure(tmp_path: Path, case: Case) -> None:
    folder = write_case_folder(tmp_path / "p", case, "_256_64")
    assert case.plan_dose is not None
    write_nifti(folder / "E2E_Baseline_Lband_Pred_Dose_256_64.nii.gz", case.plan_dose)
    assert set(read_case(folder).structures) == set(case.structures)


def damage(folder: Path, case: Case, kind: str) -> None:
    """Make a good folder bad in one way."""
    ct = folder / "ct.nii.gz"
    header = nibabel.load(ct).header
    if kind == "no ct":
        ct.unlink()
    elif kind == "truncated":
        ct.write_bytes(ct.read_bytes()[: ct.stat().st_size // 2])
    elif kind == "not nifti":
        ct.write_bytes(b"not an image at all" * 40)
    elif kind == "empty file":
        ct.write_bytes(b"")
    elif kind == "elsewhere":
        far = case.grid.cropped((1000, 0, 0), case.grid.size)
        write_nifti(folder / "Bladder.nii.gz", Volume(case.structures["Bladder"].array, far))
    elif kind == "nan ct":
        array = case.ct.array.astype(np.float32)
        array[3, 4, 5] = np.nan
        write_nifti(ct, case.ct.with_array(array))
    elif kind == "infinite mask":
        array = case.structures["Rectum"].array.astype(np.float32)
        array[0, 0, 0] = np.inf
        write_nifti(folder / "Rectum.nii.gz", case.ct.with_array(array))
    elif kind == "2d":
        nibabel.save(nibabel.Nifti1Image(case.ct.array[0].T, np.eye(4)), ct)
    elif kind == "4d":
        four = np.stack([case.ct.array.T] * 2, axis=-1)
        nibabel.save(nibabel.Nifti1Image(four, np.eye(4)), ct)
    elif kind in ("zero spacing", "negative spacing"):
        image = nibabel.Nifti1Image(case.ct.array.T, None, header)
        path = folder / "ct.nii"
        nibabel.save(image, path)
        raw = bytearray(path.read_bytes())
        value = 0.0 if kind == "zero spacing" else -2.0
        raw[80:84] = np.float32(value).tobytes()
        raw[252:256] = b"\0" * 4  # no qform, no sform: the spacing alone counts
        path.write_bytes(bytes(raw))
        ct.unlink()
    elif kind == "sheared":
        affine = np.diag([-5.0, -5.0, 5.0, 1.0])
        affine[0, 1] = 2.0
        nibabel.save(nibabel.Nifti1Image(case.ct.array.T, affine), ct)
    elif kind == "bad case.json":
        (folder / "case.json").write_text('{"prescription": {"PTV": "forty-five"}}')
    elif kind == "broken case.json":
        (folder / "case.json").write_text("{")
    elif kind == "zero prescription":
        (folder / "case.json").write_text('{"prescription": {"PTV": 0}}')
    elif kind == "twice":
        write_nifti(folder / "ct.nii", case.ct)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("no ct", "no CT"),
        ("truncated", "ct.nii.gz"),
        ("not nifti", "ct.nii.gz"),
        ("empty file", "ct.nii.gz"),
        ("elsewhere", "does not overlap"),
        ("nan ct", "NaN"),
        ("infinite mask", "Rectum.nii.gz"),
        ("2d", "dimensions"),
        ("4d", "dimensions"),
        ("zero spacing", "spacing"),
        ("negative spacing", "spacing"),
        ("sheared", "orthonormal"),
        ("bad case.json", "case.json"),
        ("broken case.json", "case.json"),
        ("zero prescription", "above 0"),
        ("twice", "twice"),
    ],
)
def test_a_bad_folder_is_refused_by_name_and_rule(
    case_folder: Path, case: Case, kind: str, names: str
) -> None:
    damage(case_folder, case, kind)
    with pytest.raises(DosePredictionError, match=names):
        read_case(case_folder)


def test_something_that_is_no_case_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DosePredictionError, match="no such file or folder"):
        read_case(tmp_path / "nowhere")
    with pytest.raises(DosePredictionError, match="is no case"):
        read_case(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DosePredictionError, match="is no case"):
        read_case(tmp_path / "notes.txt")


# ---------------------------------------------------------------- OpenKBP


def test_the_sparse_form_worked_by_hand(tmp_path: Path) -> None:
    case = read_case(csv_folder(tmp_path / "pt_9"))
    # Axes run anterior → posterior, right → left, superior → inferior.
    z, y, x = EDGE - 1 - 62, 60, 61
    assert case.ct.array[z, y, x] == 40 and case.ct.array[z - 1, y, x] == -24
    assert case.ct.array[0, 0, 0] == -1024
    assert case.plan_dose is not None
    assert case.plan_dose.array[z, y, x] == pytest.approx(70.5)
    assert np.argwhere(case.structures["PTV70"].array).tolist() == [[z, y, x]]
    assert case.grid.spacing == (3.8, 3.9, 2.5)
    assert case.prescription is not None and case.prescription.target_gy == {"PTV70": 70.0}
    assert case.structures["External"].array.sum() == 2


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"ct": ",data\n2097152,5\n"}, "2097152"),
        ({"ct": ",data\n-1,5\n"}, "-1"),
        ({"ct": ",data\n7,5\n7,6\n"}, "twice"),
        ({"ct": ",data\nseven,5\n"}, "row 2"),
        ({"dose": ",data\n7,much\n"}, "row 2"),
        ({"dose": ",data\n7\n"}, "row 2"),
        ({"dose": ",data\n7,nan\n"}, "NaN"),
        ({"PTV70": ",data\n7.5,\n"}, "whole number"),
        ({"voxel_dimensions": "3.9\n0\n2.5\n"}, "positive"),
        ({"voxel_dimensions": "3.9\n2.5\n"}, "three"),
        ({"voxel_dimensions": "a\nb\nc\n"}, "voxel_dimensions"),
    ],
)
def test_bad_sparse_files_are_refused_by_name(tmp_path: Path, changes: dict, names: str) -> None:
    folder = csv_folder(tmp_path / "pt_9", changes)
    with pytest.raises(DosePredictionError, match=names) as error:
        read_case(folder)
    assert next(iter(changes)) in str(error.value)


def test_a_patient_without_dose_is_a_case_without_a_plan(tmp_path: Path) -> None:
    folder = csv_folder(tmp_path / "pt_9")
    (folder / "dose.csv").unlink()
    assert read_case(folder).plan_dose is None


def test_the_shipped_patient_reads_and_lies_the_right_way_round() -> None:
    case = read_case(OPENKBP_SAMPLE)
    assert case.name == "pt_235"
    assert len(case.structures) == 10

    def center(name: str) -> np.ndarray:
        z, y, x = np.argwhere(case.structures[name].array).mean(axis=0)
        return case.grid.world_from_index([x, y, z])

    assert center("LeftParotid")[0] > center("RightParotid")[0]  # x runs to the patient's left
    assert center("Brainstem")[2] > center("Esophagus")[2]  # z runs up
    assert center("SpinalCord")[1] > center("Mandible")[1]  # y runs to the back


@pytest.mark.parametrize("keep", ["ct", "structure_masks", "voxel_dimensions"])
def test_an_npz_that_lacks_an_array_is_refused(tmp_path: Path, keep: str) -> None:
    with np.load(OPENKBP_SAMPLE) as archive:
        arrays = {key: archive[key] for key in archive.files if key != keep}
    np.savez_compressed(tmp_path / "pt.npz", **arrays)
    with pytest.raises(DosePredictionError, match=keep):
        read_case(tmp_path / "pt.npz")


def test_a_truncated_npz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pt.npz"
    path.write_bytes(OPENKBP_SAMPLE.read_bytes()[:100_000])
    with pytest.raises(DosePredictionError, match=r"pt\.npz"):
        read_case(path)


def test_case_json_names_the_prescription(case_folder: Path) -> None:
    (case_folder / "case.json").write_text(
        json.dumps({"prescription": {"PTV": 50.4}, "fractions": 28, "technique": "IMRT"})
    )
    prescription = read_case(case_folder).prescription
    assert prescription is not None
    assert (prescription.highest_gy, prescription.fractions) == (50.4, 28)
