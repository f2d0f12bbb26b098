"""Arrangements: what they say, what they refuse, and how a mirrored patient gets them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support import pelvis_case
from support import write_case_folder as write_folder

from DosePredictionLib.beams.arrangement import (
    ARRANGEMENTS,
    Aperture,
    Beam,
    BeamArrangement,
    parse_beams,
)
from DosePredictionLib.errors import CaseError, DosePredictionError
from DosePredictionLib.io import read_case
from DosePredictionLib.io.nifti import write_case_folder
from DosePredictionLib.schema import from_json, to_json

LEFT, RIGHT, ANTERIOR, POSTERIOR = (1, 0, 0), (-1, 0, 0), (0, -1, 0), (0, 1, 0)


@pytest.mark.parametrize(
    ("position", "from_90", "from_0"),
    [
        ("HFS", LEFT, ANTERIOR),
        ("HFP", RIGHT, POSTERIOR),
        ("FFS", RIGHT, ANTERIOR),
        ("FFP", LEFT, POSTERIOR),
    ],
)
def test_gantry_angles_are_those_of_the_room(position: str, from_90: tuple, from_0: tuple) -> None:
    beams = BeamArrangement.of_angles([0, 90])
    beams = replace(beams, patient_position=position)  # type: ignore[arg-type]
    assert beams.source_direction(90) == pytest.approx(from_90, abs=1e-12)
    assert beams.source_direction(0) == pytest.approx(from_0, abs=1e-12)


def test_arcs_are_many_fields() -> None:
    assert parse_beams("350-20").gantry_degrees == pytest.approx([355, 5, 15])
    back = Beam(20.0, 350.0, clockwise=False)
    assert BeamArrangement((back,)).gantry_degrees == pytest.approx([15, 5, 355])
    whole = ARRANGEMENTS["arc"].gantry_degrees
    assert len(whole) == 36
    assert whole[0] == pytest.approx(181 + 358 / 72)
    assert Beam(10.0, 10.0).span_degrees == 360.0


def test_beams_are_read_from_words_and_angles() -> None:
    assert parse_beams("nine-field").gantry_degrees == [0, 40, 80, 120, 160, 200, 240, 280, 320]
    assert parse_beams(" 0, 90.5 ,180").gantry_degrees == [0, 90.5, 180]
    for text in ("", "left", "0,,90", "1-2-3", "nine-fields"):
        with pytest.raises(CaseError, match="--beams takes gantry angles"):
            parse_beams(text)


def test_a_mirrored_patient_gets_the_opposite_angles() -> None:
    beams = BeamArrangement(
        (Beam(30.0), Beam(0.0), Beam(100.0, 200.0)), isocenter_mm=(12.0, 3.0, 4.0)
    )
    mirrored = beams.mirrored(about_x_mm=10.0)
    assert [beam.gantry_degrees for beam in mirrored.beams] == [330, 0, 260]
    assert mirrored.beams[2].stop_degrees == 160
    assert not mirrored.beams[2].clockwise
    assert mirrored.isocenter_mm == (8.0, 3.0, 4.0)
    assert mirrored.mirrored(10.0) == beams
    assert set(ARRANGEMENTS["nine-field"].mirrored().gantry_degrees) == set(range(0, 360, 40))
    assert sorted(mirrored.gantry_degrees) == pytest.approx(
        sorted((360 - angle) % 360 for angle in beams.gantry_degrees)
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"beams": []}, "of length 1 to 100"),
        ({"beams": [{"gantry_degrees": 40}, {"gantry_degrees": 40.05}]}, "two come from 40.05°"),
        ({"beams": [{"gantry_degrees": 0}, {"gantry_degrees": 360}]}, "two come from 360°"),
        ({"beams": [{"gantry_degrees": 3600}]}, "at least 0 and at most 360; got 3600"),
        ({"beams": [{"gantry_degrees": -40}]}, "at least 0 and at most 360; got -40"),
        ({"beams": [{"gantry_degrees": 40, "couch_degrees": 10}]}, "coplanar here; got 10°"),
        ({"beams": [{"gantry_degrees": 40, "on": False}]}, "all are off"),
        ({"beams": [{"gantry_degrees": 0.0, "radiation": "ELECTRON"}]}, "unknown entries"),
        (
            {"beams": [{"gantry_degrees": a} for a in (0.0, 0.698, 1.396, 2.094)]},
            "look like radians",
        ),
        ({"beams": [{"gantry_degrees": 0}], "sad_mm": 100}, "sad_mm must be"),
        ({"beams": [{"gantry_degrees": 0}], "patient_position": "HFDL"}, "HFS, HFP, FFS, FFP"),
    ],
)
def test_what_no_arrangement_is_is_refused(content: dict, said: str) -> None:
    with pytest.raises(DosePredictionError, match=said):
        from_json(BeamArrangement, content)


def test_a_beam_that_is_off_may_be_there_twice() -> None:
    beams = BeamArrangement((Beam(40.0), Beam(40.0, on=False), Beam(3.0), Beam(2.5)))
    assert beams.gantry_degrees == [40, 3, 2.5]  # few small angles are no radians
    two = (Beam(40.0), Beam(40.0, aperture=Aperture(("PTV70",))))
    assert len(BeamArrangement(two).fields) == 2


def test_a_case_folder_keeps_its_beams(tmp_path: Path) -> None:
    beams = BeamArrangement(
        (Beam(10.0, aperture=Aperture(("PTV",), 3.0)), Beam(200.0, 100.0, clockwise=False)),
        isocenter_mm=(1.0, 2.0, 3.0),
        patient_position="FFS",
    )
    case = replace(pelvis_case((24, 24, 16), (16.0, 16.0, 16.0)), beams=beams)
    write_case_folder(tmp_path / "own", case)
    assert read_case(tmp_path / "own").beams == beams
    assert from_json(BeamArrangement, json.loads(json.dumps(to_json(beams)))) == beams
    folder = write_folder(tmp_path / "clinic", case)
    stated = {"beams": "0,120,240"}
    (folder / "case.json").write_text(json.dumps(stated), encoding="utf-8")
    assert read_case(folder).beams == parse_beams("0,120,240")
    (folder / "case.json").write_text(json.dumps({"beams": "0,500"}), encoding="utf-8")
    with pytest.raises(CaseError, match=r"case\.json\.beams.*got 500"):
        read_case(folder)
