"""Manifests of other versions, foreign folders in the model path, names and unsound checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import pelvis_case, random_network, write_case_folder

from DosePredictionLib.errors import CaseError, DosePredictionError, ModelError
from DosePredictionLib.files import check_file_name
from DosePredictionLib.inference.predictor import Predictor
from DosePredictionLib.io import read_case
from DosePredictionLib.models.combine import combine_models
from DosePredictionLib.models.dose_model import DoseModel, write_manifest
from DosePredictionLib.models.manifest import (
    SCHEMA_MINOR,
    SCHEMA_VERSION,
    installed_manifests,
    read_manifest,
    read_model_folder,
)
from DosePredictionLib.schema import to_json
from DosePredictionLib.structures.protocol import StructureProtocol
from training.__main__ import load_recipe
from training.__main__ import main as train

PELVIS = StructureProtocol.load("pelvis")
SHIPPED = {
    "openkbp-beams",
    "openkbp-dcnn",
    "openkbp-two-stage",
    "pelvis-organs-simulated",
    "pelvis-simulated",
    "pelvis-wishes",
}


@pytest.fixture
def model_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of model folders in the model path."""
    root = tmp_path / "models"
    root.mkdir()
    monkeypatch.setenv("DOSE_PREDICTION_MODELS", str(root))
    return root


def small_model(root: Path, name: str = "small") -> DoseModel:
    """A model that predicts in a fraction of a second."""
    root.mkdir(exist_ok=True)
    torch.save(random_network().state_dict(), root / "checkpoint.pt")
    model = DoseModel.import_checkpoint(root / "checkpoint.pt", name, PELVIS, root)
    (root / "checkpoint.pt").unlink()
    encoding = model.manifest.encoding
    encoding = replace(encoding, grid=replace(encoding.grid, size=(48, 48, 32)))
    write_manifest(model.folder, replace(model.manifest, encoding=encoding))
    return DoseModel.load(model.folder)


def change(model: DoseModel, **entries: object) -> None:
    path = model.folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def test_a_folder_of_the_first_version_is_read(tmp_path: Path) -> None:
    model = small_model(tmp_path / "models")
    content = json.loads((model.folder / "model.json").read_text())
    for name in ("schema_minor", "task", "mirror", "members", "licence", "intended_use"):
        del content[name]
    for part, name in (("encoding", "derived"), ("encoding", "strips"), ("expectations", "hu_min")):
        del content[part][name]
    (model.folder / "model.json").write_text(json.dumps(content))
    old = DoseModel.load(model.folder)
    assert old.manifest == replace(model.manifest, schema_minor=0)
    assert old.manifest.task == "dose_regression" and not old.findings
    for shipped in installed_manifests().models:
        assert shipped.manifest.schema_version == SCHEMA_VERSION and not shipped.findings


def test_additions_of_a_newer_minor_version_are_ignored_with_a_finding(tmp_path: Path) -> None:
    model = small_model(tmp_path / "models")
    encoding = to_json(model.manifest.encoding) | {"beams": 9}
    change(model, schema_minor=SCHEMA_MINOR + 1, calibration={"a": 1}, encoding=encoding)
    newer = DoseModel.load(model.folder)
    assert newer.manifest == replace(model.manifest, schema_minor=SCHEMA_MINOR + 1)
    (finding,) = newer.findings
    assert finding.id == "model-newer" and finding.severity == "warning"
    assert "calibration" in finding.message and "encoding.beams" in finding.message
    prediction = Predictor(newer, "cpu", "fp32").predict(pelvis_case((48, 48, 32), (8.0,) * 3))
    assert finding in prediction.findings
    change(model, dose_scale=-1, encoding=encoding | {"dose_scale_gy": -1})
    with pytest.raises(ModelError, match="dose_scale_gy"):  # what it knows is still checked
        DoseModel.load(model.folder)
    change(model, schema_minor=SCHEMA_MINOR, encoding=encoding)
    with pytest.raises(ModelError, match="unknown entries"):  # of its own version: a mistake
        DoseModel.load(model.folder)


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 99])
def test_a_newer_version_is_refused_with_both_and_what_to_do(tmp_path: Path, version: int) -> None:
    model = small_model(tmp_path / "models")
    change(model, schema_version=version, everything="else")
    with pytest.raises(ModelError) as caught:
        DoseModel.load(model.folder)
    assert f"schema version {version}" in str(caught.value)
    assert f"reads up to {SCHEMA_VERSION}. Install a newer version" in str(caught.value)


@pytest.mark.parametrize("version", [None, "1", 1.0, True, 0, -1, [1]])
def test_a_version_that_is_none_is_refused(tmp_path: Path, version: object) -> None:
    model = small_model(tmp_path / "models")
    change(model, schema_version=version)
    with pytest.raises(ModelError, match="schema_version"):
        read_manifest(model.folder)


@pytest.mark.parametrize(
    ("entries", "names"),
    [
        ({"task": "fluence_map"}, "task is 'fluence_map', which version .* does not know"),
        (
            {"architecture": {"name": "diffusion", "arguments": {}}},
            "installed version does not know the architecture 'diffusion'.*two_stage",
        ),
        ({"architecture": {"name": "two_stage", "arguments": {}}}, "lacks.*structure_channels"),
        (
            {"architecture": {"name": "two_stage", "arguments": {"structure_channels": True}}},
            "structure_channels",
        ),
        ({"weights_sha256": "abc"}, "weights_sha256 .*64 hexadecimal"),
        ({"name": "../up"}, "cannot name a model"),
        ({"default": 1}, "default"),
    ],
)
def test_what_a_manifest_names_must_be_known(tmp_path: Path, entries: dict, names: str) -> None:
    model = small_model(tmp_path / "models")
    change(model, **entries)
    with pytest.raises(ModelError, match=rf"model\.json.*{names}") as caught:
        DoseModel.load(model.folder)
    assert "\n" not in str(caught.value)


FOREIGN = {
    "broken": "{",
    "foreign": '{"model_type": "bert", "hidden_size": 768}',
    "a_list": "[1, 2]",
    "null": "null",
    "empty": "",
    "newer": '{"schema_version": 7}',
    "nan": '{"schema_version": 1, "dose": NaN}',
    "deep": "[" * 50_000,
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_folder_in_the_model_path_is_skipped_and_named(
    model_path: Path, name: str, run: Callable[..., Any]
) -> None:
    small_model(model_path)
    (model_path / name).mkdir()
    (model_path / name / "model.json").write_text(FOREIGN[name])
    models, (finding,) = installed_manifests()
    assert {model.manifest.name for model in models} == SHIPPED | {"small"}
    assert finding.id == "model-skipped" and str(model_path / name) in finding.message
    code, listed, _ = run("models", "list")
    assert code == 0 and [each["name"] for each in listed["models"]][-1] == "small"
    assert [each["message"] for each in listed["skipped"]] == [finding.message]
    with pytest.raises(ModelError, match=rf"{name}.model\.json"):  # by its path, its own error
        DoseModel.load(model_path / name)


def test_what_was_skipped_reaches_check_list_and_the_checks_of_a_prediction(
    model_path: Path, tmp_path: Path, run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    from DosePredictionLib.cli import main

    small_model(model_path)
    (model_path / "broken").mkdir()
    (model_path / "broken" / "model.json").write_text("{")
    code, report, _ = run("check")
    assert code == 0 and "broken" in " ".join(report["check"]["models_skipped"])
    weights = [each["weights"] for each in report["check"]["models"]]
    assert weights == ["verified"] * (len(SHIPPED) + 1)
    assert main(["models", "list"]) == 0
    assert "broken" in capsys.readouterr().out.splitlines()[-1]
    folder = write_case_folder(tmp_path / "patient", pelvis_case((48, 48, 32), (8.0,) * 3))
    call = ("predict", folder, "--model", "small", "--output", tmp_path / "out", "--device", "cpu")
    code, predicted, _ = run(*call)
    assert code == 0
    checks = {check["id"]: check for check in predicted["cases"][0]["checks"]}
    assert "broken" in checks["model-skipped"]["message"]
    by_path = DoseModel.load(model_path / "small")  # nothing was looked for
    assert by_path.findings == ()


def test_hidden_and_left_folders_are_never_listed(model_path: Path) -> None:
    model = small_model(model_path)
    for name in (".partial-0a1b2c3d-12-xyz", ".hidden"):
        (model_path / name).mkdir()
        content = (model.folder / "model.json").read_text()
        (model_path / name / "model.json").write_text(content.replace('"small"', '"left"'))
    (model_path / ".partial-broken").mkdir()
    (model_path / ".partial-broken" / "model.json").write_text("{")
    (model_path / "no model").mkdir()
    (model_path / "a file").write_text("x")
    models, skipped = installed_manifests()
    assert {each.manifest.name for each in models} == SHIPPED | {"small"} and skipped == ()


def test_two_models_of_one_name_are_named(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = small_model(model_path)
    second = small_model(tmp_path / "more")
    monkeypatch.setenv("DOSE_PREDICTION_MODELS", f"{model_path}:{tmp_path / 'more'}:{model_path}")
    models, (finding,) = installed_manifests()
    assert [each.folder for each in models if each.manifest.name == "small"] == [first.folder]
    assert finding.id == "model-name-twice"
    assert str(first.folder) in finding.message and str(second.folder) in finding.message
    assert finding in DoseModel.load("small").findings


BAD_NAMES = [
    *("", ".", "..", "a/b", "../../x", "/absolute", "a\\b"),
    *("a\0b", "a\nb", "x" * 201, "\udc80"),
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_is_no_plain_one_becomes_no_path(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CaseError, match=r"cannot name the case: .*Use letters") as caught:
        check_file_name(name, "the case", CaseError)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    root = tmp_path / "models"
    model = small_model(root)
    before = sorted(tmp_path.rglob("*"))
    for make in (
        lambda: DoseModel.import_checkpoint(tmp_path / "c.pt", name, PELVIS, root),
        lambda: combine_models([model, model], name, "Title", root),
    ):
        with pytest.raises(ModelError, match="cannot name a model"):
            make()
    call = ("export", "--run", str(tmp_path / "run"), "--title", "T", "--output", str(root))
    assert train([*call, f"--name={name}"]) == 2
    assert "cannot name a model" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_good_names_pass() -> None:
    for name in ("a", "Müller, Hans", "x" * 200, "..a", "a.b", "-", "日本"):
        assert check_file_name(name, "it") == name
    with pytest.raises(DosePredictionError, match="longer than 200 bytes"):
        check_file_name("ü" * 101, "it")


def test_a_case_is_never_called_as_its_parent(tmp_path: Path, run: Callable[..., Any]) -> None:
    file = tmp_path / "cases" / "...npz"
    file.parent.mkdir()
    file.write_bytes(b"")
    with pytest.raises(CaseError, match=r"'\.\.' cannot name the case .*\.\.\.npz"):
        read_case(file)
    code, answer, _ = run("predict", file, "--output", tmp_path / "out")
    assert code == 2 and "cannot name" in answer["error"]["message"]
    assert not (tmp_path / "out").exists()


def unsound() -> dict[str, Callable[[dict[str, Any]], Any]]:
    first = "stage1.enc1.0.weight"

    def with_first(make: Callable[[torch.Tensor], object]) -> Callable[[dict[str, Any]], Any]:
        return lambda state: {**state, first: make(state[first])}

    return {
        "is no two-stage network": lambda state: {},
        "calls a weight 3": lambda state: {**state, 3: torch.ones(1)},
        r"shape \[4\]": with_first(lambda weight: torch.ones(4)),
        r"shape \[\]": with_first(lambda weight: torch.tensor(1.0)),
        "repeats fewer": with_first(lambda weight: torch.ones(1).expand(10**9, 10, 3, 3, 3)),
        "NaN": with_first(lambda weight: weight * float("nan")),
        "infinite": with_first(lambda weight: weight / 0),
        "is complex": with_first(lambda weight: weight.to(torch.complex64)),
        "is stored as": with_first(lambda weight: weight.to_sparse()),
        "stage1_filters": with_first(lambda weight: torch.ones(513, 10, 3, 3, 3)),
        "no state dict": lambda state: {"model": [1, 2]},
        "not fit the architecture": lambda state: {
            **state, "stage1.out_conv.bias": torch.ones(2)
        },
    }  # fmt: skip


@pytest.mark.parametrize("reason", unsound())
def test_an_unsound_checkpoint_is_one_clear_line(tmp_path: Path, reason: str) -> None:
    path = tmp_path / "c.pt"
    torch.save(unsound()[reason](dict(random_network().state_dict())), path)
    with pytest.raises(ModelError, match=rf"{reason}") as caught:
        DoseModel.import_checkpoint(path, "x", PELVIS, tmp_path / "models")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "models").exists()


def test_an_empty_checkpoint_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "c.pt").write_bytes(b"")
    with pytest.raises(ModelError, match=r"c\.pt is not a readable checkpoint") as caught:
        DoseModel.import_checkpoint(tmp_path / "c.pt", "x", PELVIS, tmp_path / "models")
    assert "\n" not in str(caught.value)


def test_a_model_is_never_written_with_weights_that_are_no_numbers(tmp_path: Path) -> None:
    model = small_model(tmp_path / "models")
    weights = model.network().state_dict()
    weights["stage2.out_conv.bias"].fill_(float("inf"))
    with pytest.raises(ModelError, match=r"stage2\.out_conv\.bias holds NaN or infinite"):
        DoseModel.create(tmp_path / "models" / "other", model.manifest, weights)
    assert not (tmp_path / "models" / "other").exists()


def test_folders_of_models_that_cannot_be_read_are_named(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_model(model_path)
    (model_path / "loop").symlink_to(model_path / "loop")
    (model_path / "dangling").mkdir()
    (model_path / "dangling" / "model.json").symlink_to(model_path / "nowhere")
    (model_path / "folder").mkdir()
    (model_path / "folder" / "model.json").mkdir()
    monkeypatch.setenv("DOSE_PREDICTION_MODELS", f"{model_path}:/dev/null")
    models, skipped = installed_manifests()
    assert {each.manifest.name for each in models} == SHIPPED | {"small"}
    assert len(skipped) == 2
    assert "loop" in skipped[1].message or "loop" in skipped[0].message
    assert read_model_folder(model_path / "small").findings == ()


def test_a_run_that_cannot_be_exported_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(json.dumps(to_json(load_recipe("pelvis_simulated"))))
    call = ["export", "--run", str(run), "--title", "T", "--name", "n", "--output", str(tmp_path)]

    def refused(reason: str) -> None:
        assert train(call) == 2
        printed = capsys.readouterr().err
        assert reason in printed and printed.count("\n") == 1

    refused("data.json cannot be read")
    (run / "data.json").write_text("{}")
    refused("data.json lacks ['training', 'licence']")
    (run / "data.json").write_text('{"training": {}, "licence": "MIT", "fractions": 0}')
    refused("data.json.fractions")
    (run / "data.json").write_text('{"training": {}, "licence": "MIT"}')
    refused("no checkpoint last.pt")
    (run / "last.pt").write_bytes(b"")
    refused("last.pt is no checkpoint of this trainer")
    torch.save({"step": 3}, run / "last.pt")
    refused("last.pt is no checkpoint of this trainer")
    torch.save({"step": 3, "average": Path("x")}, run / "last.pt")  # would execute code
    refused("last.pt is no checkpoint of this trainer")
    (run / "config.json").write_text("null")
    refused("config.json must be an object")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "run"]
