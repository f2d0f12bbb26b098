"""Wishes as inputs of a model: painted, refused, kept, dropped in training; and open fields."""

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
from support import mirrored_case, pelvis_case, write_case_folder

from DosePredictionLib.app.choices import WishesChoice
from DosePredictionLib.beams.arrangement import ARRANGEMENTS, BeamArrangement, parse_beams
from DosePredictionLib.beams.mimic import mimic
from DosePredictionLib.case import Case
from DosePredictionLib.encoding.encoder import EncodedCase, EncodingSettings, GridSettings, encode
from DosePredictionLib.encoding.strips import StripSettings
from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.io import read_case
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Volume
from DosePredictionLib.wishes import Wish
from DosePredictionLib.worker.exchange import read_exchanged_case
from DosePredictionLib.worker.exchange import write_case as write_exchanged
from training.__main__ import load_recipe
from training.augmentation import draw_edges, vary_masks
from training.cache import open_cache, prepare
from training.config import AugmentationConfig
from training.sampling import Samples

pytestmark = pytest.mark.usefixtures("one_thread")

PELVIS = StructureProtocol.load("pelvis")
SIZE, SPACING = (48, 48, 32), (8.0, 8.0, 8.0)
SETTINGS = EncodingSettings(
    GridSettings("as-is", size=SIZE, spacing_mm=SPACING),
    masks="occupancy",
    dose_scale_gy=45.0,
    strips=StripSettings(angles=()),
    further={
        "beam": {"open_fields": True},
        "wish": {"dose_gy": {"Rectum": 40.0, "FemurHead_L": 30.0, "FemurHead_R": 30.0}},
    },
)
RECTUM, HEAD = Wish("Rectum", 40.0, 25.0), Wish("FemurHead_L", 30.0, 10.0)


def pelvis(**changes: Any) -> Case:
    return replace(pelvis_case(SIZE, SPACING), **changes)


def encoded(case: Case, settings: EncodingSettings = SETTINGS) -> EncodedCase:
    return encode(bind(case, PELVIS), settings)


def channel(result: EncodedCase, name: str) -> np.ndarray:
    return result.input[[each.name for each in result.channels.channels].index(name)]


def test_a_wish_is_painted_where_its_organ_lies_and_nothing_where_none_is_stated() -> None:
    result = encoded(pelvis(wishes=(RECTUM, HEAD)))
    painted, rectum = channel(result, "wishes"), channel(result, "Rectum")
    np.testing.assert_allclose(
        painted, 0.75 * rectum + 0.9 * channel(result, "FemurHead_L"), atol=1e-6
    )
    assert result.wishes == {"Rectum": 0.25, "FemurHead_L": 0.1}
    assert not channel(encoded(pelvis()), "wishes").any()
    nothing_asked = encoded(pelvis(wishes=(replace(RECTUM, percent=100.0),)))
    assert not channel(nothing_asked, "wishes").any()


def test_a_model_that_takes_none_leaves_a_cases_wishes_alone_and_says_so() -> None:
    case, plain = pelvis(wishes=(RECTUM,)), replace(SETTINGS, further={"beam": {}})
    result = encoded(case, plain)
    np.testing.assert_array_equal(result.input, encoded(pelvis(), plain).input)
    (said,) = [each for each in result.findings if each.id == "wishes-unknown-to-model"]
    assert said.severity == "info" and "(Rectum V40Gy <= 25 %)" in said.message
    for other in (encoded(pelvis(), plain), encoded(case)):
        assert "wishes-unknown-to-model" not in {each.id for each in other.findings}


def test_the_mirrored_patient_has_the_mirrored_wishes() -> None:
    case = pelvis(wishes=(RECTUM, HEAD), beams=parse_beams("20,130,200"))
    ours = encoded(case)
    turned = ours.input[ours.channels.mirrored][..., ::-1]
    other = replace(HEAD, structure="FemurHead_R")
    mirrored = replace(mirrored_case(case), wishes=(RECTUM, other), beams=case.beams.mirrored())
    np.testing.assert_allclose(encoded(mirrored).input, turned, atol=3e-3)


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ((Wish("Heart", 40.0, 25.0),), "structure that .* does not have; it has"),
        ((Wish("Rectum", 30.0, 25.0),), "does not know the goal .*: it takes Rectum V40Gy"),
        ((Wish("Bladder", 40.0, 25.0),), "does not know the goal"),
        ((RECTUM, replace(RECTUM, percent=30.0)), "Two goals are on Rectum V40Gy"),
    ],
)
def test_a_wish_that_cannot_be_taken_is_refused(wishes: tuple[Wish, ...], said: str) -> None:
    with pytest.raises(DosePredictionError, match=said):
        encoded(pelvis(wishes=wishes))


def test_a_wish_below_what_lies_in_the_target_is_refused() -> None:
    case = pelvis()
    target, rectum = (case.structures[name].majority() for name in ("PTV", "Rectum"))
    half = target | (rectum & (np.arange(SIZE[2])[:, None, None] < SIZE[2] // 2))
    inside = 100 * np.count_nonzero(half & rectum) / np.count_nonzero(rectum)
    case = replace(case, structures={**case.structures, "PTV": Volume(half, case.grid)})
    assert inside > 20
    with pytest.raises(DosePredictionError, match=f"{inside:.0f} % of Rectum lies inside"):
        encoded(replace(case, wishes=(replace(RECTUM, percent=inside - 5),)))
    encoded(replace(case, wishes=(replace(RECTUM, percent=inside + 1),)))


@pytest.mark.parametrize(
    "text",
    [
        "Rectum Dmean <= 20 Gy",
        "Rectum V40Gy >= 25 %",
        "Rectum V40Gy <= 25 cc",
        "Rectum V90%Rx <= 5 %",
    ],
)
def test_a_goal_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(DosePredictionError, match="upper limits of a volume in percent"):
        WishesChoice.parse([text])


def test_goals_are_read_and_go_before_the_cases_own() -> None:
    chosen = WishesChoice.parse(["Rectum V40Gy <= 25 %", "FemurHead_L V30Gy < 10 %"])
    assert chosen.wishes == (RECTUM, HEAD)
    own = pelvis(wishes=(HEAD,))
    assert chosen.of(own).wishes == (RECTUM, HEAD)
    assert WishesChoice.parse([]).of(own).wishes == (HEAD,)


def test_a_case_folder_keeps_its_wishes(tmp_path: Path) -> None:
    from DosePredictionLib.io.nifti import write_case_folder as write

    write(
        tmp_path / "patient", pelvis(wishes=(RECTUM, HEAD), beams=ARRANGEMENTS["four-field-open"])
    )
    case = read_case(tmp_path / "patient")
    assert case.wishes == (RECTUM, HEAD)
    assert case.beams is not None and not case.beams.modulated
    assert read_exchanged_case(write_exchanged(tmp_path / "exchanged", case)).wishes == case.wishes
    described = json.loads((tmp_path / "patient" / "case.json").read_text())
    described["wishes"][0]["percent"] = 250
    (tmp_path / "patient" / "case.json").write_text(json.dumps(described))
    with pytest.raises(DosePredictionError, match="percent"):
        read_case(tmp_path / "patient")


# --- Open fields --------------------------------------------------------------------------------


def test_open_fields_have_weights_alone() -> None:
    box, other = ARRANGEMENTS["four-field-open"], ARRANGEMENTS["four-field"]
    ours, theirs = encoded(pelvis(beams=box)), encoded(pelvis(beams=other))
    assert np.array_equal(channel(ours, "open fields"), ours.body)
    assert not channel(theirs, "open fields").any()
    assert ours.beams is not None and theirs.beams is not None
    assert ours.beams.deliverable.elements == 4 < theirs.beams.deliverable.elements
    weights = np.array([1.0, 0.5, 2.0, 0.0], dtype=np.float32)
    operator = ours.beams.deliverable
    dose = operator.dose(weights)
    assert np.allclose(mimic(operator, dose, 400).fluence, weights, atol=0.03)
    ones = np.ones_like(dose)
    assert operator.adjoint(ones) @ weights == pytest.approx(float(dose.sum()), rel=1e-4)
    # A model that does not tell them apart takes them as it always did.
    plain = replace(SETTINGS, further={"beam": {}})
    as_before = encoded(pelvis(beams=box), plain).beams
    assert as_before is not None and as_before.deliverable is as_before


def test_an_arrangement_says_whether_its_fields_are_open() -> None:
    assert str(BeamArrangement.of_angles([0, 90], 7.0)) == "open fields at 0°, 90°"
    assert ARRANGEMENTS["four-field-open"].mirrored().modulated is False


# --- Prediction ---------------------------------------------------------------------------------


def test_a_goal_changes_the_input_and_is_written(
    tmp_path: Path, run: Callable[..., tuple[int, Any, str]]
) -> None:
    model = beam_model(tmp_path / "models" / "wishes", SETTINGS, parse_beams("0,120,240"))
    folder = write_case_folder(tmp_path / "patient", pelvis())
    call = ["predict", folder, "--model", model.folder, "--output", tmp_path / "out"]
    code, result, _ = run(*call, "--goal", "Rectum V40Gy <= 25 %")
    assert code == 0
    written = json.loads(Path(result["cases"][0]["prediction"]).read_text())
    assert written["wishes"] == [{"structure": "Rectum", "dose_gy": 40.0, "percent": 25.0}]
    refused = {
        "does not know the goal": ["Bladder V40Gy <= 25 %"],
        "a structure that patient does not have": ["Heart V40Gy <= 25 %"],
        "Two goals are on": ["Rectum V40Gy <= 25 %", "Rectum V40Gy <= 20 %"],
        "upper limits of a volume": ["Rectum V0Gy <= 0 %"],
        "expected a limit": ["Rectum V40Gy <= much"],
    }
    for said, goals in refused.items():
        code, result, _ = run(*call, *(part for goal in goals for part in ("--goal", goal)))
        message = result["error"]["message"]
        assert code == 2 and said in message and "\n" not in message


@pytest.mark.parametrize("option", [("--goal", "Rectum V40Gy <= 25 %"), ("--beams", "four-field")])
def test_a_model_without_the_input_refuses_the_option(
    option: tuple[str, str],
    pelvis_model: DoseModel,
    case_folder: Path,
    tmp_path: Path,
    run: Callable[..., tuple[int, Any, str]],
) -> None:
    code, result, _ = run(
        "predict", case_folder, "--model", pelvis_model.folder, "--output", tmp_path, *option
    )
    message = result["error"]["message"]
    assert code == 2 and f"Leave out {option[0]}" in message and "\n" not in message


# --- Training -----------------------------------------------------------------------------------


def test_a_cache_keeps_wishes_and_training_drops_them(tmp_path: Path) -> None:
    case = pelvis(wishes=(RECTUM,))
    target, body = (case.structures[name].majority() for name in ("PTV", "Body"))
    dose = np.where(target, 46.0, np.where(body, 15.0, 0.0)).astype(np.float32)
    case = replace(case, plan_dose=case.ct.with_array(dose))
    from DosePredictionLib.io.nifti import write_case_folder as write

    write(tmp_path / "cases" / "patient", case)
    prepare(tmp_path / "cases", tmp_path / "cache", PELVIS, SETTINGS, workers=1)
    (kept,) = open_cache(tmp_path / "cache", PELVIS, SETTINGS)
    assert kept.wishes == {"Rectum": 0.25}
    expected = encoded(case)
    np.testing.assert_allclose(kept.input(), expected.input, atol=2e-3)
    place = [each.name for each in kept.channels.channels].index("wishes")
    for chance in (0.0, 1.0):
        policy = AugmentationConfig(0.0, 0.0, 0.0, drop_wishes=chance)
        config = replace(
            load_recipe("pelvis_wishes_coarse"),
            encoding=SETTINGS,
            crop=SIZE[::-1],
            augmentation=policy,
        )
        sample = Samples([kept], config, PELVIS)[0]
        assert bool(sample.input[place].any()) == (chance == 0.0)
    # Without the organ there is no wish for it.
    policy = AugmentationConfig(0.0, 0.0, 0.0, drop_structures={"Rectum": 1.0})
    sample = Samples([kept], replace(config, augmentation=policy), PELVIS)[0]
    assert not sample.input[place].any()


def test_edges_of_masks_vary_and_their_insides_stay() -> None:
    mask = torch.zeros(2, 20, 20, 20)
    mask[:, 5:15, 5:15, 5:15] = 1
    level, steep = torch.tensor([0.35, 0.65]), torch.tensor([5.0, 5.0])
    larger, smaller = vary_masks(mask, level, steep, 1.0)
    assert larger.sum() > mask[0].sum() > smaller.sum() > 0.5 * mask[0].sum()
    soft = vary_masks(mask, torch.tensor([0.5, 0.5]), torch.tensor([1.5, 1.5]), 1.2)[0]
    assert soft.sum() == pytest.approx(float(mask[0].sum()), rel=0.15)
    assert ((soft > 0.1) & (soft < 0.9)).any()
    for seed in range(20):
        level, steep, blur = draw_edges(2, np.random.default_rng(seed))
        varied = vary_masks(mask, level, steep, blur)
        assert (varied[:, 8:12, 8:12, 8:12] == 1).all() and not varied[:, :2].any()
        assert not vary_masks(torch.zeros_like(mask), level, steep, blur).any()
