"""Organs on a CT: network, loss and task, and that left stays left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import centered_grid, pelvis_case

from DosePredictionLib.case import Case
from DosePredictionLib.encoding.encoder import EncodingSettings, encode, network_channels
from DosePredictionLib.errors import DosePredictionError, ModelError, PredictionError
from DosePredictionLib.losses import LossTerm
from DosePredictionLib.losses.dice_ce import dice_ce
from DosePredictionLib.models.expectations import ModelExpectations
from DosePredictionLib.networks import build_network, parameter_count
from DosePredictionLib.networks.multipass_unet3d import MultiPassUNet3D
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.tasks.found_organs import connected, judged
from DosePredictionLib.tasks.segmentation import Segmentation, class_map
from DosePredictionLib.tasks.task import Combined, Decoding, LabelledBatch, Passes
from training.recipes.pelvis_organs import recipe
from training.recipes.pelvis_organs_one_pass import recipe as one_pass

pytestmark = pytest.mark.usefixtures("one_thread")

PELVIS = StructureProtocol.load("pelvis")
COARSE = replace(recipe.encoding, grid=replace(recipe.encoding.grid, spacing_mm=(8.0, 8.0, 8.0)))
LEFT, RIGHT = (
    1 + [c.name for c in PELVIS.inputs if c.role == "organ"].index(f"FemurHead_{side}")
    for side in "LR"
)


def task(encoding: EncodingSettings = COARSE) -> Segmentation:
    return Segmentation(PELVIS, encoding)


def network(filters: int = 2, **options: object) -> MultiPassUNet3D:
    torch.manual_seed(0)
    arguments = network_channels(PELVIS, COARSE) | {"filters": filters, **options}
    made = build_network("multipass_unet3d", arguments)
    assert isinstance(made, MultiPassUNet3D)
    return made.eval()


# --- The network ----------------------------------------------------------------------------------


def test_a_later_pass_sees_what_the_first_believed_and_hands_its_gradient_back() -> None:
    net = network(passes=3)
    first, second, third = net(torch.rand(2, 1, 32, 32, 48))
    assert first.shape == (2, 8, 32, 32, 48) and first.dtype == torch.float32
    assert not torch.allclose(first, second) and not torch.allclose(second, third)
    (gradient,) = torch.autograd.grad(third.square().sum(), first)
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0


def test_one_pass_is_the_first_of_two_and_passes_may_have_weights_of_their_own() -> None:
    two, one, apart = network(passes=2), network(passes=1), network(passes=2, shared=False)
    assert parameter_count(two) == parameter_count(one) == parameter_count(apart) // 2
    x = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(two(x)[0], one(x)[0])
        assert len(apart(x)) == 2


def test_the_recipes_weights_stay_below_ten_megabytes_in_half_precision() -> None:
    for each, passes in ((recipe, 2), (one_pass, 1)):
        arguments = network_channels(PELVIS, each.encoding) | each.network.arguments
        net = build_network("multipass_unet3d", arguments)
        assert 2 * parameter_count(net) < 10e6 and net.passes == passes  # type: ignore[attr-defined]
        assert net.input_channels == 1


def test_a_window_of_soft_tissue_that_does_not_rise_is_refused() -> None:
    with pytest.raises(ModelError, match="soft_tissue"):
        network(soft_tissue=(0.6, 0.4))


# --- The loss -------------------------------------------------------------------------------------


def random_logits(classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, classes, 5, 6, 7, generator=generator, dtype=torch.float32)
    return logits, torch.randint(0, classes, (2, 5, 6, 7), generator=generator)


def test_dice_and_cross_entropy_are_monais() -> None:
    losses = pytest.importorskip("monai.losses")
    logits, labels = random_logits()
    shares = torch.bincount(labels.flatten()) / labels.numel()
    for balance in (0.0, 0.5):
        theirs = losses.DiceCELoss(
            softmax=True,
            to_onehot_y=True,
            include_background=False,
            batch=True,
            weight=shares**-balance,
        )
        # Its Dice takes the weights, too: it is compared alone.
        dice = losses.DiceLoss(softmax=True, to_onehot_y=True, include_background=False, batch=True)
        both = theirs.ce(logits, labels[:, None]) + dice(logits, labels[:, None])
        ours = dice_ce(logits, labels, balance=balance)
        torch.testing.assert_close(ours, both, rtol=1e-5, atol=1e-6)


def test_of_an_organ_that_was_not_contoured_nothing_is_learned() -> None:
    logits, labels = random_logits()
    labels[0][labels[0] == 2] = 0  # the first patient has no contour of organ 2
    known = torch.ones(2, 4, dtype=torch.bool)
    known[0, 2] = False
    raised = logits.clone()
    raised[0, 2] += torch.logsumexp(logits[0, [0, 2]], 0) - logits[0, 2]
    raised[0, 0] = -30.0  # all that was background or organ 2 is organ 2 now
    torch.testing.assert_close(
        dice_ce(raised, labels, known), dice_ce(logits, labels, known), rtol=1e-4, atol=1e-4
    )
    assert dice_ce(raised, labels) > dice_ce(logits, labels) + 1


def test_the_loss_falls_along_its_gradient_and_is_least_for_the_truth() -> None:
    logits, labels = random_logits()
    logits.requires_grad_()
    loss = dice_ce(logits, labels)
    loss.backward()
    assert dice_ce(logits.detach() - 50 * logits.grad, labels) < loss
    perfect = 40 * torch.nn.functional.one_hot(labels, 4).movedim(-1, 1).float()
    assert dice_ce(perfect, labels) < 1e-4


def test_a_crop_without_any_organ_still_has_a_loss() -> None:
    logits, labels = random_logits()
    assert torch.isfinite(dice_ce(logits, torch.zeros_like(labels)))


# --- Left and right -------------------------------------------------------------------------------


def test_the_mirrored_patient_has_left_and_right_exchanged() -> None:
    order = task().mirrored_classes
    assert order[LEFT] == RIGHT and order[RIGHT] == LEFT
    others = [index for index in range(8) if index not in (LEFT, RIGHT)]
    assert [order[index] for index in others] == others


def test_averaging_with_the_mirrored_patient_commutes_with_mirroring() -> None:
    net, each = network(passes=2), task()
    x = torch.rand(1, 10, 32, 32, 48)
    passes = Passes(mirrored=list(range(10)))
    with torch.no_grad():
        found = each.predict(net, x, passes)["organs"]
        turned = each.predict(net, x.flip(-1), passes)["organs"]
        plain = each.predict(net, x, Passes())["organs"]
    torch.testing.assert_close(turned, found[each.mirrored_classes].flip(-1))
    assert not torch.allclose(found, plain)


def test_the_network_sees_no_contour() -> None:
    net, each = network(), task()
    x = torch.rand(1, 10, 32, 32, 32)
    other = x.clone()
    other[:, 1:] = 0
    with torch.no_grad():
        found = [each.predict(net, given, Passes())["organs"] for given in (x, other)]
    assert torch.equal(*found)


# --- From probabilities to segments ---------------------------------------------------------------


def decoded(case: Case, chances: np.ndarray) -> dict[str, np.ndarray]:
    bound = bind(case, PELVIS)
    encoded = encode(bound, COARSE)
    made = task().decode(
        {"organs": Combined(chances.astype(np.float32))},
        Decoding(bound, encoded, ModelExpectations()),
    )
    assert all(output.role == "segment" for output in made.outputs)
    found = {output.structure: output.volume.array for output in made.outputs}
    missing = {each.structure for each in made.findings if each.id == "organ-not-found"}
    assert missing == {c.name for c in PELVIS.organs} - set(found)  # type: ignore[operator]
    return found  # type: ignore[return-value]


def truth(case: Case) -> np.ndarray:
    """The case's organs on the model's grid as certain probabilities `(class, z, y, x)`."""
    encoded = encode(bind(case, PELVIS), COARSE)
    masks = torch.from_numpy(encoded.input[1:10])[None]
    labels = class_map(masks, task()._inputs)[0].numpy()
    return np.stack([labels == index for index in range(8)]).astype(np.float32)


@pytest.mark.parametrize("turned", [False, True])
def test_organs_come_back_onto_the_cts_own_grid_and_side(turned: bool) -> None:
    direction = ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0)) if turned else None
    case = pelvis_case((64, 48, 40), (5.0, 5.0, 6.0), direction)
    found = decoded(case, truth(case))
    for name, mask in found.items():
        own = case.structures[name].array
        assert 2 * (mask & own).sum() / (mask.sum() + own.sum()) > 0.75, name
    for name, sign in (("FemurHead_L", 1), ("FemurHead_R", -1)):
        middle = np.argwhere(found[name])[:, ::-1].mean(0)
        assert sign * case.grid.world_from_index(middle)[0] > 60  # x points to the left


def test_specks_apart_from_an_organ_go_and_bowel_keeps_its_pieces() -> None:
    case = pelvis_case((64, 48, 40), (5.0, 5.0, 6.0))
    chances = truth(case)
    organs = {organ.name: index for index, organ in enumerate(task().organs, start=1)}
    for name in ("Bladder", "Small_Intestine"):
        chances[:, 2:4, 2:5, 2:5] = 0
        chances[organs[name], 2:4, 2:5, 2:5] = 1
        kept = connected(chances, task().organs)[organs[name], 2:4, 2:5, 2:5]
        assert kept.any() == (name == "Small_Intestine")


def test_what_is_not_on_the_ct_is_a_finding_and_no_segment() -> None:
    case = pelvis_case((64, 48, 40), (5.0, 5.0, 6.0))
    chances = truth(case)
    chances[0] += chances[LEFT]
    chances[LEFT] = 0
    found = decoded(case, chances)
    assert "FemurHead_L" not in found and "FemurHead_R" in found


def test_a_body_that_is_all_organ_shows_no_pelvis() -> None:
    """As an MR image whose values are shifted below 0 does: most of it is taken for bone."""
    case = pelvis_case((64, 48, 40), (5.0, 5.0, 6.0))
    chances = truth(case)
    marrow = 1 + [organ.name for organ in task().organs].index("Marrow")
    chances[marrow] += chances[0]
    chances[0] = 0
    with pytest.raises(PredictionError, match=r"shows no pelvis.*Marrow \d+ cc.*% of the body"):
        decoded(case, chances)


BLADDER = PELVIS.organs[0]
UPRIGHT = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
TURNED = ((-1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0))  # to the right, down, back


@pytest.mark.parametrize(
    ("direction", "end", "said"),
    [
        (UPRIGHT, (0, -1), "superior"),
        (UPRIGHT, (0, 0), "inferior"),
        (UPRIGHT, (2, -1), "left"),
        (UPRIGHT, (1, 0), "anterior"),
        (TURNED, (2, -1), "right"),
        (TURNED, (1, -1), "inferior"),
        (TURNED, (0, -1), "posterior"),
    ],
)
def test_an_organ_at_the_cts_end_is_cut(direction: tuple, end: tuple[int, int], said: str) -> None:
    grid = centered_grid((12, 12, 12), (5.0, 5.0, 5.0), direction)
    mask = np.zeros(grid.shape, bool)
    mask[3:9, 3:9, 3:9] = True
    assert judged(BLADDER, mask, grid) == []
    np.moveaxis(mask, end[0], 0)[end[1], 4:8, 4:8] = True
    (finding,) = judged(BLADDER, mask, grid)
    assert (finding.id, finding.structure) == ("organ-cut", "Bladder")
    assert f"the CT's {said} end" in finding.message
    for organ in PELVIS.organs:
        expected = organ.name not in ("Small_Intestine", "Marrow", "SpinalCord")
        assert bool(judged(organ, mask, grid)) == expected


@pytest.mark.parametrize(("edge", "is_fragment"), [(5, True), (6, False)])
def test_a_fragment_of_an_organ_is_said_to_be_one(edge: int, is_fragment: bool) -> None:
    """Cubes of 15.6 and 27 cc."""
    grid = centered_grid((12, 12, 12), (5.0, 5.0, 5.0))
    mask = np.zeros(grid.shape, bool)
    mask[3 : 3 + edge, 3 : 3 + edge, 3 : 3 + edge] = True
    assert [each.id for each in judged(BLADDER, mask, grid)] == ["organ-fragment"] * is_fragment


# --- Training -------------------------------------------------------------------------------------


def batch_of(case: Case) -> LabelledBatch:
    encoded = encode(bind(case, PELVIS), COARSE)
    x = torch.from_numpy(encoded.input)[None]
    contoured = torch.tensor([c.name in case.structures for c in PELVIS.inputs])
    labels = {"structures": x[:, 1:10] > 0.5, "contoured": contoured.reshape(1, -1, 1, 1, 1)}
    return LabelledBatch(x[:, :1], labels, torch.full((1, 3), 8.0))


def test_a_step_weighs_the_passes_and_says_its_dice() -> None:
    each = task()
    each.begin_training(recipe.loss, {})
    batch = batch_of(pelvis_case((64, 48, 40), (5.0, 5.0, 6.0)))
    loss = each.training_step(network(passes=2), batch, 0.0)
    first, last = loss.parts["pass_1_dice_ce"], loss.parts["dice_ce"]
    assert loss.total.item() == pytest.approx(last.item() + 0.5 * first.item(), rel=1e-5)
    assert next(iter(loss.parts)) == "dice_ce"
    assert each.shown(loss.parts) == f"{last.item():.3f}, Dice {loss.parts['dice'].item():.3f}"


def test_some_steps_on_a_batch_lower_its_loss() -> None:
    each, net = task(), network(filters=4, passes=2).train()
    each.begin_training(recipe.loss, {})
    batch = batch_of(pelvis_case((64, 48, 40), (5.0, 5.0, 6.0)))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    seen = []
    for _ in range(6):
        loss = each.training_step(net, batch, 0.0)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        seen.append(loss.parts["dice_ce"].item())
    assert seen[-1] < seen[0] - 0.1


@pytest.mark.parametrize("term", [LossTerm("mae", 1.0), LossTerm("dice_ce", 1.0, start=0.5)])
def test_a_loss_of_another_kind_is_refused(term: LossTerm) -> None:
    with pytest.raises(DosePredictionError, match="dice_ce"):
        task().begin_training([term], {})


def test_channels_made_from_contours_are_refused_where_contours_are_learned() -> None:
    with pytest.raises(DosePredictionError, match=r"strips\.angles"):
        EncodingSettings(recipe.encoding.grid, structures="learned")


def test_the_grid_is_that_of_the_body_whatever_is_contoured() -> None:
    case = pelvis_case((64, 48, 40), (5.0, 5.0, 6.0))
    without = replace(case, structures={"Body": case.structures["Body"]})
    one, other = (encode(bind(each, PELVIS), COARSE) for each in (case, without))
    assert one.grid == other.grid and np.array_equal(one.input[0], other.input[0])
    assert not other.input[1:-1].any()


def test_an_overlap_belongs_to_the_later_organ() -> None:
    masks = torch.ones(1, 3, 2, 2, 2, dtype=torch.bool)
    masks[:, 2, 1] = False
    assert class_map(masks, [0, 2])[0, 0].eq(2).all() and class_map(masks, [0, 2])[0, 1].eq(1).all()
