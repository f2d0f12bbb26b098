"""Crops made on the device that holds the cases are those that the CPU makes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import pelvis_case, write_case_folder

from DosePredictionLib.structures.protocol import StructureProtocol
from training.__main__ import load_recipe
from training.config import AugmentationConfig, TrainingConfig
from training.data import TrainingCase
from training.resident import block, fitting_device
from training.sampling import Batch, training_batches

pytestmark = pytest.mark.usefixtures("one_thread")

PELVIS = StructureProtocol.load("pelvis")
SIZE, SPACING = (40, 36, 28), (8.0, 8.0, 8.0)
QUIET = AugmentationConfig(0.0, 0.0, 0.0)
EVERYTHING = AugmentationConfig(
    flip_probability=0.5,
    ct_noise_hu=0.0,
    ct_shift_hu=20.0,
    ct_contrast=0.1,
    spatial_probability=0.7,
    elastic_probability=0.5,
    drop_structures={"Rectum": 0.5, "PTV": 0.2},
    drop_wishes=0.3,
    mask_edges=0.5,
)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[TrainingCase]:
    """Two cases with wishes, beams and earlier doses."""
    root = tmp_path_factory.mktemp("cases")
    config = load_recipe("pelvis_wishes")
    result = []
    for number in range(2):
        case = pelvis_case(SIZE, SPACING)
        masks = {name: case.structures[name].majority() for name in ("PTV", "Body")}
        dose = np.where(masks["PTV"], 45.0 + number, np.where(masks["Body"], 12.0, 0.0))
        case = replace(case, plan_dose=case.ct.with_array(dose.astype(np.float32)))
        write_case_folder(root / f"p{number}", case)
        kept = TrainingCase.read(root / f"p{number}", PELVIS, config.encoding)
        earlier = np.random.default_rng(number).random((2, *kept.body.shape))
        result.append(
            replace(
                kept, earlier=earlier.astype(np.float16), wishes={"Rectum": 0.2, "Bladder": 0.4}
            )
        )
    return result


def recipe(**changes: object) -> TrainingConfig:
    config = replace(load_recipe("pelvis_wishes"), crop=(16, 32, 48), batch_size=2, steps=8)
    return replace(config, precision="fp32", **changes)


def drawn(
    cases: list[TrainingCase], config: TrainingConfig, maker: int | torch.device
) -> list[Batch]:
    return list(training_batches(cases, config, PELVIS, workers=maker))


@pytest.mark.parametrize("policy", [QUIET, EVERYTHING], ids=["quiet", "everything"])
def test_both_make_the_same_crops(cases: list[TrainingCase], policy: AugmentationConfig) -> None:
    config = recipe(augmentation=policy)
    made = drawn(cases, config, torch.device("cpu"))
    assert len(made) == config.steps
    for here, there in zip(drawn(cases, config, 0), made, strict=True):
        assert here.names == there.names
        assert torch.equal(here.spacing_mm, there.spacing_mm)
        # The CT lies on the device in half precision.
        torch.testing.assert_close(there.input, here.input, atol=2e-3, rtol=0)
        assert here.labels.keys() == there.labels.keys() >= {"dose", "region", "earlier"}
        for name, label in here.labels.items():
            torch.testing.assert_close(there.labels[name], label, atol=1e-5, rtol=0)


def test_noise_is_normal_of_its_size_and_the_same_each_time(cases: list[TrainingCase]) -> None:
    loud = recipe(augmentation=replace(QUIET, ct_noise_hu=40.0))
    low, high = loud.encoding.ct_window_hu
    device = torch.device("cpu")
    first, again = (drawn(cases, loud, device)[0] for _ in range(2))
    assert torch.equal(first.input, again.input)
    still = drawn(cases, recipe(augmentation=QUIET), device)[0]
    noise = (first.input - still.input)[:, 0]
    within = (still.input[:, 0] > 0.2) & (still.input[:, 0] < 0.8)
    assert noise[within].std() == pytest.approx(40.0 / (high - low), rel=0.05)
    assert not (first.input - still.input)[:, 1:].any()


def test_half_precision_halves_what_the_network_gets(cases: list[TrainingCase]) -> None:
    config = replace(recipe(augmentation=QUIET), precision="bf16")
    assert drawn(cases, config, torch.device("cpu"))[0].input.dtype == torch.float16


def test_a_block_beyond_the_case_is_padding() -> None:
    values = torch.arange(24.0).reshape(1, 2, 3, 4)
    cut = block(values, (-1, 1, 2), (3, 3, 3), padding=-5.0)
    assert torch.equal(cut[0, 1:, :2, :2], values[0, :, 1:, 2:])
    outside = torch.ones(3, 3, 3, dtype=torch.bool)
    outside[1:, :2, :2] = False
    assert (cut[0][outside] == -5.0).all()


def test_cpus_keep_their_workers(cases: list[TrainingCase]) -> None:
    assert fitting_device(cases, torch.device("cpu")) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_makes_the_same_crops(cases: list[TrainingCase]) -> None:
    config = recipe(augmentation=EVERYTHING)
    device = fitting_device(cases, torch.device("cuda"))
    assert device is not None
    made = drawn(cases, config, device)
    for here, there in zip(drawn(cases, config, 0), made, strict=True):
        torch.testing.assert_close(there.input.cpu(), here.input, atol=2e-2, rtol=0)
        for name, label in here.labels.items():
            off = (there.labels[name].cpu().float() - label.float()).abs()
            assert off.mean() < 1e-3, name
