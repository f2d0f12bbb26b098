from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import mirrored_case, pelvis_case

import DosePredictionLib.inference.predictor as predict_module
from DosePredictionLib.case import Case, Prescription
from DosePredictionLib.encoding.encoder import decode, encode
from DosePredictionLib.encoding.settings import GridSettings
from DosePredictionLib.encoding.strips import tangent_strips
from DosePredictionLib.errors import (
    PredictionCancelled,
    PredictionError,
)
from DosePredictionLib.inference.device import resolve_precision
from DosePredictionLib.inference.predictor import Predictor, default_model
from DosePredictionLib.inference.running import run_tiled, run_whole, tile_starts
from DosePredictionLib.models.combine import combine_models
from DosePredictionLib.models.dose_model import Architecture, DoseModel
from DosePredictionLib.networks import build_network, fold_batch_norm
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.tasks.dose_regression import final_dose
from DosePredictionLib.tasks.residual_scale import in_gy
from DosePredictionLib.tasks.task import Decoding


@pytest.fixture(scope="module")
def small_model(pelvis_model: DoseModel) -> DoseModel:
    """The random pelvis model on a grid that takes a fraction of a second."""
    grid = replace(pelvis_model.manifest.encoding.grid, size=(80, 64, 48))
    encoding = replace(pelvis_model.manifest.encoding, grid=grid)
    return replace(pelvis_model, manifest=replace(pelvis_model.manifest, encoding=encoding))


ALMOST_EQUAL_GY = {"fp32": 1e-4 * 52.0, "bf16": 0.02 * 52.0}
"""How far the doses of a network with random weights may be from those in float32, at most."""


def test_the_dose_is_the_networks_output_on_the_cases_grid(
    small_model: DoseModel, case: Case, automatic_precision: str
) -> None:
    prediction = Predictor(small_model, "cpu").predict(case)
    protocol, settings = small_model.protocol, small_model.manifest.encoding
    encoded = encode(bind(case, protocol), settings)
    with torch.no_grad():
        final = small_model.network()(torch.from_numpy(encoded.input)[None]).final[0, 0].numpy()
    body = case.structures["Body"].array
    expected = np.where(body, np.maximum(final, 0) * 52.0, 0)
    assert expected.max() > 1
    assert prediction.dose.grid.matches(case.grid)
    assert prediction.dose.array.dtype == np.float32
    difference = np.abs(prediction.dose.array - expected)
    assert difference.max() <= ALMOST_EQUAL_GY[automatic_precision]
    assert prediction.precision == automatic_precision
    assert (prediction.device, prediction.fallbacks) == ("cpu", ())


@pytest.mark.usefixtures("automatic_precision")
def test_a_mirrored_model_averages_with_the_mirrored_patient(
    small_model: DoseModel, case: Case
) -> None:
    mirror = replace(small_model, manifest=replace(small_model.manifest, mirror=True))
    mirrored = mirrored_case(case)
    predictor = Predictor(mirror, "cpu")
    seen: list[float] = []
    dose = predictor.predict(case, progress=lambda share, stage: seen.append(share)).dose.array
    assert seen[-1] == pytest.approx(1.0) and seen == sorted(seen)
    assert np.allclose(predictor.predict(mirrored).dose.array[..., ::-1], dose, atol=1e-3)
    plain = Predictor(small_model, "cpu").predict(case).dose.array
    assert np.abs(plain - dose).max() > 1e-2


@pytest.mark.usefixtures("automatic_precision")
def test_a_dose_between_voxels_is_read_as_the_manifest_says(
    pelvis_model: DoseModel, case: Case
) -> None:
    coarse = GridSettings("fixed-spacing", spacing_mm=(12.0, 12.0, 12.0))
    encoding = replace(pelvis_model.manifest.encoding, grid=coarse)
    doses = {}
    for between in ("linear", "averages"):
        manifest = replace(
            pelvis_model.manifest,
            encoding=encoding,
            between_voxels=between,  # type: ignore[arg-type]
        )
        predictor = Predictor(replace(pelvis_model, manifest=manifest), "cpu")
        doses[between] = predictor.predict(case).dose.array
    body = case.structures["Body"].array
    apart = (doses["averages"] - doses["linear"])[body]
    assert np.abs(apart).mean() > 0.05 and np.abs(apart.mean()) < 0.1 * np.abs(apart).mean() + 0.05
    assert doses["averages"].min() == 0 and not doses["averages"][~body].any()


def test_what_a_head_gives_is_read_as_its_models_dose(pelvis_model: DoseModel, case: Case) -> None:
    manifest = pelvis_model.manifest
    coarse = GridSettings("fixed-spacing", spacing_mm=(12.0, 12.0, 12.0))
    bound = bind(case, pelvis_model.protocol)
    encoded = encode(bound, replace(manifest.encoding, grid=coarse))
    random = np.random.default_rng(2).random(encoded.grid.shape, dtype=np.float32)
    read = {}
    for between in ("linear", "averages"):
        decoding = Decoding(bound, encoded, manifest.expectations, between=between)  # type: ignore[arg-type]
        given = in_gy(random, 50.0, decoding)
        scale = given.volume.array.max() / decode(random * 50.0, encoded, case, between).array.max()  # type: ignore[arg-type]
        expected = decode(random * np.float32(50.0 * scale), encoded, case, between)  # type: ignore[arg-type]
        np.testing.assert_allclose(given.volume.array, expected.array, rtol=1e-4, atol=1e-3)
        read[between] = given.volume.array
    assert np.abs(read["averages"] - read["linear"]).max() > 1


@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [
        ("cascade", {"stage1_filters": 2, "stage2_filters": 2}),
        ("mednext", {"filters": 2, "blocks": 1}),
    ],
)
def test_every_architecture_predicts_and_reports_progress(
    small_model: DoseModel, case: Case, architecture: str, arguments: dict, tmp_path: Path
) -> None:
    arguments = {"structure_channels": 9, **arguments}
    network = build_network(architecture, arguments).eval()
    manifest = replace(small_model.manifest, architecture=Architecture(architecture, arguments))
    model = DoseModel.create(tmp_path / "model", manifest, network.state_dict())
    seen: list[float] = []
    predictor = Predictor(DoseModel.load(model.folder), "cpu", "fp32")
    prediction = predictor.predict(case, progress=lambda share, stage: seen.append(share))
    assert seen == sorted(seen) and seen[-1] == pytest.approx(1.0)
    x = torch.from_numpy(encode(bind(case, model.protocol), manifest.encoding).input)[None]
    with torch.no_grad():
        expected = network(x).final[0, 0].clamp(min=0).numpy() * 52.0
    body = case.structures["Body"].array
    assert np.abs(prediction.dose.array - expected)[body].max() <= 1e-2


@pytest.mark.usefixtures("automatic_precision")
def test_a_second_prediction_is_the_same(small_model: DoseModel, case: Case) -> None:
    predictor = Predictor(small_model, "cpu")
    one, other = predictor.predict(case), predictor.predict(case)
    assert np.array_equal(one.dose.array, other.dose.array)


def test_bf16_stays_within_a_few_permille_of_the_dose_scale(
    small_model: DoseModel, case: Case
) -> None:
    full = Predictor(small_model, "cpu", "fp32").predict(case).dose.array
    half = Predictor(small_model, "cpu", "bf16").predict(case).dose.array
    assert np.abs(half - full).mean() <= 0.003 * 52.0


def test_16_bits_are_chosen_only_for_networks_that_were_measured_to_keep_the_dose(
    small_model: DoseModel, tmp_path: Path, automatic_precision: str
) -> None:
    arguments = {"structure_channels": 9, "stage1_filters": 2, "stage2_filters": 2}
    manifest = replace(small_model.manifest, architecture=Architecture("cascade", arguments))
    weights = build_network("cascade", arguments).state_dict()
    cascade = DoseModel.create(tmp_path / "cascade", manifest, weights)
    both = combine_models([small_model, cascade], "both", "Both", tmp_path)
    assert Predictor(small_model, "cpu").precision == automatic_precision
    assert Predictor(cascade, "cpu").precision == Predictor(both, "cpu").precision == "fp32"
    assert Predictor(cascade, "cpu", "bf16").precision == "bf16"


def test_a_processor_without_avx512_or_whose_avx512_is_ruled_out_has_no_bf16(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert resolve_precision("auto", torch.device("cpu")) == "fp32"


def test_progress_rises_to_one_and_names_the_stages(small_model: DoseModel, case: Case) -> None:
    seen: list[tuple[float, str]] = []
    Predictor(small_model, "cpu").predict(case, progress=lambda s, stage: seen.append((s, stage)))
    shares = [share for share, _ in seen]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    stages = list(dict.fromkeys(stage for _, stage in seen))
    assert stages == ["checks and encoding", "coarse dose", "final dose"]


def test_cancel_ends_the_work_between_layers(small_model: DoseModel, case: Case) -> None:
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    predictor = Predictor(small_model, "cpu")
    with pytest.raises(PredictionCancelled):
        predictor.predict(case, cancelled=cancelled)
    assert asked == 4
    predictor.predict(case)  # and the predictor still works


def test_memory_that_runs_out_steps_down_to_slabs_and_says_so(
    small_model: DoseModel, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*arguments: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    monkeypatch.setattr(predict_module, "run_whole", exhausted)
    prediction = Predictor(small_model, "cpu", "fp32").predict(case)
    assert len(prediction.fallbacks) == 1 and "slabs" in prediction.fallbacks[0]
    assert prediction.dose.array.max() > 0


def test_memory_that_is_known_to_be_too_small_goes_to_slabs_at_once(
    small_model: DoseModel, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict_module, "available_memory_bytes", lambda: 10**6)
    monkeypatch.setattr(predict_module, "run_whole", None)
    prediction = Predictor(small_model, "cpu", "fp32").predict(case)
    assert "slabs" in prediction.fallbacks[0]


def test_memory_that_runs_out_for_good_is_an_error(
    small_model: DoseModel, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(predict_module, "run_whole", exhausted)
    monkeypatch.setattr(predict_module, "run_tiled", exhausted)
    with pytest.raises(PredictionError, match="Memory ran out"):
        Predictor(small_model, "cpu", "fp32").predict(case)


def test_another_runtime_error_is_not_taken_for_lack_of_memory(
    small_model: DoseModel, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(predict_module, "run_whole", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        Predictor(small_model, "cpu", "fp32").predict(case)


def test_slabs_cover_everything_and_agree_away_from_their_ends(small_model: DoseModel) -> None:
    assert tile_starts(64, 64, 32) == [0]
    assert tile_starts(128, 64, 32) == [0, 32, 64]
    assert tile_starts(144, 64, 32) == [0, 32, 64, 80]
    network = fold_batch_norm(small_model.network())
    x = torch.rand(1, 14, 128, 16, 16)
    with torch.no_grad():
        whole = run_whole(network, x, final_dose)
        tiled = run_tiled(network, x, 64, 32, final_dose)
        one_slab = run_tiled(network, x, 128, 32, final_dose)
    assert torch.allclose(one_slab, whole, atol=1e-6)
    assert (tiled - whole).abs().mean() < 0.05 * whole.std()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_dose_that_is_not_finite_is_an_error(
    small_model: DoseModel, case: Case, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(network: object, x: torch.Tensor, pick: object) -> torch.Tensor:
        dose = torch.zeros(x.shape[2:])
        dose[0, 0, 0] = value
        return dose

    monkeypatch.setattr(predict_module, "run_whole", spoilt)
    with pytest.raises(PredictionError, match="NaN or infinite"):
        Predictor(small_model, "cpu", "fp32").predict(case)


def test_the_coarse_dose_and_the_strips_come_back_when_they_are_asked_for(
    small_model: DoseModel, case: Case, automatic_precision: str
) -> None:
    predictor = Predictor(small_model, "cpu")
    plain = predictor.predict(case)
    assert plain.coarse is None and plain.strips is None
    full = predictor.predict(case, keep_coarse=True, keep_strips=True, strip_margin_mm=10.0)
    assert full.coarse is not None and full.strips is not None
    assert full.coarse.grid.matches(case.grid) and full.coarse.array.max() > 0
    with torch.no_grad():
        encoded = encode(
            bind(case, small_model.protocol),
            small_model.manifest.encoding,
        )
        coarse = small_model.network()(torch.from_numpy(encoded.input)[None]).coarse[0, 0].numpy()
    expected = np.where(case.structures["Body"].array, np.maximum(coarse, 0) * 52.0, 0)
    difference = np.abs(full.coarse.array - expected)  # stage 1 sees no strips
    assert difference.max() <= ALMOST_EQUAL_GY[automatic_precision]
    made = tangent_strips(case.structures["PTV"], case.structures["Body"], margin_mm=10.0)
    assert {a: m.array.sum() for a, m in full.strips.items()} == {
        a: m.array.sum() for a, m in made.items()
    }
    assert "strip-margin-unlike-model" in {finding.id for finding in full.findings}
    assert np.abs(full.dose.array - plain.dose.array).max() > 1e-3


def test_slabs_carry_the_coarse_dose_along(small_model: DoseModel) -> None:
    network = fold_batch_norm(small_model.network())
    x = torch.rand(1, 14, 32, 16, 16)
    with torch.no_grad():
        both = run_tiled(
            network, x, 64, 32, lambda doses: torch.cat([doses.final[0], doses.coarse[0]])
        )
        expected = network(x)
    assert torch.allclose(both[0], expected.final[0, 0], atol=1e-6)
    assert torch.allclose(both[1], expected.coarse[0, 0], atol=1e-6)


@pytest.mark.parametrize("margin_mm", [-1.0, float("nan")])
def test_an_impossible_strip_margin_is_refused(
    small_model: DoseModel, case: Case, margin_mm: float
) -> None:
    with pytest.raises(PredictionError, match="margin of the strips"):
        Predictor(small_model, "cpu", "fp32").predict(case, strip_margin_mm=margin_mm)


def test_a_single_level_dose_is_scaled_by_the_prescription(
    small_model: DoseModel, case: Case
) -> None:
    predictor = Predictor(small_model, "cpu", "fp32")
    own = predictor.predict(case)
    scaled = predictor.predict(case, prescription=Prescription({"PTV": 50.4}, 28))
    assert np.allclose(scaled.dose.array, own.dose.array * (50.4 / 45.0), rtol=1e-5)
    assert "dose-scaled" in {finding.id for finding in scaled.findings}
    unlike = "prescription-unlike-model"
    assert unlike not in {f.id for f in scaled.findings if f.severity == "warning"}
    far = predictor.predict(case, prescription=Prescription({"PTV": 60.0}))
    assert unlike in {f.id for f in far.findings if f.severity == "warning"}


def test_without_a_prescription_the_models_own_is_used_and_said(
    small_model: DoseModel, case: Case
) -> None:
    prediction = Predictor(small_model, "cpu").predict(replace(case, prescription=None))
    assert prediction.prescription.target_gy == {"PTV": 45.0}
    assert "prescription-of-model" in {finding.id for finding in prediction.findings}


def test_a_blocking_finding_stops_the_prediction(small_model: DoseModel) -> None:
    case = pelvis_case()
    rescaled = ((case.ct.array.astype(float) + 1000) / 1040 * 255).clip(0, 255).astype(np.uint8)
    with pytest.raises(PredictionError, match="HU"):
        Predictor(small_model, "cpu").predict(replace(case, ct=case.ct.with_array(rescaled)))


@pytest.mark.parametrize(
    ("device", "precision", "rule"),
    [
        ("cuda:99", "auto", "CUDA devices"),
        ("tpu", "auto", "none of auto"),
        ("cpu", "fp8", "none of auto"),
        ("cpu", "fp16", "needs a GPU"),
    ],
)
def test_a_device_or_precision_that_is_not_there_is_refused(
    small_model: DoseModel, device: str, precision: str, rule: str
) -> None:
    with pytest.raises(PredictionError, match=rule):
        Predictor(small_model, device, precision)


def test_an_imported_model_is_never_the_default(
    pelvis_model: DoseModel, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOSE_PREDICTION_MODELS", str(pelvis_model.folder.parent))
    assert pelvis_model.manifest.name in {m.manifest.name for m in DoseModel.installed()}
    assert default_model(case).manifest.name == "pelvis-simulated"
