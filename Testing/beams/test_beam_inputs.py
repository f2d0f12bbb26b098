"""Beams as inputs of a model: channels, findings, and a cascade that predicts with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from beam_phantoms import beam_model
from support import (
    centered_grid,
    ct_of,
    ellipsoid,
    mirrored_case,
    pelvis_case,
    write_case_folder,
)

from DosePredictionLib.beams.arrangement import Aperture, Beam, BeamArrangement, parse_beams
from DosePredictionLib.case import Case
from DosePredictionLib.checks.registry import check_case
from DosePredictionLib.encoding.encoder import (
    EncodedCase,
    EncodingSettings,
    GridSettings,
    encode,
)
from DosePredictionLib.encoding.strips import StripSettings
from DosePredictionLib.errors import CaseError, DosePredictionError, PredictionError
from DosePredictionLib.findings import Finding
from DosePredictionLib.inference.predictor import Predictor
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.models.expectations import ModelExpectations
from DosePredictionLib.origin import DicomOrigin
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.tasks.beam_dose import BeamDose
from DosePredictionLib.tasks.task import Passes
from DosePredictionLib.volume import Volume

pytestmark = pytest.mark.usefixtures("one_thread")

PELVIS = StructureProtocol.load("pelvis")
HEAD = StructureProtocol.load("openkbp")
SIZE, SPACING = (48, 48, 32), (8.0, 8.0, 8.0)
SETTINGS = EncodingSettings(
    GridSettings("as-is", size=SIZE, spacing_mm=SPACING),
    dose_scale_gy=50.0,
    strips=StripSettings(angles=()),
    further={"beam": {}},
)
THREE = parse_beams("20,130,200")


def pelvis(**changes: Any) -> Case:
    return replace(pelvis_case(SIZE, SPACING), **changes)


def encoded(case: Case, settings: EncodingSettings = SETTINGS) -> EncodedCase:
    return encode(bind(case, PELVIS), settings)


def found(result: EncodedCase, name: str) -> Finding:
    (finding,) = [finding for finding in result.findings if finding.id == name]
    return finding


def test_the_open_dose_is_what_the_operator_gives_of_open_fluence() -> None:
    result = encoded(pelvis(beams=THREE))
    channel = [each.name for each in result.channels.channels].index("open dose PTV")
    assert channel == len(result.channels) - 1 == 10
    assert result.beams is not None
    dose = result.beams.dose(result.beams.open_fluence({"PTV"})) / 3
    np.testing.assert_allclose(result.input[channel], result.beams.as_volume(dose), atol=1e-6)
    target = result.input[1] > 0.5
    assert result.input[channel][target].min() > 0.4
    assert not result.input[channel][~result.body].any()
    assert encoded(pelvis(), replace(SETTINGS, further={})).beams is None


def test_the_mirrored_patient_with_mirrored_beams_has_the_mirrored_input() -> None:
    case = pelvis()
    shifted = ellipsoid(case.grid, (30, -10, 0), (35, 30, 40))
    masks = {**case.structures, "PTV": Volume(shifted, case.grid)}
    case = replace(case, structures=masks, beams=THREE)
    ours = encoded(case)
    turned = ours.input[ours.channels.mirrored][..., ::-1]
    theirs = encoded(replace(mirrored_case(case), beams=THREE.mirrored())).input
    np.testing.assert_allclose(theirs, turned, atol=3e-3)
    wrong = encoded(replace(mirrored_case(case), beams=THREE)).input
    assert np.abs(wrong - turned)[10].max() > 0.1


def head_and_neck(*targets: str, **changes: Any) -> Case:
    grid = centered_grid((32, 32, 24), (6.0, 6.0, 6.0))
    external = ellipsoid(grid, (0, 0, 0), (85, 90, 200))
    every = {
        "PTV70": ellipsoid(grid, (20, 0, 0), (15, 15, 15)),
        "PTV63": ellipsoid(grid, (10, 0, 0), (30, 22, 24)),
        "PTV56": ellipsoid(grid, (0, 0, 0), (50, 30, 40)),
    }
    masks = {name: mask for name, mask in every.items() if name in targets}
    masks |= {"External": external, "Brainstem": ellipsoid(grid, (0, 40, 40), (10, 10, 12))}
    volumes = {name: Volume(mask, grid) for name, mask in masks.items()}
    return Case("head", Volume(ct_of(external), grid), volumes, **changes)


NATIVE = replace(
    SETTINGS,
    grid=GridSettings("native", spacing_mm_min=(2.0,) * 3, spacing_mm_max=(9.0,) * 3),
)


def test_each_level_is_open_for_itself_and_for_what_is_above_it() -> None:
    result = encode(bind(head_and_neck("PTV70", "PTV63", "PTV56"), HEAD), NATIVE)
    names = [channel.name for channel in result.channels.channels]
    doses = {level: result.input[names.index(f"open dose PTV{level}")] for level in (70, 63, 56)}
    assert (doses[63] >= doses[70] - 1e-6).all()
    assert (doses[56] >= doses[63] - 1e-6).all()
    reached = {level: np.count_nonzero(dose > 0.1) for level, dose in doses.items()}
    assert reached[70] < reached[63] < reached[56]
    absent = encode(bind(head_and_neck("PTV70", "PTV56"), HEAD), NATIVE)
    assert not absent.input[names.index("open dose PTV63")].any()
    assert absent.input[names.index("open dose PTV70")].any()


def test_a_case_without_beams_has_the_models_own() -> None:
    own = replace(SETTINGS, further={"beam": {"arrangement": {"beams": [{"gantry_degrees": 70}]}}})
    result = encoded(pelvis(), own)
    assert result.beams is not None
    assert [each.field.gantry_degrees for each in result.beams.fields] == [70]
    assert "the model's own are used (70°)" in found(result, "beams-of-model").message
    # A patient whom the CT calls prone gets them from the other side.
    prone = pelvis(origin=DicomOrigin({}, {}, "1", "2", (), patient_position="HFP"))
    source = encoded(prone, own).beams.fields[0].frame.source_mm  # type: ignore[union-attr]
    assert source[0] < -500


def test_apertures_name_targets_by_channel_or_as_the_clinic_does() -> None:
    case = pelvis()
    masks = {("PTV_4500" if n == "PTV" else n): m for n, m in case.structures.items()}
    for name in ("PTV_4500", "PTV"):
        beams = BeamArrangement((Beam(0.0, aperture=Aperture((name,))),))
        named = replace(case, structures=masks, beams=beams, prescription=None)
        assert encoded(named).input[10].max() > 0.4
    lost = BeamArrangement((Beam(0.0), Beam(90.0, aperture=Aperture(("Boost",)))))
    with pytest.raises(CaseError, match="from 90° sees no target: its aperture is for Boost"):
        encoded(replace(case, beams=lost))


def test_beams_that_miss_the_target_block() -> None:
    far = replace(THREE, isocenter_mm=(0.0, 0.0, 400.0))
    finding = found(encoded(pelvis(beams=far)), "beams-miss-target")
    assert finding.severity == "blocking"
    assert "the largest field is 400 mm wide" in finding.message


def test_a_ct_that_ends_in_the_path_of_a_beam_is_a_finding() -> None:
    grid = centered_grid(SIZE, SPACING)
    body = ellipsoid(grid, (120, 0, 0), (150, 100, 400))  # the left arm is outside the image
    masks = {**pelvis().structures, "Body": Volume(body, grid)}
    case = pelvis(ct=Volume(ct_of(body), grid), structures=masks)
    cut = found(encoded(replace(case, beams=parse_beams("0,90,180,270"))), "beam-path-cut")
    assert cut.severity == "warning"
    assert "(from 90°)" in cut.message
    others = encoded(replace(case, beams=parse_beams("0,180,270")))
    assert not [finding for finding in others.findings if finding.id == "beam-path-cut"]


@pytest.mark.parametrize(
    ("given", "known", "said"),
    [
        (THREE, (THREE,), ""),
        (None, (THREE,), ""),
        (replace(parse_beams("200,310,20"), patient_position="HFP"), (THREE,), ""),
        (parse_beams("20,130,201"), (THREE,), ""),
        (parse_beams("20,130,210"), (THREE,), "beams-unlike-model"),
        (parse_beams("20,130"), (THREE,), "beams-unlike-model"),
        (parse_beams("20,130"), (THREE, parse_beams("130,20")), ""),
        (THREE, (), "beams-unknown-to-model"),
    ],
)
def test_beams_are_compared_with_the_card(
    given: BeamArrangement | None, known: tuple, said: str
) -> None:
    bound = bind(pelvis(beams=given), PELVIS)
    findings = check_case(bound, ModelExpectations(beams=known))
    ids = [finding.id for finding in findings if finding.id.startswith("beams")]
    assert ids == ([said] if said else [])
    if said == "beams-unlike-model":
        (finding,) = [each for each in findings if each.id == said]
        assert "the model's plans had beams from 20°, 130°, 200°" in finding.message


def test_settings_of_beams_have_ranges() -> None:
    for wrong, said in (
        ({"beam": {"angles": [0]}}, "unknown entries"),
        ({"beam": {"ray_model": {"bixel_mm": 0.1}}}, "bixel_mm must be"),
        ({"beam": {"arrangement": {"beams": []}}}, "of length 1 to 100"),
    ):
        with pytest.raises(DosePredictionError, match=said):
            encoded(pelvis(), replace(SETTINGS, further=wrong))


# --- A cascade with random weights --------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> DoseModel:
    """A beam-aware model of random weights that averages with the mirrored patient."""
    return beam_model(tmp_path / "models" / "beams", SETTINGS, THREE)


def test_the_dose_of_a_mirrored_patient_is_the_mirrored_dose(model: DoseModel) -> None:
    predictor = Predictor(model, "cpu", "fp32")
    case = pelvis(beams=THREE)
    ours = predictor.predict(case).dose.array
    theirs = predictor.predict(replace(mirrored_case(case), beams=THREE.mirrored())).dose.array
    assert ours.max() > 1
    assert np.abs(ours - ours[..., ::-1]).max() > 0.5
    np.testing.assert_allclose(theirs[..., ::-1], ours, atol=0.05)


def test_other_beams_give_another_dose_and_a_finding(
    model: DoseModel, tmp_path: Path, run: Callable[..., tuple[int, Any, str]]
) -> None:
    folder = write_case_folder(tmp_path / "patient", pelvis(beams=THREE))
    doses, checks = [], []
    for number, more in enumerate(([], ["--beams", "0,90"])):
        output = tmp_path / f"out{number}"
        call = ["predict", folder, "--model", model.folder, "--output", output, *more]
        code, result, _ = run(*call, "--format", "nrrd")
        assert code == 0
        written = json.loads(Path(result["cases"][0]["prediction"]).read_text())
        angles = [beam["gantry_degrees"] for beam in written["beams"]["beams"]]
        assert angles == ([0, 90] if more else [20, 130, 200])
        checks.append({check["id"] for check in result["cases"][0]["checks"]})
        from DosePredictionLib.io.volumes import read_volume

        doses.append(read_volume(Path(result["cases"][0]["dose"])).array)
    assert "beams-unlike-model" not in checks[0]
    assert "beams-unlike-model" in checks[1]
    assert np.abs(doses[0] - doses[1]).max() > 0.1
    for wrong, said in (("0,0", "two come from 0°"), ("0.1,1.57,3.1416", "radians")):
        code, result, _ = run(
            "predict", folder, "--model", model.folder, "--output", tmp_path, "--beams", wrong
        )
        assert code == 2
        assert said in result["error"]["message"]


def test_the_steps_are_coarse_then_mimicked_then_refined(model: DoseModel) -> None:
    result = encoded(pelvis(beams=THREE))
    network, task = model.network().eval(), BeamDose(PELVIS, SETTINGS)
    x = torch.from_numpy(result.input)[None]
    with torch.no_grad():
        found = task.predict(
            network, x, Passes(beams=result.beams, keep=frozenset({"coarse dose"}))
        )
        coarse = torch.stack([each(x).final[0, 0] for each in network.coarse]).mean(0)  # type: ignore[union-attr]
        torch.testing.assert_close(found["coarse"], coarse, rtol=1e-4, atol=1e-5)
        from DosePredictionLib.tasks.beam_dose import earlier_doses

        assert result.beams is not None
        earlier = torch.from_numpy(earlier_doses(coarse.numpy(), result.beams))
        final = network(x, earlier[None]).final[0, 0]
        torch.testing.assert_close(found["dose"], final, rtol=1e-3, atol=1e-4)
        known = task.predict(network, x, Passes(earlier=earlier))
        torch.testing.assert_close(known["dose"], final, rtol=1e-4, atol=1e-5)
        with pytest.raises(PredictionError, match="needs the geometry of the beams"):
            task.predict(network, x, Passes())
    # The mimicked dose lies on what the beams can give: mimicking it again changes little.
    again = earlier_doses(earlier[1].numpy(), result.beams)[1]
    assert np.abs(again - earlier[1].numpy()).mean() < 0.2 * float(
        (earlier[1] - earlier[0]).abs().mean()
    )


def test_the_format_of_the_card_knows_beams(model: DoseModel) -> None:
    content = json.loads((model.folder / "model.json").read_text())
    assert content["schema_minor"] >= 2
    assert [beam["gantry_degrees"] for beam in content["expectations"]["beams"][0]["beams"]] == [
        20,
        130,
        200,
    ]
