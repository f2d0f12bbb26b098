"""Guidance by the dose: its gradient, its limits, and the published one that has none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from guides import (
    BEAMS,
    ENCODING,
    PELVIS,
    batch_of,
    beam_model,
    config,
    dose_model,
    planned_case,
)
from organs import organs_case
from support import write_case_folder
from torch import Tensor

from DosePredictionLib.errors import DosePredictionError, ModelError
from DosePredictionLib.losses.dice_ce import dice_ce
from DosePredictionLib.losses.dose_guidance import (
    dose_weights,
    guided_share,
    near_surfaces,
    plan_effect,
    ramp,
    reading_effect,
)
from DosePredictionLib.networks import build_network
from DosePredictionLib.networks.multipass_unet3d import MultiPassUNet3D
from DosePredictionLib.tasks.guidance import DoseGuidance, Seen, Soft
from DosePredictionLib.tasks.segmentation import Segmentation
from training.data import TrainingCase
from training.loop import Trainer, network_arguments
from training.sampling import training_batches

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guidance")


@pytest.fixture(scope="module")
def model(root: Path) -> Path:
    return dose_model(root).folder


@pytest.fixture(scope="module")
def case(root: Path) -> TrainingCase:
    return planned_case(root / "case")


@pytest.fixture
def plain_algorithms() -> Iterator[None]:
    """Trainers choose deterministic ones for the whole process."""
    yield
    torch.use_deterministic_algorithms(False)


# --- The terms ------------------------------------------------------------------------------------


def small_scene() -> tuple[Tensor, Tensor, Tensor]:
    """Two organs of two voxels, and a dose: `(chances, truth, dose)`."""
    truth = torch.zeros(1, 2, 1, 1, 6)
    truth[0, 0, ..., :2], truth[0, 1, ..., 4:] = 1, 1
    dose = torch.tensor([10.0, 20, 30, 40, 50, 60]).view(1, 1, 1, 1, 6)
    return truth.clone(), truth, dose


def test_reading_is_the_error_of_the_mean_dose_and_zero_for_the_truth() -> None:
    chances, truth, dose = small_scene()
    assert reading_effect(chances, dose, truth) == 0
    chances[0, 0, ..., 2] = 1  # reads 10, 20, 30: 20 in place of 15
    torch.testing.assert_close(reading_effect(chances, dose, truth), torch.tensor(2.5))
    chances[0, 1, ..., 3] = 0.5  # reads 52 in place of 55
    torch.testing.assert_close(reading_effect(chances, dose, truth), torch.tensor(4.0))


def test_an_organ_that_a_crop_does_not_hold_has_no_term() -> None:
    chances, truth, dose = small_scene()
    truth[0, 1] = 0
    chances[0, 0, ..., 2] = 1
    torch.testing.assert_close(reading_effect(chances, dose, truth), torch.tensor(5.0))
    assert reading_effect(chances, dose, torch.zeros_like(truth)) == 0


def test_the_plans_effect_counts_voxel_by_voxel_in_the_true_organs() -> None:
    _, truth, dose = small_scene()
    other = dose + torch.tensor([3.0, -3, 100, 100, 1, 1])
    torch.testing.assert_close(plan_effect(other, dose, truth), torch.tensor(2.0))


@pytest.mark.parametrize("spacing", [(4.0, 4.0, 4.0), (2.0, 3.0, 6.0)])
def test_near_is_within_the_distance_of_the_organs_own_surface(spacing: tuple) -> None:
    truth = torch.zeros(1, 2, 16, 20, 24)
    truth[0, 0, 5:11, 6:14, 7:15] = 1
    near = near_surfaces(truth, torch.tensor([spacing]), 6.5)
    assert not near[0, 1].any()
    grown = np.zeros((16, 20, 24), dtype=bool)
    centers = np.argwhere(truth[0, 0].numpy() > 0) * np.array(spacing[::-1])
    for index in np.ndindex(*grown.shape):
        apart = centers - np.array(index) * np.array(spacing[::-1])
        grown[index] = (np.linalg.norm(apart, axis=1) <= 6.5 + min(spacing) / 2 - 1e-6).any()
    outside = truth[0, 0].numpy() == 0
    assert np.array_equal(near[0, 0].numpy()[outside], grown[outside])
    assert near[0, 0, 5, 6, 7]


def test_weights_follow_the_lever_of_a_voxel_and_have_the_mean_one() -> None:
    _, truth, dose = small_scene()
    near = torch.ones_like(truth, dtype=torch.bool)
    near[:, 1, ..., :3] = False
    near[:, 0, ..., 3:] = False
    weights = dose_weights(dose, truth, near)
    torch.testing.assert_close(weights.mean(), torch.tensor(1.0))
    lever = torch.tensor([5.0, 5, 15, 15, 5, 5])  # from 15 Gy and from 55 Gy
    expected = 1 + lever / lever.mean()
    torch.testing.assert_close(weights.flatten(), expected / expected.mean())
    assert torch.equal(dose_weights(dose, truth, near & False), torch.ones(1, 1, 1, 6))


def test_weights_of_one_leave_the_loss_as_it_is_and_others_count_voxels() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(1, 3, 4, 4, 4, generator=generator)
    labels = torch.randint(0, 3, (1, 4, 4, 4), generator=generator)
    ones = torch.ones(1, 4, 4, 4)
    for balance in (0.0, 0.5):
        one = dice_ce(logits, labels, balance=balance)
        torch.testing.assert_close(dice_ce(logits, labels, balance=balance, weights=ones), one)
    twice = torch.cat([logits, logits[:, :, :2]], dim=2), torch.cat([labels, labels[:, :2]], dim=1)
    ones[:, :2] = 2
    torch.testing.assert_close(dice_ce(logits, labels, weights=ones), dice_ce(*twice))


def test_the_ratio_of_gradients_stays_between_its_bounds() -> None:
    one, other = [torch.tensor([3.0, 4.0])], [torch.tensor([0.6, 0.8]), torch.zeros(2)]
    factor, ratio = guided_share(one, other, 1.0)
    assert (factor, ratio) == pytest.approx((1.0, 0.2))
    assert guided_share(one, other, 100.0) == pytest.approx((1.5, 0.3))
    assert guided_share(one, other, 0.01) == pytest.approx((0.5, 0.1))
    assert guided_share(one, [torch.zeros(2)], 1.0) == (0.0, 0.0)
    assert guided_share(one, [torch.tensor([torch.inf])], 1.0) == (0.0, 0.0)


def test_guidance_begins_at_half_of_the_training() -> None:
    assert [ramp(at) for at in (0.0, 0.5, 0.625, 0.75, 1.0)] == [0, 0, 0.5, 1, 1]


# --- The frozen model -----------------------------------------------------------------------------


def seen(case: TrainingCase) -> Seen:
    batch = batch_of(case, config(None))
    return Seen(batch.input, batch.labels["structures"], batch.spacing_mm)


def organs_of(batch: Seen) -> Tensor:
    organs = [i for i, channel in enumerate(PELVIS.inputs) if channel.role == "organ"]
    return batch.structures[:, organs]


def guidance(model: Path, kind: str = "guided") -> DoseGuidance:
    made = DoseGuidance({"kind": kind, "dose_model": str(model)}, PELVIS, ENCODING)
    assert made.frozen is not None
    made.frozen.network.requires_grad_(False)
    return made


def test_the_frozen_model_sees_the_reference_but_for_the_organs(
    case: TrainingCase, model: Path
) -> None:
    frozen, batch = guidance(model).frozen, seen(case)
    assert frozen is not None
    reference = frozen.reference(batch)
    structures = reference[:, frozen.channels.structures]
    assert torch.equal(structures, batch.structures.float())
    assert torch.equal(reference[:, :1], batch.ct)
    truth = organs_of(batch).float()
    with torch.no_grad():
        on_truth, again = frozen.dose_gy(reference), frozen.dose_gy(reference, truth)
        other = frozen.dose_gy(reference, truth.roll(1, 1))
    assert torch.equal(on_truth, again) and not torch.equal(on_truth, other)
    body = batch.structures[:, -1:].float()
    assert not (on_truth * (1 - body)).any()


def test_the_gradient_of_both_effects_is_that_of_finite_differences(
    case: TrainingCase, model: Path
) -> None:
    made, batch = guidance(model), seen(case)
    assert made.frozen is not None
    made.frozen.network.double()
    batch = Seen(batch.ct.double(), batch.structures, batch.spacing_mm)
    truth = organs_of(batch).double()
    generator = torch.Generator().manual_seed(4)
    noise = torch.rand(truth.shape, generator=generator, dtype=torch.float64)
    chances = (0.8 * truth + 0.2 * noise).requires_grad_()
    dose = torch.rand(batch.ct.shape, generator=generator, dtype=torch.float64) * 45

    def cost(of: Tensor) -> tuple[Tensor, Tensor]:
        found = made.effects(Soft(of, truth, dose), batch)
        return found.plan, found.reading

    found = cost(chances)
    for number, value in enumerate(found):
        (slope,) = torch.autograd.grad(value, chances, retain_graph=True)
        way = torch.randn(truth.shape, generator=generator, dtype=torch.float64)
        step = 1e-6 * way
        with torch.no_grad():
            after, before = cost(chances + step)[number], cost(chances - step)[number]
        numeric = (after - before) / 2
        torch.testing.assert_close((slope * step).sum(), numeric, rtol=2e-3, atol=1e-12)
        assert slope.abs().max() > 0


def test_a_model_of_beams_guides_by_the_beams_of_the_plan(root: Path) -> None:
    encoding = replace(ENCODING, further=BEAMS)
    case = planned_case(root / "beams", encoding)
    made = DoseGuidance({"dose_model": str(beam_model(root).folder)}, PELVIS, encoding)
    frozen = made.frozen
    assert frozen is not None
    settings = config(None, encoding=encoding)
    labels = next(training_batches([case], settings, PELVIS)).labels
    network_sees = network_arguments(settings, PELVIS)
    assert network_sees == network_arguments(config(None), PELVIS)
    x = torch.from_numpy(case.input())[None]
    derived = x[:, case.channels.indices("derived")]
    assert labels["derived"].shape[1] == derived.shape[1] == 2
    batch = Seen(
        x[:, :1].double(),
        torch.from_numpy(case.labels)[None],
        torch.tensor([case.spacing_mm]),
        derived,
    )
    names = [channel.name for channel in frozen.channels.channels]
    reference = frozen.reference(batch)
    assert torch.equal(reference[:, names.index("open dose PTV")], derived[:, 0].double())
    assert derived[:, 0].max() > 0.1 and not derived[:, 1].any()  # fields are modulated
    assert not reference[:, names.index("wishes")].any()
    truth, frozen.network = organs_of(batch).double(), frozen.network.double().eval()
    generator = torch.Generator().manual_seed(3)
    noise = torch.rand(truth.shape, generator=generator, dtype=torch.float64)
    chances = (0.8 * truth + 0.2 * noise).requires_grad_()
    dose = torch.from_numpy(case.dose_gy)[None, None].double()

    def plan(of: Tensor) -> Tensor:
        return made.effects(Soft(of, truth, dose), batch).plan

    (slope,) = torch.autograd.grad(plan(chances), chances)
    step = 1e-6 * (torch.rand(truth.shape, generator=generator, dtype=torch.float64) - 0.5)
    with torch.no_grad():
        numeric = (plan(chances + step) - plan(chances - step)) / 2
    torch.testing.assert_close((slope * step).sum(), numeric, rtol=2e-3, atol=1e-12)
    assert slope.abs().max() > 0
    with pytest.raises(ModelError, match=r"it sees beams \(add --set 'encoding.further.beam="):
        DoseGuidance({"dose_model": str(root / "coarse")}, PELVIS, ENCODING)


def test_a_crop_without_a_target_gets_no_plan(case: TrainingCase, model: Path) -> None:
    made, batch = guidance(model), seen(case)
    structures = batch.structures.clone()
    structures[:, 0] = False
    soft = Soft(organs_of(batch).float() * 0.5, organs_of(batch).float(), batch.ct * 45)
    assert made.effects(soft, batch).plan > 0
    assert made.effects(soft, batch._replace(structures=structures)).plan == 0


@pytest.mark.parametrize("masks", ["binary", "touched"])
def test_models_of_binary_masks_are_refused(root: Path, masks: str) -> None:
    name = f"of-{masks}"
    made = dose_model(root, name, masks=masks)
    with pytest.raises(ModelError, match=f"{name} was trained on {masks} masks.*pelvis_occupancy"):
        DoseGuidance({"dose_model": str(made.folder)}, PELVIS, ENCODING)


def test_dose_models_that_see_something_else_are_refused(root: Path) -> None:
    made = dose_model(root, "other-window", ct_window_hu=(-500.0, 500.0))
    with pytest.raises(ModelError, match="its CT window is"):
        DoseGuidance({"dose_model": str(made.folder)}, PELVIS, ENCODING)
    grid = replace(ENCODING.grid, spacing_mm=(4.0, 4.0, 4.0))
    with pytest.raises(ModelError, match="its voxels are"):
        DoseGuidance({"dose_model": str(made.folder)}, PELVIS, replace(ENCODING, grid=grid))


def test_guidance_without_a_model_or_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(DosePredictionError, match="needs a dose model: set"):
        DoseGuidance({"kind": "guided"}, PELVIS, ENCODING)
    with pytest.raises(DosePredictionError, match="kind"):
        DoseGuidance({"kind": "other"}, PELVIS, ENCODING)
    assert DoseGuidance({"kind": "weighted"}, PELVIS, ENCODING).frozen is None


# --- In training ----------------------------------------------------------------------------------


def gradient(
    case: TrainingCase, kind: str | None, model: Path, progress: float = 1.0
) -> tuple[Tensor, dict[str, float], float]:
    """The gradient of all weights after one step's loss, its parts and its value."""
    settings = config(kind, model)
    task = Segmentation(PELVIS, ENCODING)
    task.begin_training(settings.loss, settings.task_options)
    task.to(torch.device("cpu"))
    torch.manual_seed(0)
    network = build_network("multipass_unet3d", network_arguments(settings, PELVIS)).eval()
    assert isinstance(network, MultiPassUNet3D)
    loss = task.training_step(network, batch_of(case, settings), progress)
    loss.total.backward()
    flat = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
    return flat, {name: float(part) for name, part in loss.parts.items()}, loss.total.item()


def test_the_guided_gradient_is_the_plain_one_and_a_share_of_the_doses(
    case: TrainingCase, model: Path
) -> None:
    plain, _, value = gradient(case, None, model)
    guided, parts, total = gradient(case, "guided", model)
    ratio = float((guided - plain).norm() / plain.norm())
    assert 0.1 - 1e-4 <= ratio <= 0.3 + 1e-4
    assert ratio == pytest.approx(parts["dose_gradient_ratio"], rel=1e-3)
    assert total > value and parts["plan_effect_gy"] > 0 and parts["reading_effect_gy"] > 0
    half, parts, _ = gradient(case, "guided", model, progress=0.625)
    torch.testing.assert_close(half, (plain + guided) / 2, rtol=1e-3, atol=1e-6)
    assert torch.equal(gradient(case, "guided", model, progress=0.5)[0], plain)


def test_the_published_construction_has_no_gradient_at_all(case: TrainingCase, model: Path) -> None:
    plain, _, value = gradient(case, None, model)
    published, parts, total = gradient(case, "published", model)
    assert torch.equal(published, plain)
    assert total > value and parts["plan_effect_gy"] > 0


def test_far_from_the_true_surfaces_the_dose_says_nothing(case: TrainingCase, model: Path) -> None:
    made, batch = guidance(model), seen(case)
    truth = organs_of(batch).float()
    logits = torch.randn(1, 8, *truth.shape[2:], generator=torch.Generator().manual_seed(1))
    logits.requires_grad_()
    soft = Soft(logits.softmax(1)[:, 1:], truth, batch.ct * 45)
    term, _ = made.guiding(soft, batch)
    (slope,) = torch.autograd.grad(term, logits)
    near = near_surfaces(truth, batch.spacing_mm).any(1)
    assert slope.abs().amax(1)[near].max() > 0
    assert not slope.abs().amax(1)[~near].any() and (~near).any()


@pytest.mark.usefixtures("plain_algorithms")
def test_five_deterministic_steps_with_the_published_term_are_those_without(
    case: TrainingCase, model: Path, tmp_path: Path
) -> None:
    ends = {}
    for kind in (None, "published"):
        settings = config(kind, model)
        trainer = Trainer(settings, PELVIS, tmp_path / str(kind))
        trainer.step = 5  # from where the ramp begins
        for batch in training_batches([case], settings, PELVIS, first_step=5):
            trainer.train_step(batch)
        assert trainer.step == 10
        ends[kind] = torch.cat([p.detach().flatten() for p in trainer.network.parameters()])
    assert torch.equal(ends[None], ends["published"])


@pytest.mark.usefixtures("plain_algorithms")
def test_cases_without_plans_are_named_where_the_dose_is_to_guide(
    case: TrainingCase, model: Path, tmp_path: Path
) -> None:
    write_case_folder(tmp_path / "bare", organs_case())
    bare = TrainingCase.read(tmp_path / "bare", PELVIS, ENCODING)
    trainer = Trainer(config("weighted"), PELVIS, tmp_path / "run")
    with pytest.raises(DosePredictionError, match=r"bare has no plan dose or no target"):
        trainer.train([case, bare], [])


def test_weighted_training_needs_no_model_and_changes_the_gradient(
    case: TrainingCase, tmp_path: Path
) -> None:
    plain = gradient(case, None, tmp_path)[0]
    weighted = gradient(case, "weighted", tmp_path)[0]
    assert torch.equal(gradient(case, "weighted", tmp_path, progress=0.4)[0], plain)
    cosine = torch.nn.functional.cosine_similarity(weighted, plain, dim=0)
    assert 0.2 < cosine < 0.9999
