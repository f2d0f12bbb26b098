"""The beams of an RTPLAN: their sense for every position of the patient, and those refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_support import plan, save, square, structure_set, write_ct
from pydicom.dataset import Dataset
from support import DICOM_SAMPLE

from DosePredictionLib.beams.density import relative_electron_density
from DosePredictionLib.beams.ray_dose import RayDose
from DosePredictionLib.beams.ray_model import RayModel
from DosePredictionLib.beams.tracing import Anatomy, trace
from DosePredictionLib.case import Case
from DosePredictionLib.io import read_case


def static(number: int, degrees: float, isocenter: tuple = (0.0, 0.0, 17.5)) -> Dataset:
    beam, point, end = Dataset(), Dataset(), Dataset()
    beam.BeamNumber, beam.BeamName, beam.BeamType = number, f"G{degrees:g}", "STATIC"
    beam.RadiationType, beam.SourceAxisDistance = "PHOTON", 1000
    beam.FinalCumulativeMetersetWeight = 1
    point.CumulativeMetersetWeight, point.GantryAngle = 0, degrees
    point.PatientSupportAngle, point.IsocenterPosition = 0, list(isocenter)
    point.NominalBeamEnergy, end.CumulativeMetersetWeight = 6, 1
    beam.ControlPointSequence = [point, end]
    return beam


@pytest.fixture
def planned(tmp_path: Path) -> Callable[..., Case]:
    """A patient in a position, with a plan of beams."""

    def made(position: str, *beams: Dataset) -> Case:
        for file in write_ct(tmp_path / "patient"):
            dataset = pydicom.dcmread(file)
            dataset.PatientPosition = position
            save(file, dataset)
        series = dataset.SeriesInstanceUID
        drawn = structure_set({"PTV": square([5.0 * z for z in range(2, 6)])}, series)
        save(tmp_path / "patient" / "rs.dcm", drawn)
        dataset = plan(drawn, {1: 50.0})
        dataset.BeamSequence = list(beams)
        used = []
        for beam in beams:
            item = Dataset()
            item.ReferencedBeamNumber, item.BeamMeterset = beam.BeamNumber, 100.0
            used.append(item)
        dataset.FractionGroupSequence[0].ReferencedBeamSequence = used
        save(tmp_path / "patient" / "rp.dcm", dataset)
        return read_case(tmp_path / "patient")

    return made


@pytest.mark.parametrize(
    ("position", "x_of_source"), [("HFS", 1), ("HFP", -1), ("FFS", -1), ("FFP", 1)]
)
def test_a_planned_90_degree_field_enters_from_its_side(
    planned: Callable[..., Case], position: str, x_of_source: int
) -> None:
    case = planned(position, static(1, 90.0))
    assert case.beams is not None
    assert case.beams.patient_position == position
    assert case.beams.isocenter_mm == (0, 0, 17.5)
    density = relative_electron_density(case.ct.array)
    body = density > 0.5
    anatomy = Anatomy(case.grid, density, body, {"PTV": case.structures["PTV"].binary()})
    model = RayModel()
    made = RayDose(trace(case.beams, anatomy, model), model, case.grid.shape)
    dose = made.as_volume(made.dose(np.ones(made.elements, dtype=np.float32)))
    # In LPS x rises to the patient's left, whatever the position.
    left, right = dose[..., 20], dose[..., 3]
    assert (left.max() - right.max()) * x_of_source > 0.1


def test_a_planning_systems_box_is_read() -> None:
    beams = read_case(DICOM_SAMPLE).beams
    assert beams is not None
    assert sorted(beams.gantry_degrees) == [0, 90, 180, 270]
    assert beams.patient_position == "HFS"
    assert beams.isocenter_mm is not None


def test_split_fields_count_once_and_arcs_keep_their_sense(planned: Callable[..., Case]) -> None:
    back = static(3, 179.0)
    back.ControlPointSequence[1].GantryAngle = 300.0
    half = Dataset()
    half.CumulativeMetersetWeight, half.GantryAngle = 0.5, 60.0
    back.ControlPointSequence.insert(1, half)
    beams = planned("HFS", static(1, 40.0), static(2, 40.0), back).beams
    assert beams is not None
    one, arc = beams.beams
    assert one.gantry_degrees == 40
    assert (arc.gantry_degrees, arc.stop_degrees, arc.clockwise) == (179, 300, False)
    assert arc.span_degrees == 239


def couch(beam: Dataset) -> None:
    beam.ControlPointSequence[0].PatientSupportAngle = 90


def electrons(beam: Dataset) -> None:
    beam.RadiationType = "ELECTRON"


def protons(beam: Dataset) -> None:
    beam.RadiationType = "PROTON"


def elsewhere(beam: Dataset) -> None:
    beam.ControlPointSequence[0].IsocenterPosition = [30.0, 0.0, 17.5]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (couch, "turns the couch to 90°"),
        (electrons, "they are electrons"),
        (protons, "they are protons"),
        (elsewhere, "several isocenters"),
    ],
)
def test_beams_that_the_model_cannot_say_are_a_finding(
    planned: Callable[..., Case], change: Callable[[Dataset], None], said: str
) -> None:
    other = static(2, 120.0)
    change(other)
    case = planned("HFS", static(1, 0.0), other)
    assert case.beams is None
    (finding,) = [f for f in case.findings if f.id == "plan-beams-unused"]
    assert said in finding.message
    assert "rp.dcm" in finding.message


def test_a_patient_on_the_side_has_no_arrangement(planned: Callable[..., Case]) -> None:
    case = planned("HFDL", static(1, 0.0))
    assert case.beams is None
    assert any("how the patient lies (HFDL)" in finding.message for finding in case.findings)
