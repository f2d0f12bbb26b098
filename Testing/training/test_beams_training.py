"""Two stages that know the beams: halves, earlier doses, refinement, export; and who was seen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support import OPENKBP_SAMPLE, pelvis_case, write_case_folder

from DosePredictionLib.beams.arrangement import parse_beams
from DosePredictionLib.encoding.encoder import EncodingSettings, GridSettings
from DosePredictionLib.encoding.strips import StripSettings
from DosePredictionLib.errors import DosePredictionError, ModelError
from DosePredictionLib.inference.predictor import Predictor
from DosePredictionLib.io import read_case
from DosePredictionLib.losses import LossTerm
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.models.manifest import Architecture, read_manifest
from DosePredictionLib.networks import build_network
from DosePredictionLib.schema import to_json
from DosePredictionLib.structures.protocol import StructureProtocol
from training import splits
from training.__main__ import load_recipe, main
from training.cache import open_cache
from training.config import AugmentationConfig, NetworkConfig, TrainingConfig
from training.data import cut
from training.export import half_precision
from training.loop import network_arguments
from training.sampling import random_start, training_batches
from training.splits import (
    chosen,
    held_out,
    known_patients_of_model,
    names_in_fold,
    patients_of_run,
    record_patients,
)

pytestmark = pytest.mark.usefixtures("one_thread")

PELVIS = StructureProtocol.load("pelvis")
COARSE = TrainingConfig(
    "pelvis",
    EncodingSettings(
        GridSettings("fixed-spacing", spacing_mm=(8.0, 8.0, 8.0)),
        dose_scale_gy=50.0,
        strips=StripSettings(angles=()),
        further={"beam": {"arrangement": to_json(parse_beams("0,120,240"))}},
    ),
    crop=(32, 32, 32),
    batch_size=2,
    steps=3,
    validate_every=3,
    learning_rate=1e-2,
    loss=(LossTerm("mae", 1.0),),
    network=NetworkConfig(
        architecture="half_resolution", options={"filters": 3, "head_filters": 2}
    ),
    augmentation=AugmentationConfig(spatial_probability=0.5),
)
REFINED = replace(
    COARSE,
    task="beam_dose",
    network=NetworkConfig(
        architecture="beam_cascade",
        options={
            "coarse_filters": 3,
            "coarse_head_filters": 2,
            "filters": 4,
            "head_filters": 2,
        },
    ),
)


def settings(config: TrainingConfig) -> list[str]:
    """`--set` for every value of a configuration."""
    values = to_json(config)
    return [text for k, v in values.items() for text in ("--set", f"{k}={json.dumps(v)}")]


@pytest.fixture(scope="module")
def one_thread_here() -> Iterator[None]:
    """As `one_thread`, for what the whole module shares."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def staged(one_thread_here: None, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Caches of four and one phantoms, and a coarse run on each half of the four."""
    root = tmp_path_factory.mktemp("staged")
    shapes = {
        "training": [(44, 36, 28), (40, 40, 30), (46, 34, 26), (42, 38, 32)],
        "validation": [(48, 36, 30)],
    }
    for name, each in shapes.items():
        for index, shape in enumerate(each):
            case = pelvis_case(shape, (8.0, 8.0, 9.0))
            dose = case.plan_dose
            assert dose is not None
            share = np.float32(1 - 0.01 * index - 0.005 * len(each))  # no two doses are the same
            case = replace(case, plan_dose=dose.with_array(dose.array * share))
            write_case_folder(root / f"{name}_cases" / f"{name[0]}{index}", case)
        call = ["prepare", *settings(COARSE), "--cases", root / f"{name}_cases"]
        assert main([*map(str, call), "--output", str(root / name), "--workers", "1"]) == 0
    data = ["--training", root / "training", "--validation", root / "validation"]
    for half in (1, 2):
        call = ["train", *settings(COARSE), *data, "--output", root / f"half{half}"]
        assert main([*map(str, call), "--fold", f"{half}/2"]) == 0
    runs = [root / "half1", root / "half2"]
    for name, workers in (("training", "2"), ("validation", "1")):  # as one process or as several
        call = ["mimic", "--runs", *runs, "--cases", root / f"{name}_cases", "--cache", root / name]
        assert main([*map(str, call), "--workers", workers]) == 0
    return SimpleNamespace(root=root, data=data, runs=runs)


def test_halves_share_no_patient_and_runs_say_whom_they_saw(staged: SimpleNamespace) -> None:
    one, two = (patients_of_run(run) for run in staged.runs)
    assert len(one) == len(two) == 2
    assert one | two == {"t0", "t1", "t2", "t3"}


def test_a_half_is_the_same_whatever_seed_a_run_has(
    staged: SimpleNamespace, tmp_path: Path
) -> None:
    call = ["train", *settings(replace(COARSE, steps=1, seed=5)), *staged.data, "--fold", "1/2"]
    assert main([*map(str, call), "--output", str(tmp_path / "other")]) == 0
    assert patients_of_run(tmp_path / "other") == patients_of_run(staged.runs[0])


def test_cases_are_left_out_by_name(
    staged: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["train", *settings(replace(COARSE, steps=1, validate_every=1)), *staged.data]
    call = [*map(str, call), "--output", str(tmp_path / "run"), "--without"]
    assert main([*call, "t0", "nobody"]) == 2
    assert "--without nobody" in capsys.readouterr().err
    assert main([*call, "t0", "t1", "t2", "t3"]) == 2
    assert "no case to train on" in capsys.readouterr().err
    assert main([*call, "t0", "t1"]) == 0
    assert patients_of_run(tmp_path / "run") == {"t2", "t3"}


def test_earlier_doses_come_from_runs_that_have_not_seen_the_patient(
    staged: SimpleNamespace,
) -> None:
    from training.mimicking import coarse_run

    runs = [coarse_run(each) for each in staged.runs]
    cases = open_cache(staged.root / "training", PELVIS, COARSE.encoding)
    assert len(cases) == 4
    for case in cases:
        (unseen,) = [run for run in runs if case.name not in run.patients]
        x = torch.from_numpy(case.input())[None]
        with torch.no_grad():
            expected = unseen.network(x).final[0, 0].numpy()
        assert case.earlier is not None
        assert case.earlier.shape == (2, *case.body.shape)
        np.testing.assert_allclose(case.earlier[0], expected, atol=5e-3)
        assert np.abs(case.earlier[1] - case.earlier[0]).max() > 0.01
    (case,) = open_cache(staged.root / "validation", PELVIS, COARSE.encoding)
    with torch.no_grad():
        x = torch.from_numpy(case.input())[None]
        both = np.mean([run.network(x).final[0, 0].numpy() for run in runs], axis=0)
    assert case.earlier is not None
    np.testing.assert_allclose(case.earlier[0], both, atol=5e-3)


def test_crops_take_their_earlier_doses_along(staged: SimpleNamespace) -> None:
    case = open_cache(staged.root / "training", PELVIS, COARSE.encoding)[0]
    quiet = AugmentationConfig(0.0, 0.0, 0.0)
    crop = tuple(-(-edge // 16) * 16 for edge in case.body.shape)
    config = replace(REFINED, crop=crop, batch_size=1, augmentation=quiet)
    plain = next(training_batches([case], config, PELVIS))
    flips = replace(config, augmentation=replace(quiet, flip_probability=1.0))
    flipped = next(training_batches([case], flips, PELVIS))
    assert plain.labels["earlier"].shape == (1, 2, *crop)
    assert torch.equal(flipped.labels["earlier"].flip(-1), plain.labels["earlier"])
    assert case.earlier is not None
    start = random_start(case, crop, np.random.default_rng((config.seed, 0, 0)))
    for stage, kept in zip(case.earlier, plain.labels["earlier"][0].numpy(), strict=True):
        np.testing.assert_array_equal(kept, cut(stage, start, crop).astype(np.float32))
    moving = replace(quiet, spatial_probability=1.0, shift_mm=40.0)
    moved = next(training_batches([case], replace(config, augmentation=moving), PELVIS))
    assert (moved.labels["earlier"] - plain.labels["earlier"]).abs().max() > 0.01


def test_a_cascade_is_trained_on_them_and_predicts(
    staged: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    call = ["train", *settings(REFINED), *staged.data, "--output", run]
    assert main([*map(str, call)]) == 2
    assert "takes 2 coarse networks; --coarse names 0" in capsys.readouterr().err
    assert not run.exists()
    call += ["--coarse", *staged.runs]
    assert main([*map(str, call)]) == 0
    assert patients_of_run(run) == {"t0", "t1", "t2", "t3"}
    about = json.loads((run / "data.json").read_text())
    about |= {"training": {"data": "ellipsoids"}, "licence": "MIT", "technique": "IMRT"}
    about |= {"prescription_gy": {"PTV": 45.0}, "between_voxels": "averages"}
    (run / "data.json").write_text(json.dumps(about))
    call = ["export", "--run", run, "--name", "made", "--title", "Made", "--mirror"]
    assert main([*map(str, call), "--output", str(tmp_path / "models")]) == 0
    model = DoseModel.load(tmp_path / "models" / "made")
    assert model.manifest.training["patients"] == ["t0", "t1", "t2", "t3"]
    assert model.manifest.mirror and model.manifest.between_voxels == "averages"
    assert known_patients_of_model(model.manifest) == patients_of_run(run)
    (beams,) = model.manifest.expectations.beams
    assert beams.gantry_degrees == [0, 120, 240]
    from training.mimicking import coarse_run

    _has_coarse_networks_of(model, staged.runs)
    others = ["--coarse", *staged.runs[::-1]]
    call[4] = "others"
    assert main([*map(str, [*call, *others]), "--output", str(tmp_path / "models")]) == 0
    exchanged = DoseModel.load(tmp_path / "models" / "others")
    _has_coarse_networks_of(exchanged, staged.runs[::-1])
    assert exchanged.manifest.training["patients"] == ["t0", "t1", "t2", "t3"]
    going_on = replace(REFINED, steps=1, validate_every=1)
    call = ["train", *settings(going_on), *staged.data, *others, "--output", tmp_path / "later"]
    assert main([*map(str, call), "--continue-from", str(model.folder)]) == 0
    later = coarse_run(tmp_path / "later").network.coarse  # type: ignore[union-attr]
    for part, each in zip(later, exchanged.network().coarse, strict=True):  # type: ignore[arg-type]
        torch.testing.assert_close(part.out_conv.bias, each.out_conv.bias)
    refining = [each.network().refine.state_dict() for each in (model, exchanged)]  # type: ignore[union-attr]
    assert all(torch.equal(value, refining[1][name]) for name, value in refining[0].items())
    case = read_case(staged.root / "validation_cases" / "v0")
    architecture = model.manifest.architecture
    prediction = Predictor(model, "cpu", "fp32").predict(case)
    assert "beams-of-model" in {finding.id for finding in prediction.findings}
    doses = [prediction.dose.array]
    for share in (1.0, 0.25):
        network = Architecture("beam_cascade", architecture.arguments | {"coarse_share": share})
        blended = replace(model, manifest=replace(model.manifest, architecture=network))
        doses.append(Predictor(blended, "cpu", "fp32").predict(case).dose.array)
    refined, coarse, both = doses
    assert np.abs(refined - coarse).max() > 0.1
    positive = np.minimum(refined, coarse) > 0  # below 0 each is cut off
    expected = 0.75 * refined + 0.25 * coarse
    np.testing.assert_allclose(both[positive], expected[positive], atol=1e-3)
    evaluated = tmp_path / "scores.json"
    call = ["evaluate", "--run", run, "--cases", staged.root / "validation", "--output", evaluated]
    assert main([*map(str, call)]) == 0
    assert json.loads(evaluated.read_text())["cases"][0]["dose_score_gy"] > 0


@pytest.mark.parametrize("change", [{"dose_scale_gy": 60.0}, {"ct_window_hu": (-500.0, 500.0)}])
def test_a_coarse_network_that_sees_other_input_is_no_stage(
    staged: SimpleNamespace, change: dict[str, Any]
) -> None:
    from training.mimicking import coarse_run, coarse_weights

    runs = [coarse_run(each) for each in staged.runs]
    other = replace(REFINED, encoding=replace(REFINED.encoding, **change))
    with pytest.raises(DosePredictionError, match=r"half1 has another protocol or encoding"):
        coarse_weights(runs, other, PELVIS)


def _has_coarse_networks_of(model: DoseModel, runs: list[Path]) -> None:
    """They are the runs' own, to the last of the 16 bits that a model keeps."""
    from training.mimicking import coarse_run

    for part, each in zip(model.network().coarse, runs, strict=True):  # type: ignore[arg-type]
        for name, value in coarse_run(each).network.state_dict().items():
            torch.testing.assert_close(
                part.state_dict()[name], value, rtol=1e-3, atol=1e-4, check_dtype=False
            )


def test_a_patient_whom_every_run_saw_has_no_earlier_dose(
    staged: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["prepare", *settings(COARSE), "--cases", staged.root / "training_cases"]
    assert main([*map(str, call), "--output", str(tmp_path / "cache"), "--workers", "1"]) == 0
    call = ["mimic", "--runs", staged.runs[0], "--cases", staged.root / "training_cases"]
    assert main([*map(str, call), "--cache", str(tmp_path / "cache")]) == 2
    assert "Every run was trained on t" in capsys.readouterr().err


# --- Patients who are held out ------------------------------------------------------------------


def test_thirty_training_patients_of_openkbp_are_held_out() -> None:
    names = held_out("openkbp")
    assert len(names) == 30
    assert "pt_10" in names
    assert held_out("pelvis") == frozenset()
    some = ["pt_1", "pt_10", "pt_2", "pt_22"]
    assert chosen(some, "openkbp", None) == some
    assert chosen(some, "openkbp", "leave-out") == ["pt_1", "pt_2"]
    assert chosen(some, "openkbp", "only") == ["pt_10", "pt_22"]
    with pytest.raises(DosePredictionError, match="No case is left by --held-out only"):
        chosen(["pt_1"], "openkbp", "only")


def test_folds_are_disjoint_and_complete_whatever_the_order() -> None:
    names = [f"pt_{number}" for number in range(139)]
    parts = [names_in_fold(names, (part, 3), 7) for part in range(3)]
    assert sorted(map(len, parts)) == [46, 46, 47]
    assert set().union(*parts) == set(names)
    assert names_in_fold(names[::-1], (1, 3), 7) == parts[1]
    assert names_in_fold(names, (1, 3), 8) != parts[1]


def test_prepare_and_train_leave_them_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = tmp_path / "cases"
    cases.mkdir()
    for name in ("pt_1", "pt_10"):
        (cases / f"{name}.npz").write_bytes(OPENKBP_SAMPLE.read_bytes())
    call = ["prepare", "--recipe", "openkbp_two_stage", "--cases", str(cases), "--workers", "1"]
    for which, kept in (("leave-out", "pt_1"), ("only", "pt_10")):
        cache = tmp_path / which
        assert main([*call, "--output", str(cache), "--held-out", which]) == 0
        assert [each.name for each in (cache / "cases").iterdir()] == [kept]
    trained = ["train", "--training", str(tmp_path / "only"), "--validation", str(cases / "none")]
    trained = ["train", "--training", str(tmp_path / "only"), "--output", str(tmp_path / "run")]
    trained += ["--validation", str(tmp_path / "leave-out"), "--held-out", "leave-out"]
    capsys.readouterr()
    assert main(trained) == 2
    assert "No case is left by --held-out leave-out" in capsys.readouterr().err


def test_export_refuses_who_saw_them_also_through_an_ancestor(
    staged: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        splits, "resource_path", lambda *parts: tmp_path.joinpath(*parts), raising=True
    )
    (tmp_path / "Cohorts").mkdir()
    listed = tmp_path / "Cohorts" / "pelvis.json"
    listed.write_text(json.dumps({"held_out": ["t3"]}))
    run = staged.root / "half1" if "t3" in patients_of_run(staged.runs[0]) else staged.runs[1]
    about = {"training": {}, "licence": "MIT", "prescription_gy": {"PTV": 45.0}}
    stated = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps({**stated, **about}))
    export = ["export", "--run", str(run), "--title", "T", "--output", str(tmp_path / "models")]
    from training.export import export_run

    with pytest.raises(ModelError, match=r"1 patients .* held out \(t3\)"):
        export_run(run, "seen", "T", tmp_path / "models")
    listed.write_text(json.dumps({"held_out": ["t9"]}))
    assert main([*export, "--name", "first"]) == 0
    # A run that continues from it has seen whom it saw.
    listed.write_text(json.dumps({"held_out": ["t3"]}))
    model = tmp_path / "models" / "first"
    later = tmp_path / "later"
    call = ["train", *settings(COARSE), *map(str, staged.data), "--output", str(later)]
    assert main([*call, "--held-out", "leave-out", "--continue-from", str(model)]) == 0
    assert "t3" in patients_of_run(later)
    with pytest.raises(ModelError, match="held out"):
        (later / "data.json").write_text(
            json.dumps({**json.loads((later / "data.json").read_text()), **about})
        )
        export_run(later, "later", "T", tmp_path / "models")
    # What does not say whom it saw cannot be judged; without a cohort nobody asks.
    assert known_patients_of_model(replace(read_manifest(model), training={})) is None
    (later / "data.json").write_text(json.dumps(about))
    with pytest.raises(ModelError, match=r"data\.json does not list the patients"):
        export_run(later, "silent", "T", tmp_path / "models")
    listed.unlink()
    assert export_run(later, "silent", "T", tmp_path / "models").folder.is_dir()


def test_what_data_json_says_stays(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text(json.dumps({"licence": "MIT", "patients": ["b"]}))
    record_patients(tmp_path, ["c", "a"])
    assert json.loads((tmp_path / "data.json").read_text()) == {
        "licence": "MIT",
        "patients": ["a", "b", "c"],
    }
    (tmp_path / "data.json").write_text(json.dumps({"patients": "everyone"}))
    with pytest.raises(ModelError, match="must be a list"):
        record_patients(tmp_path, [])


def test_the_recipes_are_alike_but_for_the_beams() -> None:
    ours, theirs = load_recipe("openkbp_beams"), load_recipe("openkbp_no_beams")
    assert theirs.encoding == replace(ours.encoding, further={})
    options = {**ours.network.options, "mimics": False}
    assert theirs == replace(
        ours, encoding=theirs.encoding, network=replace(ours.network, options=options)
    )
    first, second = load_recipe("openkbp_beams_coarse"), load_recipe("openkbp_no_beams_coarse")
    assert second == replace(first, encoding=theirs.encoding)
    assert first.encoding == ours.encoding
    assert ours.network.options["coarse_filters"] == first.network.options["filters"]
    assert ours.network.options["coarse_head_filters"] == first.network.options["head_filters"]


def test_a_model_of_the_recipe_is_small_enough_for_the_repository() -> None:
    config = load_recipe("openkbp_beams")
    protocol = StructureProtocol.load("openkbp")
    network = build_network(config.network.architecture, network_arguments(config, protocol))
    weights = half_precision(network.state_dict())
    assert sum(each.numel() * each.element_size() for each in weights.values()) < 15 * 2**20
