"""DICOM out: predictions as RTDOSE, masks as RTSTRUCT, read back by others, too."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from dicom_support import write_ct
from support import DICOM_SAMPLE

from DosePredictionLib.case import Case
from DosePredictionLib.errors import CaseError, DosePredictionError
from DosePredictionLib.evaluation.dvh import dvh
from DosePredictionLib.io import read_case
from DosePredictionLib.io.dicom import DicomCase, read_dicom
from DosePredictionLib.io.dicom.rtdose import Equipment, write_rtdose
from DosePredictionLib.io.dicom.rtstruct import write_rtstruct
from DosePredictionLib.io.doses import read_dose
from DosePredictionLib.io.volumes import write_volume
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.volume import Volume

Run = Callable[..., tuple[int, Any, str]]
EQUIPMENT = Equipment("some-model", "1.0")
FLIPPED = ((-1, 0, 0), (0, -1, 0), (0, 0, 1))
LEFT_HANDED = ((-1, 0, 0), (0, 1, 0), (0, 0, 1))


@pytest.fixture(scope="module")
def written(eclipse: DicomCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("written") / "dose.dcm"
    assert eclipse.case.plan_dose is not None
    write_rtdose(path, eclipse.case.plan_dose, eclipse.case, EQUIPMENT)
    return path


def test_a_dose_comes_back_within_half_a_scaling_step(eclipse: DicomCase, written: Path) -> None:
    case = eclipse.case
    assert case.plan_dose is not None and case.origin is not None
    back, findings = read_dose(written, case.grid, {}, frame_uid=case.origin.frame_of_reference_uid)
    assert back.grid.matches(case.grid) and not findings
    dataset = pydicom.dcmread(written)
    exact = dataset.pixel_array * float(dataset.DoseGridScaling)
    half_a_step = float(dataset.DoseGridScaling) / 2
    assert np.abs(exact - case.plan_dose.array).max() <= half_a_step * (1 + 1e-6)
    assert np.abs(back.array - case.plan_dose.array).max() <= 4e-6  # float32 at 47 Gy


def test_an_independent_reader_finds_the_same_dose(eclipse: DicomCase, written: Path) -> None:
    case = eclipse.case
    assert case.plan_dose is not None
    image = SimpleITK.ReadImage(str(written))
    assert image.GetSpacing() == pytest.approx(case.grid.spacing)
    assert image.GetOrigin() == pytest.approx(case.grid.origin, abs=1e-4)
    scaling = float(pydicom.dcmread(written).DoseGridScaling)
    values = SimpleITK.GetArrayFromImage(image).astype(float) * scaling
    assert np.abs(values - case.plan_dose.array).max() < 1e-6


def test_patient_frame_and_warning_are_in_the_header(written: Path) -> None:
    dose, ct = pydicom.dcmread(written), pydicom.dcmread(DICOM_SAMPLE / "CT_001.dcm")
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert dose[keyword].value == ct[keyword].value
    plan, planned = (
        pydicom.dcmread(DICOM_SAMPLE / "RP.dcm"),
        pydicom.dcmread(DICOM_SAMPLE / "RD.dcm"),
    )
    assert dose.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == plan.SOPInstanceUID
    assert dose.SOPInstanceUID != planned.SOPInstanceUID
    assert dose.SeriesInstanceUID not in (planned.SeriesInstanceUID, ct.SeriesInstanceUID)
    assert dose.SeriesDescription == "PREDICTED – NOT FOR CLINICAL USE"
    assert dose.BitsAllocated == 32
    equipment = dose.ContributingEquipmentSequence[0]
    assert (equipment.ManufacturerModelName, equipment.SoftwareVersions) == ("some-model", "1.0")


def test_dvhs_inside_are_those_of_the_evaluation(eclipse: DicomCase, written: Path) -> None:
    case = eclipse.case
    assert case.plan_dose is not None and case.origin is not None
    numbers = {number: name for name, number in case.origin.roi_numbers.items()}
    items = pydicom.dcmread(written).DVHSequence
    assert len(items) == 6
    for item in items:
        number = int(item.DVHReferencedROISequence[0].ReferencedROINumber)
        curve = dvh(case.plan_dose, case.structures[numbers[number]])
        assert float(item.DVHMeanDose) == pytest.approx(curve.mean_gy, abs=1e-6)
        widths, volumes_cc = np.array(item.DVHData, dtype=float).reshape(-1, 2).T
        assert len(widths) == item.DVHNumberOfBins and volumes_cc[-1] == 0
        assert volumes_cc[0] == pytest.approx(curve.volume_cc, rel=1e-5)
        # The area below a cumulative DVH is the mean dose.
        mean = np.sum((volumes_cc[1:] + volumes_cc[:-1]) / 2 * widths[1:]) / volumes_cc[0]
        assert mean == pytest.approx(curve.mean_gy, abs=0.01)


def test_dciodvfy_finds_no_error(eclipse: DicomCase, written: Path, tmp_path: Path) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dicom3tools is not installed")
    names = ("PTV", "Rectum", "Empty")
    structures = {name: eclipse.case.structures.get(name, _empty(eclipse)) for name in names}
    write_rtstruct(tmp_path / "rs.dcm", structures, eclipse.case, EQUIPMENT)
    nameless = replace(eclipse.case, origin=None)
    assert nameless.plan_dose is not None
    write_rtdose(tmp_path / "nameless.dcm", nameless.plan_dose, nameless, EQUIPMENT)
    # It aborts at 32-bit pixels, which the standard allows for doses: it judges all but them.
    for source in (written, tmp_path / "nameless.dcm"):
        dataset = pydicom.dcmread(source)
        dataset.PixelData = (dataset.pixel_array >> 16).astype("<u2").tobytes()
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit = 15
        pydicom.dcmwrite(tmp_path / f"16_{source.name}", dataset)
    for name, kind in (
        (f"16_{written.name}", "RTDose"),
        ("16_nameless.dcm", "RTDose"),
        ("rs.dcm", "RTStructureSet"),
    ):
        done = subprocess.run(["dciodvfy", tmp_path / name], capture_output=True, text=True)
        assert kind in done.stderr.splitlines() and "Error" not in done.stderr, done.stderr


def _empty(eclipse: DicomCase) -> Volume:
    grid = eclipse.case.grid
    return Volume(np.zeros(grid.shape, dtype=bool), grid)


def test_a_case_without_dicom_gets_a_name_but_no_patient(case: Case, tmp_path: Path) -> None:
    assert case.plan_dose is not None
    write_rtdose(tmp_path / "a.dcm", case.plan_dose, case, EQUIPMENT)
    write_rtdose(tmp_path / "b.dcm", case.plan_dose, case, EQUIPMENT)
    first, second = pydicom.dcmread(tmp_path / "a.dcm"), pydicom.dcmread(tmp_path / "b.dcm")
    assert (first.PatientName, first.PatientID) == ("phantom", "phantom")
    assert not first.PatientBirthDate and "DVHSequence" not in first
    assert first.FrameOfReferenceUID == second.FrameOfReferenceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID


@pytest.mark.parametrize("direction", [FLIPPED, LEFT_HANDED])
def test_grids_of_other_directions_come_back_in_place(
    case: Case, tmp_path: Path, direction: tuple
) -> None:
    from support import pelvis_case

    turned = pelvis_case((20, 16, 12), (15.0, 15.0, 20.0), direction)
    assert turned.plan_dose is not None
    write_rtdose(tmp_path / "dose.dcm", turned.plan_dose, turned, EQUIPMENT)
    back, _ = read_dose(tmp_path / "dose.dcm", turned.grid, {})
    assert np.abs(back.array - turned.plan_dose.array).max() < 1e-4


def test_no_half_file_is_left_and_no_impossible_dose_written(case: Case, tmp_path: Path) -> None:
    assert case.plan_dose is not None
    negative = case.plan_dose.with_array(case.plan_dose.array - 1)
    with pytest.raises(CaseError, match="negative or not finite"):
        write_rtdose(tmp_path / "dose.dcm", negative, case, EQUIPMENT)
    assert not list(tmp_path.glob("*.dcm")) and not list(tmp_path.glob(".partial*"))


def test_masks_become_closed_contours_and_the_same_masks_again(
    eclipse: DicomCase, tmp_path: Path
) -> None:
    case = eclipse.case
    ring = case.structures["PTV"].array.copy()
    ring[40:44, 48:52, 70:76] = 0
    masks = {"Bladder": case.structures["Bladder"], "Ring": Volume(ring > 0.5, case.grid)}
    folder = tmp_path / "patient"
    shutil.copytree(DICOM_SAMPLE, folder, ignore=shutil.ignore_patterns("R*"))
    write_rtstruct(folder / "rs.dcm", masks, case, EQUIPMENT)
    back = read_dicom(folder).case.structures
    for name, mask in masks.items():
        both = np.count_nonzero((back[name].array > 0.5) & (mask.array > 0.5))
        total = np.count_nonzero(back[name].array > 0.5) + np.count_nonzero(mask.array > 0.5)
        assert 2 * both / total > 0.98
    drawn = pydicom.dcmread(folder / "rs.dcm").ROIContourSequence[0]
    assert drawn.ReferencedROINumber == 2  # its number in the original set
    heights = [float(item.ContourData[2]) for item in drawn.ContourSequence]
    assert heights == sorted(heights)
    points = np.array(drawn.ContourSequence[0].ContourData, dtype=float).reshape(-1, 3)
    assert not np.allclose(points[0], points[-1])
    assert drawn.ContourSequence[0].ContourImageSequence[0].ReferencedSOPInstanceUID


def test_an_rtstruct_needs_images_to_refer_to(case: Case, tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="does not come from DICOM"):
        write_rtstruct(tmp_path / "rs.dcm", dict(case.structures), case, EQUIPMENT)


# --- The commands -------------------------------------------------------------------------------


def test_predict_writes_an_rtdose_that_evaluate_reads(
    run: Run, pelvis_model: DoseModel, tmp_path: Path
) -> None:
    code, result, _ = run(
        "predict", DICOM_SAMPLE, "--model", pelvis_model.folder, "--output", tmp_path,
        "--format", "rtdose",
    )  # fmt: skip
    assert code == 0
    dose = Path(result["cases"][0]["dose"])
    assert dose == tmp_path / DICOM_SAMPLE.name / "dose.dcm"
    equipment = pydicom.dcmread(dose).ContributingEquipmentSequence[0]
    assert equipment.ManufacturerModelName == "random-pelvis" and "weights" in str(
        equipment.SoftwareVersions
    )
    code, record, _ = run("evaluate", "--case", DICOM_SAMPLE, "--prediction", dose)
    assert code == 0
    scored = result["cases"][0]["scores"]["mae_body_gy"]
    assert record["mae_body_gy"] == pytest.approx(scored, abs=1e-4)


def test_rtstruct_turns_masks_of_a_ct_into_a_structure_set(
    run: Run, patient: Path, tmp_path: Path
) -> None:
    case = read_dicom(patient).case
    for file in patient.glob("r*.dcm"):
        file.unlink()
    masks, written = tmp_path / "masks", patient / "rs.dcm"
    for name in ("PTV", "Body"):
        write_volume(masks / f"{name}.nii.gz", case.structures[name])
    write_volume(masks / "dose_plan.nii.gz", case.ct)  # no structure
    write_volume(tmp_path / "Nothing.nrrd", case.structures["Empty"])
    code, result, notes = run(
        "rtstruct", patient, "--masks", masks, tmp_path / "Nothing.nrrd", "--output", written
    )
    assert code == 0 and set(result["structures"]) == {"PTV", "Body", "Nothing"}
    assert "without contours: Nothing" in notes
    back = read_case(patient).structures
    for name in ("PTV", "Body"):
        assert back[name].array.sum() == pytest.approx(case.structures[name].array.sum(), rel=0.02)
    colors = {tuple(item.ROIDisplayColor) for item in pydicom.dcmread(written).ROIContourSequence}
    assert len(colors) == 3


def test_rtstruct_names_what_it_cannot_use(run: Run, patient: Path, tmp_path: Path) -> None:
    mask = read_dicom(patient).case.structures["PTV"]
    far = Volume(mask.array, replace(mask.grid, origin=(9000.0, 0.0, 0.0)))
    write_volume(tmp_path / "a" / "PTV.nii.gz", mask)
    write_volume(tmp_path / "b" / "PTV.nrrd", far)
    (tmp_path / "empty").mkdir()
    end = ("--output", tmp_path / "rs.dcm")
    for masks, message in (
        (("a", "b"), "both called PTV"),
        (("b",), "does not overlap the CT"),
        (("empty",), "holds no masks"),
        (("none.nii.gz",), "There is no file"),
    ):
        code, result, _ = run("rtstruct", patient, "--masks", *(tmp_path / m for m in masks), *end)
        assert code == 2 and message in result["error"]["message"]
    code, result, _ = run("rtstruct", tmp_path / "a", "--masks", tmp_path / "a", *end)
    assert code == 2 and "holds no CT slices" in result["error"]["message"]
    write_ct(patient)
    code, result, _ = run("rtstruct", patient, "--masks", tmp_path / "a", *end)
    assert code == 2 and "2 CT series that fit" in result["error"]["message"]
    assert not (tmp_path / "rs.dcm").exists()
    slice_ = sorted(patient.glob("slice03*"))[0]
    code, _, _ = run("rtstruct", slice_, "--masks", tmp_path / "a", *end)
    assert code == 0 and (tmp_path / "rs.dcm").exists()


def test_evaluate_refuses_a_dose_of_other_images(run: Run, written: Path, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(written)
    dataset.FrameOfReferenceUID = "1.2.3.4"
    pydicom.dcmwrite(tmp_path / "other.dcm", dataset)
    code, result, _ = run(
        "evaluate", "--case", DICOM_SAMPLE, "--prediction", tmp_path / "other.dcm"
    )
    assert code == 2 and "belongs to other images" in result["error"]["message"]


def test_a_file_that_is_no_dose_is_refused(eclipse: DicomCase) -> None:
    with pytest.raises(DosePredictionError, match="is no RTDOSE"):
        read_dose(DICOM_SAMPLE / "RP.dcm", eclipse.case.grid, {})
