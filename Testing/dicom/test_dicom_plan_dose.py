"""Whether a plan's dose is all of it, and one that can be compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_support import base, dose, refer, save
from pydicom.dataset import Dataset

from DosePredictionLib.case import Case
from DosePredictionLib.errors import CaseError
from DosePredictionLib.findings import Finding
from DosePredictionLib.io import read_case
from DosePredictionLib.io.dicom.files import ION_PLAN, RTPLAN

ITEMS = {"BEAM": "Beam", "BRACHY": "BrachyApplicationSetup"}


def item(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def plan_of(folder: Path, kind: str) -> Dataset:
    """The small patient's plan made one of two beams, fraction groups or application setups."""
    planned = pydicom.dcmread(folder / "rp.dcm")
    first = planned.FractionGroupSequence[0]
    first.FractionGroupNumber = 1
    if kind == "FRACTION":
        planned.FractionGroupSequence.append(
            item(FractionGroupNumber=2, NumberOfFractionsPlanned=5)
        )
    if kind == "BEAM":
        beam = pydicom.dcmread(folder / "rp.dcm").BeamSequence[0]
        beam.BeamNumber = 2
        planned.BeamSequence.append(beam)
        first.ReferencedBeamSequence.append(item(ReferencedBeamNumber=2, BeamMeterset=100.0))
    if kind == "BRACHY":
        del planned.BeamSequence, first.ReferencedBeamSequence
        first.ReferencedBrachyApplicationSetupSequence = [
            item(ReferencedBrachyApplicationSetupNumber=number) for number in (1, 2)
        ]
    save(folder / "rp.dcm", planned)
    return planned


def part(planned: Dataset, kind: str, number: int) -> Dataset:
    """The dose of one part, 10 Gy times its number everywhere."""
    array = np.full((8, 24, 24), 10.0 * number)
    dataset = dose(array, (-57.5, -57.5, 0), DoseSummationType=kind)
    refer(dataset, "ReferencedRTPlanSequence", planned)
    group = item(ReferencedFractionGroupNumber=number if kind == "FRACTION" else 1)
    if kind in ITEMS:
        used = item(**{f"Referenced{ITEMS[kind]}Number": number})
        setattr(group, f"Referenced{ITEMS[kind]}Sequence", [used])
    else:  # some systems name the beams of a fraction group as well
        group.ReferencedBeamSequence = [item(ReferencedBeamNumber=1)]
    dataset.ReferencedRTPlanSequence[0].ReferencedFractionGroupSequence = [group]
    return dataset


def stated(case: Case, kind: str) -> list[Finding]:
    return [finding for finding in case.findings if finding.id == kind]


@pytest.mark.parametrize(
    ("kind", "what"),
    [("BEAM", "beams"), ("FRACTION", "fraction groups"), ("BRACHY", "application setups")],
)
def test_a_dose_in_parts_is_whole_or_refused(patient: Path, kind: str, what: str) -> None:
    planned = plan_of(patient, kind)
    (patient / "rd.dcm").unlink()
    for number in (1, 2):
        save(patient / f"part{number}.dcm", part(planned, kind, number))
    whole = read_case(patient)
    assert whole.plan_dose is not None and whole.plan_dose.array == pytest.approx(30.0)
    assert stated(whole, "dose-summed") and not stated(whole, "dose-parts-unknown")
    (patient / "part1.dcm").rename(patient / "aside")
    with pytest.raises(CaseError, match=rf"doses of the {what} \[1\] are missing") as raised:
        read_case(patient / "part2.dcm")
    assert str(patient) in str(raised.value)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", ["BEAM", "FRACTION", "BRACHY"])
def test_without_a_plan_nobody_knows_whether_parts_are_all(
    patient: Path, kind: str, count: int
) -> None:
    planned = plan_of(patient, kind)
    for name in ("rd.dcm", "rp.dcm"):
        (patient / name).unlink()
    for number in range(1, count + 1):
        save(patient / f"part{number}.dcm", part(planned, kind, number))
    findings = stated(read_case(patient), "dose-parts-unknown")
    assert [finding.severity for finding in findings] == ["warning"]
    assert f"{count} {kind.lower()} doses and no RTPLAN" in findings[0].message


@pytest.mark.parametrize("kind", ["CONTROL_POINT", "RECORD", "BEAM_SESSION", "FRACTION_SESSION"])
def test_a_part_that_is_none_of_a_plan_is_refused(patient: Path, kind: str) -> None:
    dataset = pydicom.dcmread(patient / "rd.dcm")
    dataset.DoseSummationType = kind
    save(patient / "rd.dcm", dataset)
    with pytest.raises(CaseError, match=f"doses of the kinds {kind} cannot be summed"):
        read_case(patient)


@pytest.mark.parametrize("summation", ["PLAN", "MULTI_PLAN"])
def test_a_dose_of_two_plans_does_not_go_with_one_prescription(
    patient: Path, summation: str
) -> None:
    dataset = pydicom.dcmread(patient / "rd.dcm")
    dataset.DoseSummationType = summation
    boost = base(RTPLAN, "RTPLAN")
    dataset.ReferencedRTPlanSequence.append(
        item(ReferencedSOPClassUID=RTPLAN, ReferencedSOPInstanceUID=boost.SOPInstanceUID)
    )
    save(patient / "rd.dcm", dataset)
    findings = stated(read_case(patient), "dose-of-several-plans")
    assert [finding.severity for finding in findings] == ["warning"]
    assert "2 plans" in findings[0].message and "rp.dcm alone" in findings[0].message


@pytest.mark.parametrize(
    ("relation", "count"), [("CONCURRENT", 1), ("PRIOR", 1), ("ALTERNATIVE", 0), ("", 0)]
)
def test_a_plan_that_is_one_of_two_says_so(patient: Path, relation: str, count: int) -> None:
    planned = pydicom.dcmread(patient / "rp.dcm")
    other = item(ReferencedSOPClassUID=RTPLAN, ReferencedSOPInstanceUID="1.2.3")
    other.RTPlanRelationship = relation
    planned.ReferencedRTPlanSequence = [other]
    save(patient / "rp.dcm", planned)
    findings = stated(read_case(patient), "dose-of-one-plan")
    assert [finding.severity for finding in findings] == ["warning"] * count


@pytest.mark.parametrize("summation", ["", None])
def test_a_dose_that_does_not_say_of_what_it_is_is_told_of(
    patient: Path, summation: str | None
) -> None:
    dataset = pydicom.dcmread(patient / "rd.dcm")
    dataset.DoseSummationType = summation
    save(patient / "rd.dcm", dataset)
    case = read_case(patient)
    assert case.plan_dose is not None and stated(case, "dose-summation-missing")


def test_effective_doses_and_plans_of_other_particles_are_called_so(patient: Path) -> None:
    assert not stated(read_case(patient), "plan-not-photons")
    dataset = pydicom.dcmread(patient / "rd.dcm")
    dataset.DoseType = "EFFECTIVE"
    save(patient / "rd.dcm", dataset)
    planned = pydicom.dcmread(patient / "rp.dcm")
    planned.BeamSequence[0].RadiationType = "PROTON"
    save(patient / "rp.dcm", planned)
    case = read_case(patient)
    assert [f.severity for f in stated(case, "dose-effective")] == ["warning"]
    assert "rp.dcm is a plan of protons" in stated(case, "plan-not-photons")[0].message
    (patient / "rp.dcm").unlink()
    save(patient / "ion.dcm", base(ION_PLAN, "RTPLAN"))
    case = read_case(patient)
    assert "ion.dcm is a plan of protons or ions" in stated(case, "plan-not-photons")[0].message
