"""DICOM folders as cases: the shipped patient's figures, what belongs together, what is refused."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_support import (
    base,
    contour,
    dose,
    plan,
    refer,
    save,
    square,
    structure_set,
    write_ct,
)
from pydicom.uid import generate_uid
from support import PELVIS_SAMPLE

from DosePredictionLib.errors import CaseError, DosePredictionError
from DosePredictionLib.evaluation.dvh import dvh
from DosePredictionLib.io import read_case
from DosePredictionLib.io.dicom import DicomCase, files, read_dicom
from DosePredictionLib.io.dicom.files import RTPLAN

SHIPPED_MASKS = {
    "BODY": "Body",
    "Bladder": "Bladder",
    "PTV": "PTV",
    "Rectum": "Rectum",
    "Femoral Head Lt": "FemurHead_L",
    "Femoral Head RT": "FemurHead_R",
}


# --- The shipped patient ------------------------------------------------------------------------


def test_the_eclipse_folder_has_sixteen_structures_and_its_plan(eclipse: DicomCase) -> None:
    case = eclipse.case
    assert len(case.structures) == 16
    drawn = {name for name, mask in case.structures.items() if mask.array.any()}
    assert drawn == set(SHIPPED_MASKS)
    assert case.prescription is not None
    assert dict(case.prescription.target_gy) == {"PTV": 46.0}
    assert (case.prescription.fractions, case.prescription.technique) == (23, "3D-CRT")
    assert [finding.severity for finding in case.findings] == ["info", "info"]


@pytest.mark.parametrize(("name", "mask"), SHIPPED_MASKS.items())
def test_volumes_are_those_of_the_shipped_masks_within_one_percent(
    eclipse: DicomCase, name: str, mask: str
) -> None:
    shipped = read_case(PELVIS_SAMPLE).structures[mask].array > 0
    ours = eclipse.case.structures[name].array
    assert ours.sum() == pytest.approx(shipped.sum(), rel=0.01)
    both = 2 * np.count_nonzero((ours > 0.5) & shipped)
    assert both / (np.count_nonzero(ours > 0.5) + np.count_nonzero(shipped)) > 0.97


def test_ct_and_dose_are_those_of_the_shipped_nifti(eclipse: DicomCase) -> None:
    shipped = read_case(PELVIS_SAMPLE)
    assert eclipse.case.grid.matches(shipped.grid)
    assert np.array_equal(eclipse.case.ct.array, shipped.ct.array)
    assert eclipse.case.plan_dose is not None and shipped.plan_dose is not None
    assert np.abs(eclipse.case.plan_dose.array - shipped.plan_dose.array).max() < 0.01


@pytest.mark.parametrize(
    ("name", "mean_gy"), [("PTV", 45.88), ("Rectum", 39.11), ("Bladder", 45.91)]
)
def test_mean_doses_are_the_planning_systems(eclipse: DicomCase, name: str, mean_gy: float) -> None:
    assert eclipse.case.plan_dose is not None
    curve = dvh(eclipse.case.plan_dose, eclipse.case.structures[name])
    assert curve.mean_gy == pytest.approx(mean_gy, abs=0.06)


@pytest.mark.parametrize(
    ("name", "lowest_gy", "highest_gy"),
    [  # from the planning system's own DVHs, to 0.046 Gy
        ("BODY", 0.32, 47.06),
        ("Femoral Head RT", 24.33, 39.84),
        ("Femoral Head Lt", 14.63, None),
        ("PTV", 44.48, 46.28),
        ("Bladder", None, 46.97),
        ("Rectum", None, 45.82),
    ],
)
def test_lowest_and_highest_doses_are_the_planning_systems(
    eclipse: DicomCase, name: str, lowest_gy: float | None, highest_gy: float | None
) -> None:
    assert eclipse.case.plan_dose is not None
    curve = dvh(eclipse.case.plan_dose, eclipse.case.structures[name])
    if lowest_gy is not None:
        assert curve.min_gy == pytest.approx(lowest_gy, abs=0.5)
    if highest_gy is not None:
        assert curve.max_gy == pytest.approx(highest_gy, abs=0.5)


def test_the_plans_beams_are_read_as_planned(eclipse: DicomCase) -> None:
    assert eclipse.plan is not None
    beams = eclipse.plan.beams
    assert [beam.gantry_degrees[0] for beam in beams] == [0, 270, 180, 90]
    assert beams[0].meterset == pytest.approx(52.739, abs=1e-3)
    assert beams[0].leaves_mm.shape == (2, 2, 60) and beams[0].leaf_borders_mm.shape == (61,)
    assert beams[0].jaws_x_mm[1].tolist() == [-70, 65] and beams[0].energy_mv == 15
    assert beams[0].weight.tolist() == [0, 1] and beams[0].machine == "CL21B"


# --- What belongs together ----------------------------------------------------------------------


def test_a_small_patient_is_read_with_everything(patient: Path) -> None:
    found = read_dicom(patient)
    case = found.case
    assert case.name == "patient" and set(case.structures) == {"PTV", "Body", "Empty"}
    assert case.structures["PTV"].array.sum() * case.grid.voxel_volume_cc == pytest.approx(24)
    assert case.plan_dose is not None and case.plan_dose.array[3, 12, 12] == pytest.approx(20)
    assert case.prescription is not None and dict(case.prescription.target_gy) == {"PTV": 50.0}
    assert found.plan is not None and found.plan.technique == "VMAT"
    assert case.origin is not None and case.origin.roi_numbers == {"PTV": 1, "Body": 2, "Empty": 3}


def test_names_and_folders_of_files_do_not_matter(patient: Path) -> None:
    for number, file in enumerate(sorted(patient.glob("*.dcm"))):
        folder = patient / f"export{number % 3}"
        folder.mkdir(exist_ok=True)
        file.rename(folder / f"{number:03d}")
    (patient / "notes.txt").write_text("seen by a physicist")
    (patient / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    assert read_dicom(patient).case.plan_dose is not None


def other_series(patient: Path, **values: object) -> str:
    series = generate_uid()
    write_ct(patient, SeriesInstanceUID=series, **values)
    return series


def test_the_ct_that_the_structures_refer_to_is_chosen(patient: Path) -> None:
    other_series(patient)
    other_series(patient, FrameOfReferenceUID=generate_uid())
    case = read_case(patient)
    assert case.ct.grid.size[2] == 8
    assert any(finding.id == "files-ignored" for finding in case.findings)


def test_a_tie_is_refused_and_settled_by_naming_a_file(patient: Path) -> None:
    series = pydicom.dcmread(next(patient.glob("slice*"))).SeriesInstanceUID
    (patient / "rp.dcm").unlink()
    (patient / "rd.dcm").unlink()
    second = save(patient / "rs2.dcm", structure_set({"PTV": square([10, 15])}, series))
    with pytest.raises(
        CaseError, match=r"2 structure sets that fit: rs.dcm \(TEST\), rs2.dcm"
    ) as e:
        read_case(patient)
    assert "Name the file of one as the case" in str(e.value)
    case = read_case(second)
    assert case.name == "rs2" and set(case.structures) == {"PTV"}


def test_the_structure_set_that_was_planned_on_is_chosen(patient: Path) -> None:
    series = pydicom.dcmread(next(patient.glob("slice*"))).SeriesInstanceUID
    save(patient / "rs2.dcm", structure_set({"PTV": square([10, 15])}, series))
    assert len(read_case(patient).structures) == 3


def test_one_of_several_plans_must_be_named(patient: Path) -> None:
    structures = pydicom.dcmread(patient / "rs.dcm")
    second = save(patient / "rp2.dcm", plan(structures, {1: 60.0}))
    with pytest.raises(CaseError, match="2 plans that fit"):
        read_case(patient)
    case = read_case(second)
    assert case.prescription is not None and case.prescription.highest_gy == 60
    assert case.plan_dose is None
    assert read_case(patient / "rd.dcm").plan_dose is not None


def test_one_of_several_ct_series_must_be_named(patient: Path) -> None:
    other = other_series(patient)
    save(patient / "rs.dcm", structure_set({"PTV": square([10, 15])}))
    for name in ("rp.dcm", "rd.dcm"):
        (patient / name).unlink()
    with pytest.raises(CaseError, match="2 CT series that fit"):
        read_case(patient)
    chosen = next(patient.glob(f"*{other[-6:]}*"))
    assert read_case(chosen).origin.ct_series_uid == other  # type: ignore[union-attr]


def test_doses_of_beams_are_summed_only_when_complete(patient: Path) -> None:
    planned = pydicom.dcmread(patient / "rp.dcm")
    planned.BeamSequence.append(pydicom.dcmread(patient / "rp.dcm").BeamSequence[0])
    planned.BeamSequence[1].BeamNumber = 2
    beams = planned.FractionGroupSequence[0].ReferencedBeamSequence
    beams.append(
        pydicom.dcmread(patient / "rp.dcm").FractionGroupSequence[0].ReferencedBeamSequence[0]
    )
    beams[1].ReferencedBeamNumber = 2
    save(patient / "rp.dcm", planned)
    whole = pydicom.dcmread(patient / "rd.dcm")
    (patient / "rd.dcm").unlink()
    for number in (1, 2):
        part = dose(np.full((8, 24, 24), 10.0 * number), (-57.5, -57.5, 0))
        part.DoseSummationType = "BEAM"
        refer(part, "ReferencedRTPlanSequence", planned)
        group, beam = pydicom.Dataset(), pydicom.Dataset()
        group.ReferencedFractionGroupNumber, beam.ReferencedBeamNumber = 1, number
        group.ReferencedBeamSequence = [beam]
        part.ReferencedRTPlanSequence[0].ReferencedFractionGroupSequence = [group]
        save(patient / f"beam{number}.dcm", part)
    case = read_case(patient)
    assert case.plan_dose is not None and case.plan_dose.array == pytest.approx(30.0)
    assert any(finding.id == "dose-summed" for finding in case.findings)
    (patient / "beam2.dcm").unlink()
    with pytest.raises(CaseError, match=r"doses of the beams \[2\] are missing"):
        read_case(patient)
    whole.DoseSummationType = "CONTROL_POINT"
    (patient / "beam1.dcm").unlink()
    save(patient / "rd.dcm", whole)
    with pytest.raises(CaseError, match="cannot be summed"):
        read_case(patient)


def fraction_dose(planned: pydicom.Dataset, group_number: int, gray: float) -> pydicom.Dataset:
    part = dose(np.full((8, 24, 24), gray), (-57.5, -57.5, 0), DoseSummationType="FRACTION")
    refer(part, "ReferencedRTPlanSequence", planned)
    group = pydicom.Dataset()
    group.ReferencedFractionGroupNumber = group_number
    part.ReferencedRTPlanSequence[0].ReferencedFractionGroupSequence = [group]
    return part


def test_doses_of_fraction_groups_are_summed_and_never_counted_twice(patient: Path) -> None:
    planned = pydicom.dcmread(patient / "rp.dcm")
    (patient / "rd.dcm").unlink()
    for number in (1, 2):
        save(patient / f"group{number}.dcm", fraction_dose(planned, number, 10.0 * number))
    case = read_case(patient)
    assert case.plan_dose is not None and case.plan_dose.array == pytest.approx(30.0)
    assert any("2 fraction doses" in finding.message for finding in case.findings)
    save(patient / "group3.dcm", fraction_dose(planned, 2, 20.0))
    with pytest.raises(CaseError, match="is there twice") as raised:
        read_case(patient)
    assert str(patient) in str(raised.value)


def test_of_two_doses_of_one_plan_one_must_be_named(patient: Path) -> None:
    planned = pydicom.dcmread(patient / "rp.dcm")
    second = dose(np.full((8, 24, 24), 7.0), (-57.5, -57.5, 0))
    file = save(patient / "rd2.dcm", refer(second, "ReferencedRTPlanSequence", planned))
    with pytest.raises(CaseError, match=r"2 doses of one plan: rd.dcm, rd2.dcm. Name the file"):
        read_case(patient)
    found = read_case(file).plan_dose
    assert found is not None and found.array == pytest.approx(7.0)


def test_doses_of_plans_that_are_not_there_are_not_mixed(patient: Path) -> None:
    (patient / "rp.dcm").unlink()
    other = refer(
        dose(np.full((8, 24, 24), 7.0), (-57.5, -57.5, 0)),
        "ReferencedRTPlanSequence",
        base(RTPLAN, "RTPLAN"),
    )
    file = save(patient / "rd2.dcm", other)
    with pytest.raises(CaseError, match=r"2 doses of different plans that fit: rd.dcm"):
        read_case(patient)
    found = read_case(file).plan_dose
    assert found is not None and found.array == pytest.approx(7.0)


@pytest.mark.parametrize(
    ("axes", "corner"),
    [
        ((-1, 0, 0, 0, -1, 0), (57.5, 57.5)),  # prone
        ((0, -1, 0, 1, 0, 0), (-57.5, 57.5)),  # decubitus: rows run along y
    ],
)
def test_however_the_patient_lies_contours_and_dose_stay_in_their_place(
    patient: Path, axes: tuple[int, ...], corner: tuple[float, float]
) -> None:
    wanted = read_case(patient)
    series = wanted.origin.ct_series_uid  # type: ignore[union-attr]
    for file in patient.glob("slice*"):
        file.unlink()
    positions = [(*corner, 5.0 * z) for z in range(8)]
    write_ct(patient, positions, orientation=axes, SeriesInstanceUID=series)
    found = read_case(patient)
    assert not np.allclose(np.asarray(found.grid.direction), np.eye(3))
    pairs = [(found.structures["PTV"], wanted.structures["PTV"])]
    assert found.plan_dose is not None and wanted.plan_dose is not None
    pairs.append((found.plan_dose, wanted.plan_dose))
    for turned, upright in pairs:
        back = turned.reordered_to_lps()
        assert back.grid.matches(upright.grid)
        assert np.allclose(back.array, upright.array, atol=1e-4)


def test_contours_on_a_missing_ct_slice_fill_the_interpolated_one(patient: Path) -> None:
    wanted = read_case(patient).structures["PTV"]
    next(patient.glob("slice03*")).unlink()
    case = read_case(patient)
    assert case.grid.size[2] == 8
    assert np.allclose(case.structures["PTV"].array, wanted.array)
    assert any(finding.id == "ct-slices-missing" for finding in case.findings)


# --- Names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("charset", "name"),
    [("ISO_IR 192", "Blase – 膀胱"), ("ISO_IR 100", "Dünndarm"), ("ISO_IR 144", "Пузырь")],
)
def test_names_in_other_character_sets(patient: Path, charset: str, name: str) -> None:
    dataset = pydicom.dcmread(patient / "rs.dcm")
    dataset.SpecificCharacterSet = charset
    dataset.StructureSetROISequence[1].ROIName = name
    save(patient / "rs.dcm", dataset)
    assert name in read_case(patient).structures


def test_structures_of_one_name_are_told_apart(patient: Path) -> None:
    dataset = pydicom.dcmread(patient / "rs.dcm")
    dataset.StructureSetROISequence[1].ROIName = "PTV"
    save(patient / "rs.dcm", dataset)
    case = read_case(patient)
    assert {"PTV", "PTV (ROI 2)"} <= set(case.structures)
    assert any(finding.id == "structure-name-twice" for finding in case.findings)


def test_private_elements_do_no_harm(patient: Path) -> None:
    for file in patient.glob("*.dcm"):
        dataset = pydicom.dcmread(file)
        block = dataset.private_block(0x0099, "SOMEONE", create=True)
        block.add_new(0x01, "UN", b"\x01\x02\x03\x04")
        save(file, dataset)
    assert read_case(patient).plan_dose is not None


def test_points_and_open_contours_enclose_nothing(patient: Path) -> None:
    series = pydicom.dcmread(next(patient.glob("slice*"))).SeriesInstanceUID
    contours = {
        "PTV": [*square([10, 15]), contour([(0, 0), (9, 0), (9, 9)], 20, "OPEN_PLANAR")],
        "Iso": [contour([(0, 0)], 10, "POINT")],
        "Two": [contour([(0, 0), (5, 5)], 10)],
    }
    for name in ("rp.dcm", "rd.dcm"):
        (patient / name).unlink()
    save(patient / "rs.dcm", structure_set(contours, series))
    case = read_case(patient)
    assert set(case.structures) == {"PTV"}
    left_out = {f.structure: f.severity for f in case.findings if f.id == "contours-left-out"}
    assert left_out == {"PTV": "warning", "Iso": "info", "Two": "info"}


# --- What is refused ----------------------------------------------------------------------------


def edit(name: str, **values: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        file = folder / name if (folder / name).exists() else sorted(folder.glob(name))[2]
        dataset = pydicom.dcmread(file)
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
        save(file, dataset)

    return apply


def content(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return apply


def remove(pattern: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        for file in folder.glob(pattern):
            file.unlink()

    return apply


def refer_elsewhere(folder: Path) -> None:
    remove("r*.dcm")(folder)
    other = structure_set({"PTV": square([10, 15])}, generate_uid(), generate_uid())
    save(folder / "rs.dcm", other)


def break_contour(folder: Path) -> None:
    dataset = pydicom.dcmread(folder / "rs.dcm")
    dataset.ROIContourSequence[0].ContourSequence[0].ContourData = [1.0, 2.0, 10.0, 4.0]
    save(folder / "rs.dcm", dataset)


def move_contours(folder: Path) -> None:
    dataset = pydicom.dcmread(folder / "rs.dcm")
    far = [(x + 900.0, y) for x, y in ((-20, -20), (20, -20), (20, 20))]
    dataset.ROIContourSequence[0].ContourSequence = square([10, 15, 20], far)
    save(folder / "rs.dcm", dataset)


def draw_nothing(folder: Path) -> None:
    dataset = pydicom.dcmread(folder / "rs.dcm")
    for drawn in dataset.ROIContourSequence:
        drawn.ContourSequence = []
    save(folder / "rs.dcm", dataset)


def forget_frames(folder: Path) -> None:
    dataset = pydicom.dcmread(folder / "rs.dcm")
    del dataset.FrameOfReferenceUID, dataset.ReferencedFrameOfReferenceSequence
    for roi in dataset.StructureSetROISequence:
        del roi.ReferencedFrameOfReferenceUID
    save(folder / "rs.dcm", dataset)


def huge_length(content: bytes) -> bytes:
    """A value length of 4 GB for the pixel data."""
    at = content.index(b"\xe0\x7f\x10\x00OW") + 8
    return content[:at] + b"\xf0\xff\xff\xff" + content[at + 4 :]


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no ct": (remove("slice*"), "holds no CT slices"),
    "no structures": (remove("r*.dcm"), "no structure set"),
    "contours far away": (move_contours, "rs.dcm: PTV lies outside the CT"),
    "nothing drawn": (draw_nothing, "rs.dcm holds no contours"),
    "dose without frame": (edit("rd.dcm", FrameOfReferenceUID=""), r"rd.dcm .* \(missing\)"),
    "structures without frame": (forget_frames, "rs.dcm refers to another CT"),
    "dose without units": (edit("rd.dcm", DoseUnits=""), r"rd.dcm .* \(not stated\)"),
    "not dicom": (content("rs.dcm", lambda _: b"hello"), "rs.dcm"),
    "empty file": (content("rs.dcm", lambda _: b""), "rs.dcm"),
    "truncated header": (content("rs.dcm", lambda c: c[:140]), "rs.dcm"),
    "truncated dose": (content("rd.dcm", lambda c: c[:-4000]), r"rd.dcm is damaged.*\(truncated\)"),
    "4 GB length": (content("rd.dcm", huge_length), "rd.dcm"),
    "other ct": (refer_elsewhere, "rs.dcm refers to another CT"),
    "two patients": (edit("rs.dcm", PatientID="P2"), "different patients"),
    "ct of two patients": (edit("slice*", PatientID="P2"), "different patients"),
    "wrong modality": (edit("rs.dcm", Modality="CT"), "rs.dcm says modality 'CT'"),
    "wrong ct modality": (edit("slice*", Modality="MR"), "says modality 'MR'"),
    "contour data": (break_contour, "rs.dcm: a contour of PTV holds 4 coordinates"),
    "other frame": (edit("rd.dcm", FrameOfReferenceUID=generate_uid()), "rd.dcm lies in the frame"),
    "relative": (edit("rd.dcm", DoseUnits="RELATIVE"), "units of RELATIVE"),
    "error dose": (edit("rd.dcm", DoseType="ERROR"), "DoseType ERROR"),
    "scaling": (edit("rd.dcm", DoseGridScaling=1e6), "DoseGridScaling 1e.06 leads to"),
    "negative scaling": (edit("rd.dcm", DoseGridScaling=-1.0), "DoseGridScaling -1"),
    "signed dose": (edit("rd.dcm", PixelRepresentation=1), "signed values"),
    "offsets": (
        edit("rd.dcm", GridFrameOffsetVector=[3.0, 8, 13, 18, 23, 28, 33, 38]),
        "neither 0",
    ),
    "offset count": (edit("rd.dcm", GridFrameOffsetVector=[0, 5]), "must hold 8 numbers"),
    "uneven dose": (
        edit("rd.dcm", GridFrameOffsetVector=[0, 5, 10, 15, 20, 25, 30, 40]),
        "mm apart",
    ),
    "frames": (edit("rd.dcm", NumberOfFrames=2**30), "more than is read"),
    "prescription": (
        lambda folder: save(folder / "rp.dcm", _with_dose(folder, 5000.0)),
        "prescribes 5000 Gy",
    ),
}


def _with_dose(folder: Path, dose_gy: float) -> pydicom.Dataset:
    dataset = pydicom.dcmread(folder / "rp.dcm")
    dataset.DoseReferenceSequence[0].TargetPrescriptionDose = dose_gy
    return dataset


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_in_one_line_that_names_the_file(patient: Path, case: str) -> None:
    spoil, message = REFUSED[case]
    spoil(patient)
    with pytest.raises(DosePredictionError, match=message) as raised:
        read_case(patient)
    assert "\n" not in str(raised.value) and str(patient) in str(raised.value)


def test_an_encrypted_file_says_so(patient: Path) -> None:
    dataset = pydicom.Dataset()
    item = pydicom.Dataset()
    item.EncryptedContent = b"\0" * 16
    dataset.EncryptedAttributesSequence = [item]
    dataset.SOPClassUID, dataset.SOPInstanceUID = RTPLAN, "1.2.3"
    file = save(patient / "rx.dcm", dataset)
    bare = pydicom.dcmread(file)
    del bare.SOPClassUID
    pydicom.dcmwrite(file, bare)
    with pytest.raises(CaseError, match=r"rx.dcm is encrypted"):
        read_case(patient)


def test_a_deflated_file_that_swells_without_bound_is_refused(
    patient: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_LARGEST_INFLATED_BYTES", 2**25)
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(compressor.compress(b"\0" * 2**24) for _ in range(3)) + compressor.flush()
    dataset = base(RTPLAN, "RTPLAN")
    file = save(patient / "bomb.dcm", dataset)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    pydicom.dcmwrite(file, dataset)
    stored = file.read_bytes()
    start = 144 + int.from_bytes(stored[140:144], "little")
    file.write_bytes(stored[:start] + bomb)
    with pytest.raises(CaseError, match=r"bomb.dcm is deflated and swells"):
        read_case(patient)


def test_an_unreadable_folder_entry_is_named(patient: Path) -> None:
    (patient / "rs.dcm").chmod(0)
    if os.access(patient / "rs.dcm", os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(CaseError, match=r"rs.dcm cannot be read"):
        read_case(patient)


# --- Frames of a dose ---------------------------------------------------------------------------


@pytest.mark.parametrize("convention", ["relative", "absolute", "descending"])
def test_frame_offsets_of_either_convention_and_order(patient: Path, convention: str) -> None:
    dataset = pydicom.dcmread(patient / "rd.dcm")
    offsets = np.arange(8) * 5.0
    if convention == "absolute":
        dataset.ImagePositionPatient = [-57.5, -57.5, 5.0]
        offsets = offsets + 5.0
    if convention == "descending":
        dataset.ImagePositionPatient = [-57.5, -57.5, 35.0]
        frames = np.frombuffer(dataset.PixelData, "<u4").reshape(8, 24, 24)[::-1]
        dataset.PixelData, offsets = frames.tobytes(), -offsets
    dataset.GridFrameOffsetVector = offsets.tolist()
    save(patient / "rd.dcm", dataset)
    found = read_case(patient).plan_dose
    assert found is not None
    shift = 1 if convention == "absolute" else 0
    assert found.array[3 + shift, 12, 12] == pytest.approx(20.0, abs=1e-3)
