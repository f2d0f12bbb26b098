"""A scale and a flow on a frozen model: from its residuals to samples, bands and refusals."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support import pelvis_case, write_case_folder

from benchmarks import diffusion, expected_error
from DosePredictionLib.app.models import show_model, verify_model
from DosePredictionLib.app.outputs import OutputRequest, write_outputs
from DosePredictionLib.app.summary import report_input
from DosePredictionLib.cli import main as cli
from DosePredictionLib.encoding.encoder import EncodingSettings, GridSettings
from DosePredictionLib.errors import ModelError, PredictionError
from DosePredictionLib.inference.predictor import Predictor
from DosePredictionLib.io import read_case
from DosePredictionLib.models.dose_model import DoseModel, write_manifest
from DosePredictionLib.models.heads import usable_heads
from DosePredictionLib.report.dvh_chart import structure_dvhs
from DosePredictionLib.report.tables import samples_note
from training.__main__ import main

SMALL = ("crop=[16, 32, 32]", "steps=2", "validate_every=2", "network.options.filters=2")
ABOUT = {"training": {"data": "phantoms"}, "licence": "MIT"}
GRID = EncodingSettings(GridSettings("fixed-spacing", spacing_mm=(8.0, 8.0, 8.0)))


def sets(*settings: str) -> list[str]:
    return [text for each in (*SMALL, *settings) for text in ("--set", each)]


def trained(built: SimpleNamespace, head: str, *settings: str) -> Path:
    """A head from recipe to folder, in the model's."""
    run = built.root / head
    data = ["--training", str(built.root / "training"), "--validation", str(built.root / "valid")]
    recipe = ["--recipe", f"pelvis_residual_{head}", "--frozen", str(built.model), *sets(*settings)]
    assert main(["train", *recipe, *data, "--output", str(run)]) == 0
    known = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps({**known, **ABOUT}))
    call = ["export", "--run", str(run), "--name", head, "--title", head]
    assert main([*call, "--output", str(built.model)]) == 0
    return built.model / head


def residuals(built: SimpleNamespace) -> None:
    for name in ("training", "valid"):
        call = ["residuals", "--model", built.model, "--cases", built.root / f"{name}_cases"]
        assert main([*map(str, call), "--cache", str(built.root / name)]) == 0


@pytest.fixture(scope="module")
def built(
    tmp_path_factory: pytest.TempPathFactory, pelvis_model: DoseModel
) -> Iterator[SimpleNamespace]:
    """A model with both heads, and the cases that they learned from."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("heads")
    manifest = replace(pelvis_model.manifest, name="frozen", encoding=GRID)
    made = DoseModel.create(root / "frozen", manifest, pelvis_model.network().state_dict())
    built = SimpleNamespace(root=root, model=made.folder)
    for name, sizes in (("training", ((30, 24, 20), (28, 26, 22))), ("valid", ((32, 24, 18),))):
        for index, size in enumerate(sizes):
            write_case_folder(
                root / f"{name}_cases" / f"{name}{index}", pelvis_case(size, (12.0, 12.0, 12.0))
            )
        call = ["prepare", "--recipe", "pelvis_residual_scale", "--frozen", built.model]
        call += ["--cases", root / f"{name}_cases", "--output", root / name, "--workers", "1"]
        assert main([*map(str, call)]) == 0
    residuals(built)
    trained(built, "scale", "network.options.head_filters=2")
    residuals(built)
    trained(built, "flow", "network.options.filters=4")
    yield built
    torch.set_num_threads(threads)


def predicted(built: SimpleNamespace, output: Path, *more: str) -> dict:
    case = built.root / "valid_cases" / "valid0"
    call = ["predict", str(case), "--model", str(built.model), "--output", str(output)]
    assert cli([*call, "--device", "cpu", *more]) == 0
    record: dict = json.loads((output / "valid0" / "prediction.json").read_text())
    return record


def test_heads_are_bound_to_the_weights_whose_residuals_they_learned(built):
    model = DoseModel.load(built.model)
    scale, flow = (DoseModel.load(built.model / name).manifest for name in ("scale", "flow"))
    assert scale.rides_on == model.manifest.checksums
    assert flow.rides_on == (*model.manifest.checksums, scale.weights_sha256)
    assert scale.encoding == flow.encoding == GRID
    heads, findings = usable_heads(model)
    assert list(heads) == ["scale", "flow"] and not findings


def test_a_head_learns_from_held_out_patients_who_then_calibrate_nothing(
    built, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("training.export.held_out", lambda protocol: frozenset({"training0"}))
    call = ["export", "--run", built.root / "scale", "--name", "again", "--title", "again"]
    assert main([*map(str, call), "--output", str(tmp_path / "heads")]) == 0
    silent = shutil.copytree(built.root / "scale", tmp_path / "silent") / "data.json"
    silent.write_text(json.dumps(ABOUT))  # whom it saw is asked of a head, too
    call[2] = tmp_path / "silent"
    assert main([*map(str, call), "--output", str(tmp_path / "others")]) == 2
    assert "does not list the patients" in capsys.readouterr().err
    cases = built.root / "training_cases"
    doses = ["--output", str(tmp_path / "doses"), "--model", str(built.model)]
    assert cli(["predict", *map(str, sorted(cases.iterdir())), *doses, "--device", "cpu"]) == 0
    capsys.readouterr()
    call = ["calibrate", "--model", built.model, "--cases", cases, "--predictions"]
    assert main([*map(str, call), str(tmp_path / "doses")]) == 2
    told = capsys.readouterr().err
    assert "2 patients shaped the weights of frozen (training0, training1)" in told


def test_samples_lie_in_files_and_record_and_repeat_by_their_seed(built, tmp_path):
    record = predicted(built, tmp_path / "one", "--samples", "2", "--seed", "3")
    keys = [each["key"] for each in record["outputs"]]
    assert keys == ["dose", "expected_error", "sample_1", "sample_2", "sample_spread"]
    samples = record["samples"]
    assert (samples["count"], samples["seed"]) == (2, 3)
    rectum = samples["structures"]["Rectum"]
    assert len(rectum["endpoints"]["Dmean_gy"]) == len(rectum["curves_gy"]) == 2
    assert len(rectum["curves_gy"][0]) == 99
    again = predicted(built, tmp_path / "two", "--samples", "1", "--seed", "4")
    means = again["samples"]["structures"]["Rectum"]["endpoints"]["Dmean_gy"]
    assert means[0] == rectum["endpoints"]["Dmean_gy"][1]  # the second sample of the seed 3


def test_what_nobody_can_draw_is_refused(built, tmp_path, pelvis_model, capsys):
    case = str(built.root / "valid_cases" / "valid0")
    call = ["predict", case, "--output", str(tmp_path / "out"), "--model"]
    assert cli([*call, str(pelvis_model.folder), "--samples", "2"]) == 2
    assert "no head that draws samples" in capsys.readouterr().err
    assert cli([*call, str(built.model), "--samples", "1", "--spread"]) == 2
    assert "One sample has no spread" in capsys.readouterr().err
    assert cli([*call, str(built.model), "--samples", "-1"]) == 2
    assert cli([*call, str(built.model / "scale")]) == 2
    assert "is a head" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_sample_that_is_not_finite_names_its_seed(built, monkeypatch):
    predictor = Predictor(str(built.model), "cpu", "fp32")
    flow = predictor.heads["flow"]
    drawn = type(flow.task).predict

    def broken(task, network, x, passes):
        return {name: values / 0 * 0 for name, values in drawn(task, network, x, passes).items()}

    monkeypatch.setattr(type(flow.task), "predict", broken)
    with pytest.raises(PredictionError, match=r"sample of the seed 8 .* NaN"):
        predictor.predict(read_case(built.root / "valid_cases" / "valid0"), samples=1, seed=8)


@pytest.mark.parametrize("fault", ["weights", "encoding", "task"])
def test_a_head_of_something_else_is_not_used(built, tmp_path, fault):
    folder = tmp_path / "frozen"
    shutil.copytree(built.model, folder)
    head = DoseModel.load(folder / "scale").manifest
    changes = {
        "weights": {"rides_on": ("0" * 64,)},
        "encoding": {"encoding": replace(GRID, dose_scale_gy=50.0)},
        "task": {"task": "residual_flow"},
    }
    write_manifest(folder / "scale", replace(head, **changes[fault]))
    heads, (finding,) = usable_heads(DoseModel.load(folder))
    assert not heads and finding.id == "head-unusable"
    case = read_case(built.root / "valid_cases" / "valid0")
    with pytest.raises(ModelError):
        Predictor(str(folder), "cpu").predict(case, samples=1)


def test_doses_of_another_model_teach_no_head(built, tmp_path, capsys):
    cache = tmp_path / "cache"
    shutil.copytree(built.root / "training", cache)
    shutil.rmtree(cache / "earlier")
    call = ["train", "--recipe", "pelvis_residual_scale", "--frozen", str(built.model), *sets()]
    call += ["--validation", str(built.root / "valid"), "--output", str(tmp_path / "run")]
    assert main([*call, "--training", str(cache)]) == 2
    assert "does not hold the doses of the frozen model" in capsys.readouterr().err
    (cache / "earlier").mkdir()
    about = {"weights_sha256": ["0" * 64]}
    (cache / "earlier" / "residuals.json").write_text(json.dumps(about))
    assert main([*call, "--training", str(cache)]) == 2
    cases = ["--cases", str(built.root / "training_cases"), "--cache", str(cache)]
    assert main(["residuals", "--model", str(built.model), *cases]) == 2
    assert "of other weights" in capsys.readouterr().err


def test_widths_travel_into_the_record_and_samples_into_the_report(built, tmp_path):
    case = read_case(built.root / "valid_cases" / "valid0")
    prediction = Predictor(str(built.model), "cpu", "fp32").predict(case, samples=2)
    written = write_outputs(prediction, OutputRequest(tmp_path, goals=None), 0.0, 0.0)
    widths = written.summary["widths"]
    error = prediction.of_roles(["expected error"])[0].volume
    inside = prediction.bound.structures["Rectum"].mask.binary()
    assert widths["Rectum"]["endpoints"]["Dmean_gy"] == pytest.approx(
        float(np.mean(error.array[inside])), rel=0.3, abs=0.05
    )
    report = report_input(prediction, written.summary)
    assert samples_note(report).startswith("Thin: 2 samples (seed 0)")
    curves = {each.structure.key: each.samples for each in structure_dvhs(report)}
    assert curves["Rectum"].shape == (3, 99)


def test_models_show_and_verify_name_the_heads(built, tmp_path):
    assert list(show_model(str(built.model))["heads"]) == ["scale", "flow"]
    verify_model(str(built.model))
    folder = tmp_path / "frozen"
    shutil.copytree(built.model, folder)
    weights = folder / "flow" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match="exchanged"):
        verify_model(str(folder))


def test_benchmarks_print_a_line_a_case_and_a_line_a_way(built, monkeypatch, capsys):
    caches = ["--fit", str(built.root / "training"), "--cases", str(built.root / "valid")]
    call = ["benchmark", "--model", str(built.model), *caches]
    monkeypatch.setattr(sys, "argv", call)
    expected_error.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["case", "valid0", "mean"]
    assert lines[1].split()[1:] == lines[2].split()[1:]  # of one case
    monkeypatch.setattr(sys, "argv", [*call, "--samples", "2", "--samplers", "ddim:1"])
    diffusion.main()
    lines = capsys.readouterr().out.splitlines()
    ways = [line[:28].strip() for line in lines[2:]]
    noise = ["scale x white noise", "scale x Gaussian field"]
    assert ways == ["regression", "2 single passes", *noise, "flow ddim 1"]
    regression, passes, field = (lines[index][28:].split() for index in (2, 3, 5))
    assert passes[1] == regression[1]  # not mirrored: the first pass is the model itself
    assert float(regression[1]) == float(regression[2])  # one sample is the mean
    assert 0 < float(field[-3]) < 100 and field[-1] == "(33)"  # CRPS, and of two samples
