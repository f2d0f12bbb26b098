"""Several networks as one model: mean and spread of their doses, folders, commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import pelvis_case, random_network, write_case_folder, write_checkpoint

from DosePredictionLib.case import Case
from DosePredictionLib.errors import ModelError
from DosePredictionLib.inference.ensemble import RunningSpread
from DosePredictionLib.inference.predictor import Predictor
from DosePredictionLib.io.volumes import read_volume
from DosePredictionLib.models.combine import combine_models
from DosePredictionLib.models.dose_model import Architecture, DoseModel, write_manifest
from DosePredictionLib.networks import build_network
from DosePredictionLib.structures.protocol import StructureProtocol

PELVIS = StructureProtocol.load("pelvis")
CASCADE = {"structure_channels": 9, "stage1_filters": 2, "stage2_filters": 2}


def of_small_grid(model: DoseModel) -> DoseModel:
    """The same model on a grid that takes a fraction of a second."""
    grid = replace(model.manifest.encoding.grid, size=(48, 48, 32))
    manifest = replace(model.manifest, encoding=replace(model.manifest.encoding, grid=grid))
    write_manifest(model.folder, manifest)
    return DoseModel.load(model.folder)


def positive(network: Any) -> Any:
    """The same network with so much dose everywhere that clipping at 0 does nothing."""
    torch.nn.init.constant_(network.stage2.out_conv.bias, 20.0)
    return network


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[DoseModel]:
    """Two two-stage networks and a cascade, of random weights."""
    root = tmp_path_factory.mktemp("members")
    imported = []
    for seed in (1, 2):
        network = positive(random_network(seed=seed))
        checkpoint = write_checkpoint(root / f"{seed}.pt", network)
        imported.append(DoseModel.import_checkpoint(checkpoint, f"two-{seed}", PELVIS, root))
    torch.manual_seed(3)
    weights = positive(build_network("cascade", CASCADE)).state_dict()
    manifest = replace(
        imported[0].manifest, name="cascade", architecture=Architecture("cascade", CASCADE)
    )
    imported.append(DoseModel.create(root / "cascade", manifest, weights))
    return [of_small_grid(model) for model in imported]


@pytest.fixture(scope="module")
def small_case() -> Case:
    return pelvis_case((48, 48, 32), (8.0, 8.0, 8.0))


def test_running_mean_and_spread_are_those_of_numpy() -> None:
    doses = np.random.default_rng(0).normal(50, 1, (5, 3, 4, 2)).astype(np.float32)
    running = RunningSpread()
    for number, dose in enumerate(doses, start=1):
        running.add(dose)
        dose += 1e6  # it keeps no hold of what it was given
        assert (running.spread is None) == (number < 2)
    doses -= 1e6
    expected = np.random.default_rng(0).normal(50, 1, (5, 3, 4, 2)).astype(np.float32)
    np.testing.assert_allclose(running.mean, expected.mean(0), rtol=1e-6)
    assert running.spread is not None
    np.testing.assert_allclose(running.spread, expected.std(0, ddof=1), rtol=1e-4)


@pytest.mark.parametrize("mirror", [False, True])
def test_an_ensembles_dose_is_the_mean_of_its_networks(
    models: list[DoseModel], small_case: Case, tmp_path: Path, mirror: bool
) -> None:
    ensemble = combine_models(models, "three", "Three", tmp_path, mirror)
    seen: list[float] = []
    prediction = Predictor(ensemble, "cpu", "fp32").predict(
        small_case, progress=lambda share, stage: seen.append(share)
    )
    singles = []
    for model in models:
        single = replace(model, manifest=replace(model.manifest, mirror=mirror))
        one = Predictor(single, "cpu", "fp32")
        singles.append(one.predict(small_case))
        assert singles[-1].spread is None
    doses = np.stack([single.dose.array for single in singles])
    inside = small_case.structures["Body"].array
    assert doses[:, inside].min() > 0
    np.testing.assert_allclose(prediction.dose.array[inside], doses.mean(0)[inside], rtol=1e-4)
    assert prediction.spread is not None
    spread = prediction.spread.array
    np.testing.assert_allclose(spread[inside], doses.std(0, ddof=1)[inside], rtol=1e-3, atol=1e-4)
    assert not spread[~small_case.structures["Body"].array].any()
    assert prediction.spread.grid.matches(small_case.grid)
    assert seen == sorted(seen) and seen[-1] == pytest.approx(1.0)


def test_an_ensemble_of_an_ensemble_is_flat_and_its_card_is_honest(
    models: list[DoseModel], tmp_path: Path
) -> None:
    figured = replace(models[0].manifest, validation={"dose_score_gy": 2.0}, default=True)
    pair = combine_models([replace(models[0], manifest=figured), models[2]], "pair", "P", tmp_path)
    three = combine_models([pair, models[1]], "three", "T", tmp_path)
    assert [m.architecture.name for m in three.members if m.architecture] == [
        "cascade",
        "two_stage",
    ]
    again = DoseModel.load(tmp_path / "three")
    assert again.manifest == three.manifest
    assert again.manifest.validation == {} and not again.manifest.default
    again.verify()
    expected = [models[0], models[2], models[1]]
    for member, model in zip(again.members, expected, strict=True):
        weights = again.network(member).state_dict()
        for name, value in model.network().state_dict().items():
            assert torch.equal(weights[name], value)


def test_a_spoilt_or_foreign_member_is_refused(models: list[DoseModel], tmp_path: Path) -> None:
    pair = combine_models(models[:2], "pair", "P", tmp_path)
    path = pair.folder / pair.members[1].file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ModelError, match=r"weights-2\.safetensors has the SHA-256"):
        Predictor(pair, "cpu", "fp32")
    outside = replace(pair.manifest.members[0], file="../pair/weights.safetensors")
    manifest = replace(pair.manifest, members=(outside,))
    with pytest.raises(ModelError, match="own folder"):
        replace(pair, manifest=manifest).verify()


def test_networks_that_see_other_inputs_are_not_combined(
    models: list[DoseModel], tmp_path: Path
) -> None:
    scaled = replace(models[1].manifest.encoding, dose_scale_gy=70.0)
    other = replace(models[1], manifest=replace(models[1].manifest, encoding=scaled))
    averaged = replace(models[1].manifest, between_voxels="averages")
    with pytest.raises(ModelError, match="read as averages"):
        combine_models([models[0], replace(models[1], manifest=averaged)], "c", "C", tmp_path)
    with pytest.raises(ModelError, match="differ in protocol or encoding"):
        combine_models([models[0], other], "pair", "P", tmp_path)
    with pytest.raises(ModelError, match="two networks"):
        combine_models(models[:1], "one", "O", tmp_path)
    with pytest.raises(ModelError, match="cannot name"):
        combine_models(models[:2], "../pair", "P", tmp_path)
    assert list(tmp_path.glob("pair*")) == []


def test_the_commands_combine_predict_and_write_the_spread(
    models: list[DoseModel], small_case: Case, tmp_path: Path, run: Callable[..., Any]
) -> None:
    folder = write_case_folder(tmp_path / "patient", small_case)
    names = [model.folder for model in models[:2]]
    code, record, _ = run("models", "combine", *names, "--name", "pair", "--output", tmp_path)
    assert code == 0
    code, verified, _ = run("models", "verify", record["model"]["path"])
    assert code == 0 and verified["model"]["verified"]
    common = ("predict", folder, "--output", tmp_path / "out", "--spread", "--device", "cpu")
    code, record, _ = run(*common, "--model", tmp_path / "pair")
    assert code == 0
    spread = read_volume(Path(record["cases"][0]["spread"]))
    assert spread.grid.matches(small_case.grid) and spread.array.max() > 0
    written = json.loads((tmp_path / "out" / "patient" / "prediction.json").read_text())
    assert written["spread"] == "spread.nii.gz"
    code, record, _ = run(*common, "--model", models[0].folder)
    assert code == 2 and "single network" in record["error"]["message"]
