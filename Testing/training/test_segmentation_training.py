"""From contoured CTs to a model that finds organs: cases, crops, a run, and what it predicts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from organs import ENCODING, ORGANS, PELVIS, organs_case
from runs import digest
from support import write_case_folder

from DosePredictionLib.errors import CaseError
from DosePredictionLib.files import write_json
from DosePredictionLib.inference.predictor import Predictor
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.models.manifest import SCHEMA_MINOR
from DosePredictionLib.schema import to_json
from training.__main__ import main
from training.cache import open_cache
from training.compact import open_compact
from training.config import TrainingConfig
from training.data import TrainingCase, load_cases
from training.recipes.pelvis_organs import recipe
from training.sampling import Samples

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = [channel.name for channel in PELVIS.inputs]
SHAPES = ((60, 48, 40), (56, 50, 44), (64, 46, 38))
SIDES_ALIKE = {"FemurHead_R": ORGANS["FemurHead_L"][2]}
"""What a network must tell apart by their place."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cases to train on, and one to validate on."""
    root = tmp_path_factory.mktemp("organs")
    for number, shape in enumerate(SHAPES):
        split = "validation" if number == 2 else "training"
        (root / split).mkdir(exist_ok=True)
        write_case_folder(root / split / f"case_{number}", organs_case(shape, SIDES_ALIKE))
    return root


def settings(**changes: object) -> list[str]:
    """The recipe, small."""
    values = {
        "encoding": to_json(ENCODING),
        "crop": [32, 32, 32],
        "batch_size": 2,
        "learning_rate": 1e-2,
        "validate_every": 20,
        "precision": "fp32",
        "ema": 0.7,
        "deterministic": True,
        "network.options": {"filters": 8, "passes": 2},
        **changes,
    }
    pairs = (f"{key}={json.dumps(value)}" for key, value in values.items())
    return [text for pair in pairs for text in ("--set", pair)]


def config(**augmentation: object) -> TrainingConfig:
    still = replace(recipe.augmentation, flip_probability=0.0, spatial_probability=0.0)
    return replace(
        recipe,
        encoding=ENCODING,
        crop=(32, 32, 32),
        augmentation=replace(still, **augmentation),  # type: ignore[arg-type]
    )


def test_cases_without_plans_are_the_same_from_folder_cache_and_file(
    folder: Path, tmp_path: Path
) -> None:
    call = ["prepare", "--recipe", "pelvis_organs", *settings(), "--workers", "1"]
    call += ["--cases", str(folder / "training")]
    assert main([*call, "--output", str(tmp_path / "cache")]) == 0
    assert main([*call, "--compact", str(tmp_path / "file.zip")]) == 0
    read = load_cases(folder / "training", PELVIS, ENCODING, 1)
    cached = open_cache(tmp_path / "cache", PELVIS, ENCODING)
    packed = open_compact(tmp_path / "file.zip", PELVIS, ENCODING)
    assert len(read) == len(cached) == len(packed) == 2
    for one, same, small in zip(read, cached, packed, strict=True):
        assert np.array_equal(one.mask_bits, same.mask_bits) and np.array_equal(one.ct, same.ct)
        assert one.fingerprint == same.fingerprint == small.fingerprint
        assert not one.dose_gy.any()
        assert {n for n, has in zip(NAMES, one.contoured, strict=True) if has} == {
            "PTV",
            "Body",
            *ORGANS,
        }
        count = [each.labels.sum((1, 2, 3)).tolist() for each in (one, small)]
        assert count[0] == count[1] and sum(count[0]) > 0
        inside = [np.sort(each.ct[each.body]) for each in (one, small)]
        assert np.abs(inside[0] - inside[1]).max() <= 4.1 / 2000
    assert read[0].fingerprint != read[1].fingerprint


def test_a_case_without_an_organ_teaches_nothing(tmp_path: Path) -> None:
    case = organs_case(SHAPES[0])
    write_case_folder(tmp_path / "bare", replace(case, structures={"PTV": case.structures["PTV"]}))
    with pytest.raises(CaseError, match="no contoured organ"):
        TrainingCase.read(tmp_path / "bare", PELVIS, ENCODING)


def test_a_flipped_crop_has_its_left_head_on_the_left(folder: Path) -> None:
    cases = load_cases(folder / "training", PELVIS, ENCODING, 1)
    plain = Samples(cases, config(), PELVIS)
    flipped = Samples(cases, config(flip_probability=1.0), PELVIS)
    left, right = NAMES.index("FemurHead_L"), NAMES.index("FemurHead_R")
    seen = 0
    for number in range(6):
        one, other = plain[number], flipped[number]
        masks, turned = one.labels["structures"], other.labels["structures"]
        torch.testing.assert_close(other.input, one.input.flip(-1))
        assert torch.equal(turned[left], masks[right].flip(-1))
        assert torch.equal(turned[right], masks[left].flip(-1))
        for index in set(range(len(NAMES))) - {left, right}:
            assert torch.equal(turned[index], masks[index].flip(-1))
        for sample in (one, other):
            middle = [
                torch.nonzero(sample.labels["structures"][index])[:, 2].float().mean()
                for index in (left, right)
            ]
            if not any(value.isnan() for value in middle):
                assert middle[0] > middle[1]  # x points to the patient's left
                seen += 1
    assert seen > 4


def test_a_head_that_only_one_side_has_changes_sides_in_a_flipped_crop(tmp_path: Path) -> None:
    case = organs_case(SHAPES[0])
    kept = {name: mask for name, mask in case.structures.items() if name != "FemurHead_R"}
    write_case_folder(tmp_path / "one" / "case", replace(case, structures=kept))
    cases = load_cases(tmp_path / "one", PELVIS, ENCODING, 1)
    left, right = NAMES.index("FemurHead_L"), NAMES.index("FemurHead_R")
    for chance, has in ((0.0, left), (1.0, right)):
        contoured = Samples(cases, config(flip_probability=chance), PELVIS)[0].labels["contoured"]
        assert contoured[has].item() and not contoured[left + right - has].item()


def test_every_crop_holds_an_organ_and_all_organs_have_their_turn(folder: Path) -> None:
    cases = load_cases(folder / "training", PELVIS, ENCODING, 1)
    samples = Samples(cases, config(), PELVIS)
    held = [samples[number].labels["structures"] for number in range(24)]
    organs = [NAMES.index(name) for name in ORGANS]
    assert all(masks[organs].any() for masks in held)
    assert all(any(masks[index].any() for masks in held) for index in organs)


def exported(run: Path, folder: Path) -> DoseModel:
    """The model of a run."""
    described = {
        "training": {"data": "ellipsoids"},
        "licence": "MIT",
        "fractions": 25,
        "technique": "none",
        "patients": [],
    }
    write_json(run / "data.json", described)
    call = ["export", "--run", str(run), "--name", "ellipsoid-organs", "--title", "Organs"]
    assert main([*call, "--output", str(folder), "--mirror"]) == 0
    return DoseModel.load(folder / "ellipsoid-organs")


@pytest.mark.slow
def test_a_run_learns_is_exported_and_finds_both_heads_on_their_own_sides(
    folder: Path, tmp_path: Path
) -> None:
    def train(run: str, steps: int) -> None:
        call = ["train", "--recipe", "pelvis_organs", *settings(), "--steps", str(steps)]
        data = ["--training", str(folder / "training"), "--validation", str(folder / "validation")]
        assert main([*call, *data, "--output", str(tmp_path / run)]) == 0

    train("whole", 60)
    model = exported(tmp_path / "whole", tmp_path)
    case = organs_case(SHAPES[2], SIDES_ALIKE)
    blind = replace(case, structures={"PTV": case.structures["PTV"]})
    found = {o.structure: o.volume for o in Predictor(model, "cpu", "fp32").predict(blind).outputs}
    for name, sign in (("FemurHead_L", 1), ("FemurHead_R", -1)):
        own, ours = case.structures[name].array, found[name].array
        middle = np.argwhere(ours)[:, ::-1].mean(0)
        assert sign * case.grid.world_from_index(middle)[0] > 50
        assert 2 * (own & ours).sum() / (own.sum() + ours.sum()) > 0.6, name


def test_an_interrupted_run_goes_on_as_if_it_had_not_been_and_is_exported(
    folder: Path, tmp_path: Path
) -> None:
    ends = {}
    small = {"network.options": {"filters": 2, "passes": 2}, "batch_size": 1}
    for run, parts in (("whole", (4,)), ("parts", (2, 4))):
        for stop in parts:
            call = ["train", "--recipe", "pelvis_organs", *settings(validate_every=2, **small)]
            data = ["--training", str(folder / "training"), "--output", str(tmp_path / run)]
            data += ["--validation", str(folder / "validation"), "--steps", "4"]
            if stop == 2:
                data += ["--time-limit", "0"]
            assert main([*call, *data]) == 0
        ends[run] = torch.load(tmp_path / run / "last.pt", weights_only=True)
    assert ends["whole"]["step"] == ends["parts"]["step"] == 4
    assert digest(ends["whole"]["model"]) == digest(ends["parts"]["model"])
    model = exported(tmp_path / "parts", tmp_path)
    assert model.manifest.task == "segmentation" and model.manifest.mirror
    assert model.manifest.encoding == ENCODING and model.manifest.schema_minor == SCHEMA_MINOR
    assert all(torch.isfinite(value).all() for value in model.network().state_dict().values())
