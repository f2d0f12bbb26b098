"""The dilated 2D network of the OpenKBP slices: published weights, inputs, volumes of slices."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from support import OPENKBP_SAMPLE, ROOT, pelvis_case, random_network

from benchmarks.slices import slice_errors
from DosePredictionLib.encoding.channels.registry import model_channels
from DosePredictionLib.encoding.encoder import decode, encode
from DosePredictionLib.errors import CaseError, ModelError, PredictionCancelled
from DosePredictionLib.inference.predictor import Predictor
from DosePredictionLib.io import read_case
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.models.published import OPENKBP_SLICE_ORDER
from DosePredictionLib.networks import build_network, parameter_count
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Grid, Volume
from training.data import TrainingCase
from training.overrides import overridden
from training.recipes.openkbp_dcnn import recipe
from training.sampling import Samples

OPENKBP = StructureProtocol.load("openkbp")
STORED = ROOT / "Testing" / "data" / "dilated_unet2d.safetensors"
"""Random weights, input (in steps of 1/255) and output of the published code, run once."""

Weights = dict[str, torch.Tensor]
Run = Callable[..., tuple[int, Any, str]]


def stored() -> tuple[Weights, torch.Tensor, torch.Tensor]:
    content = load_file(STORED)
    weights = {
        name.removeprefix("network."): value
        for name, value in content.items()
        if name.startswith("network.")
    }
    return weights, content["input"].float() / 255, content["output"]


def ours_first(x: torch.Tensor) -> torch.Tensor:
    """Published channels in the order of this library."""
    names = ("CT", *OPENKBP.names[:10], "possible dose mask")
    return x[:, [OPENKBP_SLICE_ORDER.index(name) for name in names]]


def reference_dose(w: Weights, x: torch.Tensor) -> torch.Tensor:
    """The published network spelled out on its state dict, operation by operation."""

    def norm(name: str, t: torch.Tensor) -> torch.Tensor:
        statistics = (w[f"{name}.running_mean"], w[f"{name}.running_var"])
        return F.batch_norm(t, *statistics, w[f"{name}.weight"], w[f"{name}.bias"])

    def twice(name: str, t: torch.Tensor, first: int) -> torch.Tensor:
        for number in (first, first + 1):
            block = f"{name}.{number}.single_conv"
            t = F.relu(norm(f"{block}.1", F.conv2d(t, w[f"{block}.0.weight"], padding=1)))
        return t

    def dense(name: str, t: torch.Tensor, dilation: int) -> torch.Tensor:
        t, weight = F.relu(norm(f"{name}.0", t)), w[f"{name}.2.weight"]
        padding = dilation * (weight.shape[-1] // 2)
        return F.conv2d(t, weight, w[f"{name}.2.bias"], padding=padding, dilation=dilation)

    skips = [twice("encoder.encoder_1", x, 0)]
    for level in (2, 3, 4):
        skips.append(twice(f"encoder.encoder_{level}", F.max_pool2d(skips[-1], 2), 1))
    bottom = skips.pop()
    features = torch.cat([dense("encoder.DFA.conv1", bottom, 2), bottom], 1)
    for number, dilation in ((2, 3), (3, 5), (4, 7), (5, 9)):
        further = dense(f"encoder.DFA.conv{number}", features, dilation)
        features = torch.cat([features, further], 1)
    y = dense("encoder.DFA.conv_out", features, 1)
    for level in (3, 2, 1):
        up = w[f"decoder.upconv_{level}_1.weight"], w[f"decoder.upconv_{level}_1.bias"]
        y = torch.cat([F.conv_transpose2d(y, *up, stride=2), skips.pop()], 1)
        y = twice(f"decoder.decoder_conv_{level}_1", y, 0)
    return F.conv2d(y, w["decoder.conv_out.0.weight"], w["decoder.conv_out.0.bias"])


def dilated(channels: int = 12, widths: tuple = (2, 3, 4, 5), seed: int = 1) -> torch.nn.Module:
    torch.manual_seed(seed)
    arguments = {"structure_channels": 10, "strip_channels": 0, "derived_channels": channels - 11}
    return build_network("dilated_unet2d", {**arguments, "widths": list(widths)}).eval()


def checkpoint(path: Path, weights: Weights, key: str | None = "network_state_dict") -> Path:
    torch.save(weights if key is None else {key: weights}, path)
    return path


@pytest.fixture
def imported(tmp_path: Path) -> DoseModel:
    """The stored weights as `models import` takes them."""
    weights, _, _ = stored()
    file = checkpoint(tmp_path / "published.pkl", weights)
    return DoseModel.import_checkpoint(file, "slices", OPENKBP, tmp_path / "models")


def test_published_parameter_count_and_key_names() -> None:
    network = dilated(widths=(32, 64, 128, 256))
    assert parameter_count(network) == 11_182_465
    assert set(network.state_dict()) == set(stored()[0])
    assert {
        "encoder.encoder_1.0.single_conv.0.weight",
        "encoder.encoder_4.2.single_conv.1.running_var",
        "encoder.DFA.conv1.0.weight",
        "encoder.DFA.conv5.2.bias",
        "encoder.DFA.conv_out.2.weight",
        "decoder.upconv_3_1.bias",
        "decoder.decoder_conv_3_1.0.single_conv.0.weight",
        "decoder.conv_out.0.bias",
    } <= set(network.state_dict())
    assert "encoder.encoder_1.0.single_conv.0.bias" not in network.state_dict()


@pytest.mark.parametrize("key", ["network_state_dict", "model", None])
def test_a_published_checkpoint_gives_its_stored_output(tmp_path: Path, key: str | None) -> None:
    weights, x, expected = stored()
    assert expected.std() > 0.01
    torch.testing.assert_close(reference_dose(weights, x), expected, atol=1e-5, rtol=0)
    named = {f"module.{name}": value for name, value in weights.items()}
    file = checkpoint(tmp_path / "published.pkl", named, key)
    model = DoseModel.import_checkpoint(file, "slices", OPENKBP, tmp_path / "models")
    with torch.no_grad():
        dose = model.network()(ours_first(x)).final
    torch.testing.assert_close(dose, expected, atol=1e-5, rtol=0)
    names = [c.name for c in model_channels(OPENKBP, model.manifest.encoding).channels]
    assert names == ["CT", *OPENKBP.names[:10], "possible dose mask"]
    assert model.manifest.architecture.arguments["widths"] == [2, 3, 4, 5]


def test_every_width_gives_what_the_network_spelled_out_gives() -> None:
    network = dilated(13, (3, 2, 6, 4))
    x = torch.rand(2, 13, 80, 96)
    with torch.no_grad():
        dose = network(x).final
        expected = reference_dose(dict(network.state_dict()), x)
    torch.testing.assert_close(dose, expected, atol=1e-5, rtol=0)


FIRST = "encoder.encoder_1.0.single_conv.0.weight"


@pytest.mark.parametrize(
    ("change", "protocol", "rule"),
    [
        (lambda w: {**w, FIRST: w[FIRST][:, :11]}, "openkbp", "takes 11 channels.*takes 12: ten"),
        (lambda w: {**w, FIRST: torch.rand(2, 13, 3, 3)}, "openkbp", "takes 13 channels.*takes 12"),
        (lambda w: {**w, FIRST: torch.rand(2, 12, 3, 3, 3)}, "openkbp", "not that of a 2D"),
        (lambda w: {f"net_A.{name}": v for name, v in w.items()}, "openkbp", "not known"),
        (lambda w: {FIRST: w[FIRST]}, "openkbp", r"it lacks encoder\.encoder_2"),
        (lambda w: {n: v for n, v in w.items() if "conv5" not in n}, "openkbp", "does not fit"),
        (lambda w: {**w, "decoder.more": torch.ones(1)}, "openkbp", r"decoder\.more"),
        (lambda w: w, "pelvis", "--protocol openkbp"),
        (lambda w: random_network(10).state_dict(), "pelvis", "10 structures.*--protocol"),
    ],
)
def test_other_checkpoints_are_refused_in_one_line(
    run: Run, tmp_path: Path, change: Callable[[Weights], Weights], protocol: str, rule: str
) -> None:
    file = checkpoint(tmp_path / "c.pt", change(stored()[0]))
    code, result, _ = run("models", "import", file, "--name", "m", "--protocol", protocol)
    assert code == 2
    assert "\n" not in result["error"]["message"]
    assert re.search(rule, result["error"]["message"]), result["error"]["message"]


def test_the_mask_is_an_input_only_where_the_manifest_says_so(imported: DoseModel) -> None:
    case = read_case(OPENKBP_SAMPLE)
    encoded = encode(bind(case, OPENKBP), imported.manifest.encoding, 8)
    assert [f.id for f in encoded.findings] == ["possible-dose-mask-input"]
    assert case.dose_mask is not None
    mask = case.dose_mask.resampled_to(encoded.grid, "nearest").touched()
    np.testing.assert_array_equal(encoded.input[-1], mask)
    body = encode(bind(case, OPENKBP), recipe.encoding, 8)
    assert not body.findings
    np.testing.assert_array_equal(body.input[-1], body.body)
    assert body.input[-1].sum() > mask.sum()
    prediction = Predictor(imported, "cpu", "fp32").predict(case)
    assert "possible-dose-mask-input" in [f.id for f in prediction.findings]
    assert not prediction.dose.array[~case.dose_mask.touched()].any()


def test_a_case_without_the_declared_mask_is_refused(imported: DoseModel) -> None:
    case = replace(read_case(OPENKBP_SAMPLE), dose_mask=None)
    with pytest.raises(CaseError, match="no possible-dose mask, which this model takes") as caught:
        Predictor(imported, "cpu", "fp32").predict(case)
    assert "\n" not in str(caught.value)


def test_unknown_settings_of_the_region_are_refused() -> None:
    settings = replace(recipe.encoding, further={"region": {"of": "skin"}})
    with pytest.raises(ModelError, match=r"further\.region"):
        model_channels(OPENKBP, settings)


def test_a_patient_passes_slice_by_slice_with_progress(imported: DoseModel) -> None:
    case = read_case(OPENKBP_SAMPLE)
    seen: list[float] = []
    predictor = Predictor(imported, "cpu", "fp32")
    prediction = predictor.predict(case, progress=lambda share, _: seen.append(share))
    encoded = encode(bind(case, OPENKBP), imported.manifest.encoding, 8)
    assert all(edge % 8 == 0 for edge in encoded.input.shape[2:])
    slices = torch.from_numpy(encoded.input).transpose(0, 1)
    network = imported.network()
    with torch.no_grad():
        final = torch.cat([network(each[None]).final[0] for each in slices]).numpy()
    expected = decode(final * np.float32(70), encoded, case)
    assert case.dose_mask is not None
    assert not prediction.dose.array[~case.dose_mask.touched()].any()
    assert expected.array.max() > 1
    np.testing.assert_allclose(prediction.dose.array, expected.array, atol=1e-3)
    assert len(seen) > 100 and seen == sorted(seen) and seen[-1] == pytest.approx(1)


def test_cancel_ends_it_between_layers(imported: DoseModel) -> None:
    calls = []

    def cancelled() -> bool:
        calls.append(1)
        return len(calls) > 3

    with pytest.raises(PredictionCancelled):
        Predictor(imported, "cpu", "fp32").predict(read_case(OPENKBP_SAMPLE), cancelled=cancelled)
    assert len(calls) == 4


@pytest.fixture
def pelvis_slices(tmp_path: Path) -> DoseModel:
    """A model of slices for another body site, with distances and the body."""
    from DosePredictionLib.models.dose_model import Architecture
    from DosePredictionLib.models.manifest import ModelManifest
    from DosePredictionLib.models.published import published_expectations

    pelvis = StructureProtocol.load("pelvis")
    arguments = {"structure_channels": 9, "strip_channels": 0, "derived_channels": 2}
    manifest = ModelManifest(
        schema_version=1,
        name="pelvis-slices",
        title="Slices",
        protocol="pelvis",
        architecture=Architecture("dilated_unet2d", {**arguments, "widths": [2, 2, 2, 2]}),
        encoding=recipe.encoding,
        expectations=published_expectations(pelvis),
        weights_sha256="",
    )
    torch.manual_seed(0)
    network = build_network("dilated_unet2d", manifest.architecture.arguments)
    torch.nn.init.constant_(network.state_dict()["decoder.conv_out.0.bias"], 20.0)  # some dose
    return DoseModel.create(tmp_path / "pelvis-slices", manifest, network.state_dict())


def test_any_ct_is_predicted_and_slices_without_structures_too(pelvis_slices: DoseModel) -> None:
    case = pelvis_case((61, 47, 53), (5.0, 5.0, 3.0))
    inside = [mask.array for name, mask in case.structures.items() if name != "Body"]
    empty = ~np.any(inside, axis=(0, 2, 3))
    assert empty.any()
    dose = Predictor(pelvis_slices, "cpu", "fp32").predict(case).dose
    assert dose.array.shape == (53, 47, 61)
    assert np.isfinite(dose.array).all() and dose.array[empty].any()


def test_a_training_sample_is_one_slice_with_dose_and_a_flip_swaps_the_parotids() -> None:
    case = TrainingCase.read(OPENKBP_SAMPLE, OPENKBP, recipe.encoding)
    still = ["augmentation.ct_noise_hu=0", "augmentation.ct_shift_hu=0"]
    still += ["augmentation.spatial_probability=0", "crop=[1,128,128]"]
    flips = [overridden(recipe, [*still, f"augmentation.flip_probability={p}"]) for p in (0, 1)]
    plain, flipped = (Samples([case], config, OPENKBP) for config in flips)
    right, left = (1 + OPENKBP.names.index(name) for name in ("RightParotid", "LeftParotid"))
    swapped = 0
    for number in range(40):
        one, other = plain[number], flipped[number]
        assert one.input.shape == (15, 1, 128, 128) and one.labels["region"].any()
        torch.testing.assert_close(other.input[right].flip(-1), one.input[left])
        torch.testing.assert_close(other.labels["dose"].flip(-1), one.labels["dose"])
        swapped += bool(one.input[left].any())
    assert swapped


@pytest.mark.usefixtures("one_thread")
def test_the_recipe_learns_and_its_model_needs_no_mask(tmp_path: Path) -> None:
    from training.__main__ import main

    cases, other = tmp_path / "cases", tmp_path / "other"
    for folder, name in ((cases, "one"), (other, "two")):
        folder.mkdir()
        content = dict(np.load(OPENKBP_SAMPLE))
        if name == "two":
            content["dose"] = content["dose"] // 50 * 49
        np.savez(folder / f"{name}.npz", **content)
    run = tmp_path / "run"
    call = ["train", "--recipe", "openkbp_dcnn", "--training", cases, "--validation", other]
    for value in ("batch_size=4", "network.options.widths=[2,4,4,4]", "validate_every=15"):
        call += ["--set", value]
    call += ["--output", run, "--set", "crop=[1,32,48]", "--set", "learning_rate=0.02"]
    assert main([*map(str, call), "--steps", "30"]) == 0
    losses = [
        re.search(r'"train_loss": ([0-9.]+)', line) for line in (run / "metrics.jsonl").open()
    ]
    first, last = (float(found[1]) for found in losses if found)
    assert last < first
    described = '{"training": {}, "licence": "none", "technique": "IMRT", "patients": ["one"]}'
    (run / "data.json").write_text(described, encoding="utf-8")
    export = ["export", "--run", run, "--name", "made", "--title", "Made", "--mirror"]
    assert main([*map(str, export), "--output", str(tmp_path / "models")]) == 0
    prediction = Predictor(DoseModel.load(tmp_path / "models" / "made"), "cpu", "fp32").predict(
        replace(read_case(OPENKBP_SAMPLE), dose_mask=None)
    )
    assert prediction.dose.array.max() > 5
    assert "possible-dose-mask-input" not in [finding.id for finding in prediction.findings]


def test_the_error_of_a_slice_counts_every_pixel_of_slices_with_dose() -> None:
    grid = Grid((2, 2, 3), (1.0, 2.0, 3.0))
    plan, predicted = np.zeros((2, 3, 2, 2), dtype=np.float32)
    plan[0, 0, 0], plan[2, 1] = 8, (10, 20)
    predicted[0, 0, 0], predicted[1] = 4, 50  # the middle slice holds no plan dose
    errors = slice_errors(Volume(predicted, grid), Volume(plan, grid))
    assert errors == pytest.approx([4 / 4, (10 + 20) / 4])
