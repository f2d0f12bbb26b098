"""Tasks and outputs: two dummy tasks through prediction, command, worker, report and training."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dummy_tasks
import numpy as np
import pytest
import torch
from dummy_tasks import dummy_model
from support import ROOT, pelvis_case, write_case_folder

import DosePredictionLib.inference.predictor as predict_module
from DosePredictionLib.app.summary import prediction_summary, report_input
from DosePredictionLib.case import Case
from DosePredictionLib.encoding.encoder import EncodingSettings, GridSettings, encode
from DosePredictionLib.errors import (
    DosePredictionError,
    MappingError,
    ModelError,
    PredictionCancelled,
)
from DosePredictionLib.inference.predictor import Predictor
from DosePredictionLib.inference.slicewise import over_volumes
from DosePredictionLib.io.volumes import read_volume
from DosePredictionLib.models.combine import combine_models
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.prediction import Prediction
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.worker.client import WorkerClient
from DosePredictionLib.worker.exchange import write_case
from DosePredictionLib.worker.messages import Predict, PredictOptions, WriteReport
from training.config import NetworkConfig, TrainingConfig
from training.data import load_cases
from training.export import export_run
from training.loop import Trainer
from training.sampling import training_batches

PELVIS = StructureProtocol.load("pelvis")
TASKS = ("slice_dose", "bands")


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    dummy_tasks.register()
    yield
    dummy_tasks.unregister()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, pelvis_model: DoseModel) -> dict:
    root = tmp_path_factory.mktemp("dummies")
    return {task: dummy_model(root, task, pelvis_model) for task in TASKS}


@pytest.fixture(scope="module")
def small_case() -> Case:
    return pelvis_case((48, 48, 32), (8.0, 8.0, 8.0))


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerClient]:
    script = Path(__file__).with_name("dummy_worker.py")
    with WorkerClient(Path(sys.executable), script=script) as client:
        yield client


def kinds(prediction: Prediction) -> list[tuple]:
    return [(o.key, o.role, o.unit, o.structure, o.level, o.member) for o in prediction.outputs]


BANDS = [
    ("mean", "dose", "Gy", None, None, None),
    ("low", "lower", "Gy", None, 0.9, None),
    ("high", "upper", "Gy", None, 0.9, None),
    ("chance", "probability", "probability", "Bladder", None, None),
    ("bladder", "segment", "none", "Bladder", None, None),
]


def test_a_network_of_two_dimensions_predicts_a_volume_slice_by_slice(
    models: dict, small_case: Case
) -> None:
    model = models["slice_dose"]
    seen: list[tuple[float, str]] = []
    prediction = Predictor(model, "cpu", "fp32").predict(
        small_case, progress=lambda *now: seen.append(now)
    )
    encoded = encode(bind(small_case, PELVIS), model.manifest.encoding)
    network = model.network()
    slices = torch.from_numpy(encoded.input).transpose(0, 1)
    with torch.no_grad():
        final = torch.cat([network(each[None]).final[0] for each in slices]).numpy()
    expected = np.where(small_case.structures["Body"].array, np.maximum(final, 0) * 52.0, 0)
    assert expected.max() > 1
    np.testing.assert_allclose(prediction.dose.array, expected, atol=1e-4)
    shares = [share for share, _ in seen]
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1.0)
    assert list(dict.fromkeys(stage for _, stage in seen)) == [
        "checks and encoding",
        "dose, slice by slice",
    ]


def test_slices_that_pass_one_by_one_give_the_same_and_need_less_memory(
    models: dict, small_case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(models["slice_dose"], "cpu", "fp32")
    whole = predictor.predict(small_case)
    assert whole.fallbacks == ()
    # What sixteen slices would take is not there; what all 32 would take does not matter.
    bytes_of_a_slice = 48 * 48 * predictor._bytes_per_voxel
    monkeypatch.setattr(predict_module, "available_memory_bytes", lambda: 17 * bytes_of_a_slice)
    assert predictor.predict(small_case).fallbacks == ()
    monkeypatch.setattr(predict_module, "available_memory_bytes", lambda: 15 * bytes_of_a_slice)
    single = predictor.predict(small_case)
    assert "one slice after the other" in single.fallbacks[0]
    np.testing.assert_allclose(single.dose.array, whole.dose.array, atol=1e-5)


def test_slices_keep_their_places_with_gradients_and_without(models: dict) -> None:
    network = models["slice_dose"].network()
    x = torch.rand(2, 14, 5, 8, 12, requires_grad=True)
    volumes = over_volumes(network, at_once=3)
    with torch.no_grad():
        chunked = volumes(x).final
    dose = volumes(x).final
    assert dose.shape == (2, 1, 5, 8, 12)
    torch.testing.assert_close(dose, chunked)
    torch.testing.assert_close(dose[1, :, 3], network(x[1:, :, 3]).final[0])
    dose[1, :, 3].sum().backward()
    assert x.grad is not None
    assert x.grad[1, :, 3].any() and not x.grad[0].any() and not x.grad[1, :, :3].any()


@pytest.mark.parametrize("task", TASKS)
def test_cancel_ends_a_dummy_task_between_layers(models: dict, small_case: Case, task: str) -> None:
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 1

    predictor = Predictor(models[task], "cpu", "fp32")
    with pytest.raises(PredictionCancelled):
        predictor.predict(small_case, cancelled=cancelled)
    assert asked == 2
    predictor.predict(small_case)


def test_a_task_of_several_outputs_gives_them_all_on_the_cases_grid(
    models: dict, small_case: Case
) -> None:
    predictor = Predictor(models["bands"], "cpu", "fp32")
    prediction = predictor.predict(small_case)
    assert kinds(prediction) == BANDS
    assert prediction.dose is prediction.main.volume is prediction.outputs[0].volume
    by_key = {output.key: output for output in prediction.outputs}
    low, high = by_key["low"].volume.array, by_key["high"].volume.array
    assert (low <= prediction.dose.array).all() and (prediction.dose.array <= high).all()
    assert (high - low).max() > 0.1
    assert by_key["bladder"].volume.array.dtype == bool
    assert all(output.volume.grid.matches(small_case.grid) for output in prediction.outputs)
    assert by_key["high"].label == "upper bound (90 %)"
    assert by_key["bladder"].label == "segment Bladder"


def test_what_is_drawn_follows_the_seed_and_comes_only_when_it_is_asked_for(
    models: dict, small_case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dummy_tasks, "STEP_SECONDS", 0.0)
    monkeypatch.setattr(dummy_tasks, "STEPS", 4)
    predictor = Predictor(models["bands"], "cpu", "fp32")
    seen: list[float] = []
    drawn = [
        predictor.predict(
            small_case, keep=("sample",), seed=seed, progress=lambda share, _: seen.append(share)
        )
        .of_roles(["sample"])[0]
        .volume.array
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    first = seen[: len(seen) // 3]
    assert first == sorted(first) and first[-1] == pytest.approx(1.0)


def test_a_sample_of_an_ensemble_is_one_networks_and_no_mean(
    models: dict,
    small_case: Case,
    tmp_path: Path,
    pelvis_model: DoseModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dummy_tasks, "STEP_SECONDS", 0.0)
    monkeypatch.setattr(dummy_tasks, "STEPS", 1)
    other = dummy_model(tmp_path / "other", "bands", pelvis_model, seed=4)
    pair = combine_models([models["bands"], other], "pair", "Pair", tmp_path)

    def drawn(model: DoseModel, seed: int) -> tuple[np.ndarray, np.ndarray]:
        predictor = Predictor(model, "cpu", "fp32")
        prediction = predictor.predict(small_case, keep=("sample",), seed=seed)
        return prediction.of_roles(["sample"])[0].volume.array, prediction.dose.array

    for seed, alone in ((6, models["bands"]), (7, other)):
        sample, mean = drawn(pair, seed)
        own_sample, own_mean = drawn(alone, seed)
        assert np.array_equal(sample, own_sample)
        assert not np.array_equal(mean, own_mean)  # the dose is that of both networks


def test_members_are_combined_output_by_output_and_never_over_tasks(
    models: dict, small_case: Case, tmp_path: Path, pelvis_model: DoseModel
) -> None:
    other = dummy_model(tmp_path / "other", "bands", pelvis_model, seed=4)
    pair = combine_models([models["bands"], other], "pair", "Pair", tmp_path)
    assert pair.manifest.task == "bands"
    both = Predictor(pair, "cpu", "fp32").predict(small_case)
    alone = [Predictor(m, "cpu", "fp32").predict(small_case) for m in (models["bands"], other)]
    for number in (0, 2):  # the dose, the upper bound
        arrays = [each.outputs[number].volume.array for each in alone]
        together = both.outputs[number].volume.array
        inside = (arrays[0] > 0) & (arrays[1] > 0)
        assert inside.any()
        np.testing.assert_allclose(together[inside], np.mean(arrays, 0)[inside], rtol=1e-4)
    with pytest.raises(ModelError, match="of the task slice_dose"):
        combine_models([models["bands"], models["slice_dose"]], "mixed", "Mixed", tmp_path)


def test_the_task_says_which_channels_it_requires(models: dict, small_case: Case) -> None:
    structures = {n: m for n, m in small_case.structures.items() if n != "Marrow"}
    without = replace(small_case, structures=structures)
    Predictor(models["slice_dose"], "cpu", "fp32").predict(without)
    with pytest.raises(MappingError, match="Marrow"):
        Predictor(models["bands"], "cpu", "fp32").predict(without)


def test_the_command_writes_every_output_and_says_what_it_is(
    models: dict, small_case: Case, tmp_path: Path, run: Callable[..., Any]
) -> None:
    folder = write_case_folder(tmp_path / "patient", small_case)
    common = ("predict", folder, "--output", tmp_path / "out", "--device", "cpu")
    code, record, _ = run(*common, "--model", models["bands"].folder, "--precision", "fp32")
    assert code == 0, record
    written = {each["key"]: each for each in record["cases"][0]["outputs"]}
    assert [(e["key"], e["role"]) for e in written.values()] == [kind[:2] for kind in BANDS]
    prediction = Predictor(models["bands"], "cpu", "fp32").predict(small_case)
    for output in prediction.outputs:
        stored = read_volume(Path(written[output.key]["file"]))
        np.testing.assert_allclose(stored.array, output.volume.array, atol=1e-3)
    assert Path(record["cases"][0]["dose"]).name == "dose.nii.gz"
    content = json.loads((tmp_path / "out" / "patient" / "prediction.json").read_text())
    assert content["outputs"][2] == {
        "key": "high",
        "role": "upper",
        "unit": "Gy",
        "structure": None,
        "level": 0.9,
        "member": None,
        "file": "high.nii.gz",
    }


@pytest.mark.parametrize("task", TASKS)
def test_the_worker_gives_what_this_process_gives(
    models: dict, small_case: Case, worker: WorkerClient, task: str
) -> None:
    stages: list[tuple[float, str]] = []
    there = worker.predict(
        small_case,
        str(models[task].folder),
        options=PredictOptions("cpu", "fp32"),
        progress=lambda *now: stages.append(now),
    )
    here = Predictor(models[task], "cpu", "fp32").predict(small_case)
    assert kinds(there) == kinds(here)
    for one, other in zip(there.outputs, here.outputs, strict=True):
        assert one.volume.array.dtype == other.volume.array.dtype
        np.testing.assert_allclose(one.volume.array, other.volume.array, atol=1e-4)
    expected = {"slice_dose": dummy_tasks.SliceDose, "bands": dummy_tasks.Bands}[task].stages[""]
    assert expected in {stage for _, stage in stages}
    shares = [share for share, _ in stages]
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_cancel_reaches_a_task_in_the_worker_which_lives_on(
    models: dict, small_case: Case, worker: WorkerClient
) -> None:
    stages: list[str] = []
    arguments: dict = {"model": str(models["bands"].folder)}
    sample = PredictOptions("cpu", "fp32", keep=("sample",), seed=5)
    worker.predict(small_case, **arguments)
    pid = worker.pid
    with pytest.raises(PredictionCancelled):
        worker.predict(
            small_case,
            **arguments,
            options=sample,
            progress=lambda _, stage: stages.append(stage),
            cancelled=lambda: "drawing a sample" in stages,
        )
    assert worker.pid == pid
    assert kinds(worker.predict(small_case, **arguments)) == BANDS
    assert worker.pid == pid


def test_the_workers_report_shows_every_output(
    models: dict, small_case: Case, worker: WorkerClient, tmp_path: Path
) -> None:
    case, prediction = tmp_path / "case", tmp_path / "prediction"
    write_case(case, small_case)
    options = PredictOptions("cpu", "fp32", keep=("sample",))
    model = str(models["bands"].folder)
    worker.run(Predict("r1", str(case), str(prediction), model, options=options))
    page = tmp_path / "report.html"
    worker.run(WriteReport("r2", str(case), str(prediction), str(page)))  # type: ignore[arg-type]
    text = page.read_text(encoding="utf-8")
    further = text[text.index('id="further"') : text.index('id="dvh"')]
    for words in ("Lower bound (90 %): ", "Upper bound (90 %): ", "Sample 1: "):
        assert words in further
    assert "Probability Bladder: 0." in further and "Segment Bladder: " in further
    assert further.count("<img ") == 5
    plain = Predictor(models["slice_dose"], "cpu", "fp32").predict(small_case)
    assert report_input(plain, prediction_summary(plain)).further == ()


def test_a_task_that_this_version_does_not_know_is_one_line_everywhere(
    models: dict, small_case: Case, worker: WorkerClient, tmp_path: Path, run: Callable[..., Any]
) -> None:
    import DosePredictionLib

    copy = dummy_model(tmp_path, "bands", models["bands"])
    written = copy.folder / "model.json"
    written.write_text(written.read_text().replace('"task": "bands"', '"task": "telepathy"'))
    rule = f"'telepathy', which version {DosePredictionLib.__version__} of DosePrediction"
    with pytest.raises(ModelError, match="telepathy") as here:
        Predictor(str(copy.folder), "cpu", "fp32")
    with pytest.raises(ModelError, match="telepathy") as there:
        worker.predict(small_case, str(copy.folder))
    folder = write_case_folder(tmp_path / "patient", small_case)
    code, record, _ = run("predict", folder, "--model", copy.folder, "--output", tmp_path / "out")
    assert code == 2
    for message in (str(here.value), str(there.value), record["error"]["message"]):
        assert rule in message and "Install a version that knows it" in message
        assert "\n" not in message
    with pytest.raises(ModelError, match="The recipe is of the task 'telepathy'"):
        Trainer(replace(tiny("bands"), task="telepathy"), PELVIS, tmp_path / "run")


def tiny(task: str, **changes: Any) -> TrainingConfig:
    whole = {
        "protocol": "pelvis",
        "encoding": EncodingSettings(
            GridSettings("fixed-spacing", spacing_mm=(8.0, 8.0, 8.0)), dose_scale_gy=52.0
        ),
        "crop": (8, 32, 32),
        "batch_size": 2,
        "steps": 8,
        "learning_rate": 2e-2,
        "validate_every": 4,
        "network": NetworkConfig(architecture=dummy_tasks.REGISTERED[task][1]),
        "task": task,
    }
    if task == "slice_dose":
        from DosePredictionLib.losses import LossTerm

        whole["loss"] = (LossTerm("mae", 1.0),)
    return TrainingConfig(**(whole | changes))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> list:
    folder = tmp_path_factory.mktemp("cohort")
    for index, shape in enumerate([(40, 36, 20), (44, 34, 18), (36, 38, 22)]):
        write_case_folder(folder / f"p{index}", pelvis_case(shape, (8.0, 8.0, 9.0)))
    return load_cases(folder, PELVIS, tiny("bands").encoding, workers=1)


@pytest.mark.parametrize(
    ("task", "figure"), [("slice_dose", "validation_mae_gy"), ("bands", "error_gy")]
)
@pytest.mark.usefixtures("one_thread")
def test_a_dummy_task_trains_resumes_and_is_exported(
    cohort: list, tmp_path: Path, task: str, figure: str
) -> None:
    config = tiny(task)
    trainer = Trainer(config, PELVIS, tmp_path / "run")
    trainer.train(cohort[:2], cohort[2:])
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert records[-1]["train_loss"] < records[0]["train_loss"]
    assert trainer.best == min(record[figure] for record in records)
    again = Trainer(config, PELVIS, tmp_path / "run")
    again.resume(tmp_path / "run" / "last.pt")
    assert again.step == 8
    described = {"training": {}, "licence": "none", "prescription_gy": {"PTV": 45}}
    (tmp_path / "run" / "data.json").write_text(json.dumps(described))
    model = export_run(tmp_path / "run", "made", "Made", tmp_path / "models")
    assert DoseModel.load(model.folder).manifest.task == task
    case = pelvis_case((48, 48, 32), (8.0, 8.0, 8.0))
    assert Predictor(DoseModel.load(model.folder), "cpu", "fp32").predict(case).outputs


@pytest.mark.usefixtures("one_thread")
def test_a_frozen_model_takes_part_but_is_neither_trained_nor_kept(
    cohort: list, tmp_path: Path
) -> None:
    trainer = Trainer(tiny("bands", task_options={"teacher": True}), PELVIS, tmp_path / "taught")
    teacher = trainer.task.frozen["teacher"]
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    batches = training_batches(cohort[:2], trainer.config, PELVIS)
    for _ in range(2):
        trainer.train_step(next(batches))
    assert not teacher.training
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    trained = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in trainer.network.parameters()}
    assert set(trainer.state()["model"]) == set(trainer.network.state_dict())
    assert not any("teacher" in key for key in trainer.state())
    alone = Trainer(tiny("bands"), PELVIS, tmp_path / "alone")
    alone.train_step(next(training_batches(cohort[:2], alone.config, PELVIS)))
    head = "layers.2.weight"  # the teacher changed what was learned
    assert not torch.equal(alone.network.state_dict()[head], trainer.network.state_dict()[head])


def test_task_options_that_nobody_takes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DosePredictionError, match="takes no task_options; the recipe sets depth"):
        Trainer(tiny("slice_dose", task_options={"depth": 3}), PELVIS, tmp_path / "run")


def test_registry_roles_and_required_channels_need_no_torch() -> None:
    import subprocess

    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from DosePredictionLib.prediction import ROLES, Output, Prediction\n"
        "from DosePredictionLib.tasks.registry import TASKS, task_entry\n"
        "from DosePredictionLib.structures.protocol import StructureProtocol\n"
        "from DosePredictionLib.worker import client, exchange, messages\n"
        "from DosePredictionLib.report import ReportInput\n"
        "from DosePredictionLib.io import outputs\n"
        "print(task_entry('dose_regression').required(StructureProtocol.load('pelvis')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "'PTV'" in done.stdout
