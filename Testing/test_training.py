"""Training on the library's own packages: data, augmentation, the loop, export."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import OPENKBP_SAMPLE, ROOT, mirrored_case, pelvis_case, write_case_folder

from DosePredictionLib.encoding.encoder import (
    EncodingSettings,
    GridSettings,
    encode,
    mirrored_channels,
)
from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.inference.predictor import Predictor
from DosePredictionLib.io import read_case
from DosePredictionLib.losses import masked_mae
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.schema import to_json
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol
from training import loop
from training.config import AugmentationConfig, NetworkConfig, TrainingConfig
from training.continuing import continued, start_from_model
from training.data import TrainingCase, cut, load_cases, unpack_masks
from training.export import export_run, fill_card
from training.loop import Trainer
from training.recipes.openkbp_two_stage import recipe as openkbp_recipe
from training.sampling import Batch, training_batches
from training.schedule import learning_rate_factor, plateaus

PELVIS = StructureProtocol.load("pelvis")
HEAD_AND_NECK = StructureProtocol.load("openkbp")
TINY = TrainingConfig(
    protocol="pelvis",
    encoding=EncodingSettings(
        GridSettings("fixed-spacing", spacing_mm=(8.0, 8.0, 8.0)), dose_scale_gy=52.0
    ),
    crop=(16, 16, 32),
    batch_size=2,
    steps=12,
    learning_rate=5e-3,
    validate_every=6,
    network=NetworkConfig(2, 4),
)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[TrainingCase]:
    folder = tmp_path_factory.mktemp("cohort")
    for index, shape in enumerate([(60, 48, 40), (56, 50, 44), (64, 44, 36)]):
        write_case_folder(folder / f"p{index}", pelvis_case(shape, (6.0, 6.0, 7.0)))
    return load_cases(folder, PELVIS, TINY.encoding, workers=1)


def test_training_sees_exactly_what_prediction_sees() -> None:
    case = read_case(OPENKBP_SAMPLE)
    encoded = encode(bind(case, HEAD_AND_NECK), openkbp_recipe.encoding)
    stored = TrainingCase.read(OPENKBP_SAMPLE, HEAD_AND_NECK, openkbp_recipe.encoding)
    assert np.array_equal(stored.ct, encoded.input[0])
    masks = unpack_masks(stored.mask_bits, encoded.input.shape[0] - 1)
    assert np.array_equal(masks, encoded.input[1:])
    assert case.plan_dose is not None
    assert stored.dose_gy.sum() == pytest.approx(case.plan_dose.array.sum(), rel=1e-5)


def test_a_mirrored_patient_swaps_paired_organs_and_oblique_strips() -> None:
    names = ["CT", *PELVIS.names, "0", "45", "90", "135"]
    order = [names[i] for i in mirrored_channels(PELVIS, TINY.encoding)]
    assert order[7:9] == ["FemurHead_R", "FemurHead_L"]
    assert order[10:] == ["0", "135", "90", "45"]
    assert order[:7] == names[:7]
    both = mirrored_channels(HEAD_AND_NECK, TINY.encoding)
    swapped = [HEAD_AND_NECK.inputs[i - 1].name for i in both[6:8]]
    assert swapped == ["LeftParotid", "RightParotid"]


def test_flipping_a_crop_equals_encoding_the_mirrored_patient() -> None:
    case = pelvis_case((48, 48, 32), (8.0, 8.0, 8.0))
    mirrored = mirrored_case(case)
    settings = EncodingSettings(GridSettings("as-is", size=(48, 48, 32), spacing_mm=(8, 8, 8)))
    plain = encode(bind(case, PELVIS), settings).input
    other = encode(bind(mirrored, PELVIS), settings).input
    order = mirrored_channels(PELVIS, settings)
    assert np.array_equal(plain[order][..., ::-1], other)


def test_batches_depend_on_the_step_alone(cases: list[TrainingCase]) -> None:
    from_start = training_batches(cases, TINY, PELVIS)
    for _ in range(3):
        next(from_start)
    fourth = next(from_start)
    resumed = next(training_batches(cases, TINY, PELVIS, first_step=3))
    assert fourth.names == resumed.names
    assert torch.equal(fourth.input, resumed.input)
    assert torch.equal(fourth.dose, resumed.dose)


def test_training_in_16_bits_is_handed_the_same_crops_in_half_the_bytes(
    cases: list[TrainingCase], tmp_path: Path
) -> None:
    plain = next(training_batches(cases, TINY, PELVIS))
    halved = next(training_batches(cases, replace(TINY, precision="bf16"), PELVIS))
    assert plain.input.dtype == torch.float32 and halved.input.dtype == torch.float16
    torch.testing.assert_close(halved.input.float(), plain.input, rtol=1e-3, atol=1e-4)
    assert torch.equal(halved.dose, plain.dose)
    losses = [
        Trainer(TINY, PELVIS, tmp_path / name).train_step(batch)
        for name, batch in (("plain", plain), ("halved", halved))
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


def test_every_case_is_seen_once_an_epoch(cases: list[TrainingCase]) -> None:
    batches = training_batches(cases, replace(TINY, batch_size=3), PELVIS)
    for _ in range(3):
        assert sorted(next(batches).names) == ["p0", "p1", "p2"]


def test_a_crop_that_reaches_beyond_is_padded_with_zeros() -> None:
    array = np.arange(1, 28).reshape(3, 3, 3)
    block = cut(array, (-1, 1, 2), (3, 3, 3))
    assert not block[0].any() and not block[:, :, 1:].any() and not block[:, 2].any()
    assert np.array_equal(block[1:, :2, 0], array[:2, 1:, 2])


def test_masked_mae_worked_by_hand_and_patient_by_patient() -> None:
    prediction = torch.zeros(2, 1, 1, 1, 4)
    target = torch.tensor([[1.0, 2, 3, 100], [10, 0, 0, 0]]).view(2, 1, 1, 1, 4)
    mask = torch.tensor([[1.0, 1, 1, 0], [1, 0, 0, 0]]).view(2, 1, 1, 1, 4)
    assert masked_mae(prediction, target, mask).item() == pytest.approx((2 + 10) / 2)
    assert masked_mae(prediction, target, mask * 0).item() == 0
    assert masked_mae(prediction.half(), target.half(), mask.half()).dtype == torch.float32
    prediction.requires_grad_()
    masked_mae(prediction, target, mask).backward()
    assert prediction.grad is not None
    assert torch.equal(prediction.grad != 0, mask.bool())


def test_the_rate_warms_up_and_falls_to_nearly_nothing() -> None:
    config = replace(TINY, steps=100, warm_up=0.1)
    assert learning_rate_factor(0, config) == pytest.approx(0.1)
    assert learning_rate_factor(10, config) == pytest.approx(1.0)
    factors = [learning_rate_factor(step, config) for step in range(10, 100)]
    assert factors == sorted(factors, reverse=True)
    assert learning_rate_factor(100, config) == pytest.approx(1e-3)


def test_a_run_from_before_an_option_was_known_goes_on(tmp_path: Path) -> None:
    stored = to_json(TINY)
    del stored["schedule"], stored["augmentation"]["elastic_mm"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    (tmp_path / "last.pt").write_bytes(b"")
    Trainer(TINY, PELVIS, tmp_path)
    with pytest.raises(DosePredictionError, match="other values of schedule"):
        Trainer(replace(TINY, schedule="plateau"), PELVIS, tmp_path)


def test_the_rate_falls_where_validations_get_no_better() -> None:
    config = replace(TINY, steps=100, warm_up=0.1, schedule="plateau", plateau_patience=2)
    assert learning_rate_factor(5, config, stale=9) == pytest.approx(0.55)  # it warms up first
    stale, factors = 0, []
    for better in (True, False, True, False, False, True, True, False, False, False, False):
        stale = plateaus(stale, better, config)
        factors.append(learning_rate_factor(50, config, stale))
    assert factors == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125]


def test_training_learns_and_resumes_bit_for_bit(cases: list[TrainingCase], tmp_path: Path) -> None:
    whole = Trainer(TINY, PELVIS, tmp_path / "whole")
    whole.train(cases[:2], cases[2:])
    records = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").open()]
    assert records[-1]["validation_mae_gy"] < records[0]["validation_mae_gy"]
    # Interrupted after the checkpoint of step 6, the rest lost.
    broken = Trainer(TINY, PELVIS, tmp_path / "broken")
    batches = training_batches(cases[:2], TINY, PELVIS)
    for _ in range(6):
        broken.train_step(next(batches))
    broken.validate(cases[2:])
    again = Trainer(TINY, PELVIS, tmp_path / "broken")
    again.resume(tmp_path / "broken" / "last.pt")
    assert again.step == 6
    again.train(cases[:2], cases[2:])
    for name, value in whole.average.state_dict().items():
        assert torch.equal(value, again.average.state_dict()[name]), name


def test_an_interruption_between_rare_validations_costs_little(
    cases: list[TrainingCase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_SAVED_EVERY_S", 0.0)
    config = replace(TINY, validate_every=100, steps=10)
    trainer, step = Trainer(config, PELVIS, tmp_path), Trainer.train_step

    def interrupted(self: Trainer, batch: Batch) -> float:
        if self.step == 3:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(Trainer, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.train(cases[:2], cases[2:])
    again = Trainer(config, PELVIS, tmp_path)
    again.resume(tmp_path / "last.pt")
    assert again.step == 3


def test_frozen_parts_stay_and_the_others_learn(cases: list[TrainingCase], tmp_path: Path) -> None:
    config = replace(TINY, frozen=("stage1", "stage2.bridge"))
    trainer = Trainer(config, PELVIS, tmp_path / "run")
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    for batch in itertools.islice(training_batches(cases, TINY, PELVIS), 2):
        trainer.train_step(batch)
    for state in (trainer.network.state_dict(), trainer.average.state_dict()):
        changed = {name for name, value in state.items() if not torch.equal(value, before[name])}
        assert changed and not any(name.startswith(config.frozen) for name in changed)
    with pytest.raises(DosePredictionError, match="no part 'stage3' to freeze; it has stage1"):
        Trainer(replace(config, frozen=("stage3",)), PELVIS, tmp_path / "other")


def test_checkpointing_activations_changes_no_weight(
    cases: list[TrainingCase], tmp_path: Path
) -> None:
    states = []
    for checkpointed in (False, True):
        trainer = Trainer(TINY, PELVIS, tmp_path / str(checkpointed), "cpu", 0, checkpointed)
        for batch in itertools.islice(training_batches(cases, TINY, PELVIS), 2):
            kept = 0

            def count(tensor: torch.Tensor) -> torch.Tensor:
                nonlocal kept
                kept += tensor.numel()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
                trainer.train_step(batch)
        states.append((kept, trainer.network.state_dict()))
    (plainly, expected), (checkpointed_kept, found) = states
    assert checkpointed_kept < 0.7 * plainly
    for name, value in expected.items():
        torch.testing.assert_close(value, found[name], rtol=1e-6, atol=1e-7)


def test_a_time_limit_stops_with_a_checkpoint(cases: list[TrainingCase], tmp_path: Path) -> None:
    trainer = Trainer(TINY, PELVIS, tmp_path)
    trainer.train(cases[:2], cases[2:], time_limit_s=0)
    assert trainer.step == 0 and (tmp_path / "last.pt").is_file()


def test_a_loss_that_is_not_finite_names_the_cases(
    cases: list[TrainingCase], tmp_path: Path
) -> None:
    trainer = Trainer(TINY, PELVIS, tmp_path)
    dose_gy = np.full_like(cases[0].dose_gy, math.nan)
    spoilt = replace(cases[0], dose_gy=dose_gy, name="spoilt")
    with pytest.raises(FloatingPointError, match="spoilt"):
        trainer.train([spoilt], cases[2:])


def test_a_run_becomes_a_model_that_predicts(cases: list[TrainingCase], tmp_path: Path) -> None:
    trainer = Trainer(TINY, PELVIS, tmp_path / "run")
    trainer.train(cases[:2], cases[2:])
    described = {
        "training": {"data": "ellipsoids", "cases": 2},
        "licence": "MIT",
        "prescription_gy": {"PTV": 45.0},
        "fractions": 25,
    }
    (tmp_path / "run" / "data.json").write_text(json.dumps(described))
    model = export_run(tmp_path / "run", "tiny", "A tiny model", tmp_path / "models")
    _goes_on_from(model, tmp_path)
    assert model.manifest.training["samples_seen"] == 24
    case = pelvis_case((60, 48, 40), (6.0, 6.0, 7.0))
    dose = Predictor(model, "cpu", "fp32").predict(case).dose.array
    assert dose.max() > 1
    filled = fill_card(model, {"dose_score_gy": {"mean": 3.0}}, [], "three ellipsoids")
    assert DoseModel.load(model.folder).manifest == filled.manifest
    model.verify()


def _goes_on_from(model: DoseModel, folder: Path) -> None:
    """The exported weights are where a continued run begins; another recipe is refused."""
    trainer = Trainer(TINY, PELVIS, folder / "continued")
    start_from_model(trainer, model.folder)
    for weights in (trainer.network, trainer.average):
        for name, value in model.network().state_dict().items():
            assert torch.equal(value, weights.state_dict()[name]), name
    assert trainer.step == 0 and not trainer.optimizer.state
    gently = continued(TINY, model.manifest)
    assert gently.learning_rate < TINY.learning_rate
    assert gently.seed != TINY.seed  # the crops that it has seen would come again
    assert gently == continued(TINY, model.manifest)  # by the same call a run goes on
    scale = replace(TINY.encoding, dose_scale_gy=60.0)
    for index, (other, message) in enumerate(
        [
            (replace(TINY, encoding=scale), "encoding.dose_scale_gy is 52.0, the recipe's 60.0"),
            (replace(TINY, network=NetworkConfig(2, 8)), "stage2_filters is 4, the recipe's 8"),
            (replace(TINY, network=NetworkConfig(2, 4, "cascade")), "recipe trains a cascade"),
        ]
    ):
        trainer = Trainer(other, PELVIS, folder / f"other{index}")
        with pytest.raises(DosePredictionError, match=message) as refused:
            start_from_model(trainer, model.folder)
        assert "\n" not in str(refused.value)
    trainer = Trainer(replace(TINY, protocol="openkbp"), HEAD_AND_NECK, folder / "head")
    with pytest.raises(DosePredictionError, match="protocol is pelvis, the recipe's openkbp"):
        start_from_model(trainer, model.folder)


def test_training_needs_nothing_but_torch_numpy_and_scipy() -> None:
    """The trainer's modules load on a machine that has no medical package."""
    blocked = ["nibabel", "SimpleITK", "pydicom", "matplotlib", "jinja2", "monai", "pandas"]
    code = (
        "import sys\n"
        f"for name in {blocked}: sys.modules[name] = None\n"
        "from training.data import TrainingCase\n"
        "import training.loop, training.export\n"
        "from training.recipes.openkbp_two_stage import recipe\n"
        "from DosePredictionLib.structures.protocol import StructureProtocol\n"
        "from pathlib import Path\n"
        f"case = TrainingCase.read(Path({str(OPENKBP_SAMPLE)!r}), "
        "StructureProtocol.load('openkbp'), recipe.encoding)\n"
        "assert case.region.any()\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_batch_keeps_every_channel_of_the_case(cases: list[TrainingCase]) -> None:
    config = replace(TINY, crop=cases[0].ct.shape, batch_size=1)
    kept, mirrored = (
        next(
            training_batches(
                cases[:1], replace(config, augmentation=AugmentationConfig(p, 0.0, 0.0)), PELVIS
            )
        ).input[0]
        for p in (0.0, 1.0)
    )
    expected = unpack_masks(cases[0].mask_bits, kept.shape[0] - 1)
    assert kept.shape[0] == 14
    assert sorted(kept[1:].sum((1, 2, 3)).tolist()) == sorted(expected.sum((1, 2, 3)).tolist())
    order = mirrored_channels(PELVIS, TINY.encoding)
    assert torch.equal(mirrored, kept[order].flip(-1))
