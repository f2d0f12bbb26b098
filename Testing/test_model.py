from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from support import ROOT, random_network, write_checkpoint

from DosePredictionLib.errors import ModelError
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.structures.protocol import StructureProtocol

PELVIS = StructureProtocol.load("pelvis")


@pytest.mark.parametrize("key", ["model", "model_state_dict", None])
def test_a_published_checkpoint_gives_the_same_dose(tmp_path: Path, key: str | None) -> None:
    network = random_network(filters=(8, 16))
    checkpoint = write_checkpoint(tmp_path / "best.pth", network, key)
    model = DoseModel.import_checkpoint(checkpoint, "imported", PELVIS, tmp_path / "models")
    x = torch.rand(1, 14, 16, 16, 16)
    with torch.no_grad():
        assert torch.equal(model.network()(x).final, network(x).final)
    assert model.manifest.encoding.dose_scale_gy == 52.0
    assert model.manifest.encoding.grid.size == (256, 256, 64)
    assert DoseModel.load(tmp_path / "models" / "imported").manifest == model.manifest


def test_a_checkpoint_that_would_execute_code_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    class Harmful:
        def __reduce__(self) -> tuple:
            return (Path.touch, (marker,))

    path = tmp_path / "bad.pt"
    torch.save({"model": Harmful()}, path)
    with pytest.raises(ModelError, match="execute code"):
        DoseModel.import_checkpoint(path, "bad", PELVIS, tmp_path / "models")
    path.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(ModelError):
        DoseModel.import_checkpoint(path, "bad", PELVIS, tmp_path / "models")
    assert not marker.exists()
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ({"model": {"weight": torch.ones(3)}}, "no two-stage network"),
        ({"epoch": 3}, "no state dict"),
        ([1, 2, 3], "no state dict"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(
    tmp_path: Path, content: object, rule: str
) -> None:
    torch.save(content, tmp_path / "c.pt")
    with pytest.raises(ModelError, match=rule):
        DoseModel.import_checkpoint(tmp_path / "c.pt", "x", PELVIS, tmp_path / "models")


def test_missing_and_surplus_keys_are_refused(tmp_path: Path) -> None:
    state = random_network().state_dict()
    missing = {k: v for k, v in state.items() if k != "stage2.dec1.bn2.weight"}
    torch.save(missing, tmp_path / "c.pt")
    with pytest.raises(ModelError, match=r"dec1\.bn2\.weight"):
        DoseModel.import_checkpoint(tmp_path / "c.pt", "x", PELVIS, tmp_path / "models")
    torch.save({**state, "stage3.weight": torch.ones(1)}, tmp_path / "c.pt")
    with pytest.raises(ModelError, match="stage3"):
        DoseModel.import_checkpoint(tmp_path / "c.pt", "x", PELVIS, tmp_path / "models")


def test_a_checkpoint_of_another_protocol_is_refused(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "c.pt", random_network(structures=10))
    with pytest.raises(ModelError, match=r"10 structures.*--protocol"):
        DoseModel.import_checkpoint(checkpoint, "x", PELVIS, tmp_path / "models")


def test_importing_twice_or_under_a_bad_name_is_refused(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "c.pt", random_network())
    DoseModel.import_checkpoint(checkpoint, "once", PELVIS, tmp_path / "models")
    with pytest.raises(ModelError, match="exists"):
        DoseModel.import_checkpoint(checkpoint, "once", PELVIS, tmp_path / "models")
    for name in ("", "../up", ".hidden", "a/b"):
        with pytest.raises(ModelError, match="cannot name"):
            DoseModel.import_checkpoint(checkpoint, name, PELVIS, tmp_path / "models")
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["once"]


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "c.pt", random_network())
    model = DoseModel.import_checkpoint(checkpoint, "m", PELVIS, tmp_path / "models")
    content = bytearray(model.weights_path.read_bytes())
    content[-1] ^= 1
    model.weights_path.write_bytes(bytes(content))
    with pytest.raises(ModelError, match="SHA-256"):
        model.network()
    model.weights_path.unlink()
    with pytest.raises(ModelError, match="missing"):
        model.network()


def test_an_unknown_model_is_named_with_the_installed_ones() -> None:
    with pytest.raises(ModelError, match="no model 'nonsense'"):
        DoseModel.load("nonsense")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"schema_version": 99}, "schema version 99"),
        ({"surprise": 1}, "surprise"),
        ({"encoding": {}}, "grid"),
        ({"protocol": 3}, "protocol"),
    ],
)
def test_a_wrong_manifest_is_refused_with_the_place(
    tmp_path: Path, change: dict, rule: str
) -> None:
    checkpoint = write_checkpoint(tmp_path / "c.pt", random_network())
    model = DoseModel.import_checkpoint(checkpoint, "m", PELVIS, tmp_path / "models")
    path = model.folder / "model.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **change}))
    with pytest.raises(ModelError, match=rule):
        DoseModel.load(model.folder)


def test_every_shipped_model_is_sound_small_and_described() -> None:
    shipped = [m for m in DoseModel.installed() if ROOT in m.folder.parents]
    assert shipped
    for model in shipped:
        model.network()
        manifest = model.manifest
        assert model.weights_path.stat().st_size <= 15 * 2**20
        assert manifest.licence and manifest.training and manifest.validation
        assert "not for clinical use" in manifest.intended_use.lower()
    defaults = [
        (m.manifest.protocol, m.manifest.task == "segmentation")
        for m in shipped
        if m.manifest.default
    ]
    assert len(set(defaults)) == len(defaults)
