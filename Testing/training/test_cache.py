"""Preparing, configuring and starting runs."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from runs import command, run
from support import OPENKBP_SAMPLE

from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.protocol import StructureProtocol
from DosePredictionLib.schema import from_json, to_json
from training.cache import open_cache, prepare
from training.checkpoints import save_checkpoint
from training.config import TrainingConfig, upgraded
from training.data import TrainingCase
from training.overrides import overridden
from training.recipes.openkbp_two_stage import recipe

PROTOCOL = StructureProtocol.load("openkbp")


def test_a_cache_holds_the_case_and_lists_what_it_refused(tmp_path: Path) -> None:
    cases = tmp_path / "cases"
    cases.mkdir()
    (cases / "good.npz").write_bytes(OPENKBP_SAMPLE.read_bytes())
    (cases / "bad.npz").write_bytes(b"not a case")
    done = prepare(cases, tmp_path / "cache", PROTOCOL, recipe.encoding, workers=1)
    assert done.cases == ("good",) and list(done.refused) == ["bad"]
    assert json.loads((tmp_path / "cache" / "cache.json").read_text())["refused"]["bad"]
    (stored,) = open_cache(tmp_path / "cache", PROTOCOL, recipe.encoding)
    read = TrainingCase.read(cases / "good.npz", PROTOCOL, recipe.encoding)
    for name in ("ct", "mask_bits", "dose_gy", "region", "body", "derived"):
        assert np.array_equal(getattr(stored, name), getattr(read, name)), name
    assert isinstance(stored.ct, np.memmap) and stored.spacing_mm == read.spacing_mm
    # What is there is not made again; another encoding or protocol is refused.
    again = (tmp_path / "cache" / "cases" / "good").stat().st_mtime_ns
    prepare(cases, tmp_path / "cache", PROTOCOL, recipe.encoding, workers=1)
    assert (tmp_path / "cache" / "cases" / "good").stat().st_mtime_ns == again
    with pytest.raises(DosePredictionError, match="another encoding"):
        open_cache(tmp_path / "cache", PROTOCOL, replace(recipe.encoding, dose_scale_gy=60.0))
    with pytest.raises(DosePredictionError, match="another protocol"):
        open_cache(tmp_path / "cache", StructureProtocol.load("pelvis"), recipe.encoding)


def test_a_validation_patient_in_training_is_refused(
    cohort: SimpleNamespace, tmp_path: Path
) -> None:
    data = ["--training", cohort.training, "--validation", cohort.training]
    done = run(command("train", *data, "--output", tmp_path / "run"), check=False)
    assert done.returncode == 2
    assert "in training and in validation: 56x50x44, 60x48x40" in done.stderr


def test_training_on_a_cache_needs_six_packages(train_command, tmp_path: Path) -> None:
    blocked = ["nibabel", "SimpleITK", "pydicom", "matplotlib", "jinja2", "monai", "pandas"]
    arguments = train_command(tmp_path / "run", extra=("steps=2", "validate_every=2"))
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked}))\n"
        "from training.__main__ import main; sys.exit(main())"
    )
    run([sys.executable, "-c", code, *arguments[3:]])
    assert torch.load(tmp_path / "run" / "last.pt")["step"] == 2


def test_values_are_set_by_dotted_names() -> None:
    config = overridden(recipe, ["learning_rate=3e-4", "network.stage2_filters=24", "crop=[1,2,3]"])
    assert (config.learning_rate, config.network.stage2_filters) == (3e-4, 24)
    assert config.crop == (1, 2, 3) and config.encoding == recipe.encoding
    for wrong, message in (
        ("learning_rat=1", "near: learning_rate"),
        ("network.stage2=1", "near: stage2_filters"),
        ("seed.more=1", "not a part of a plain value"),
        ("steps=many", "must be of type int"),
        ("steps", "NAME=VALUE"),
    ):
        with pytest.raises(DosePredictionError, match=message):
            overridden(recipe, [wrong])


def test_a_configuration_of_the_first_version_is_read() -> None:
    old = to_json(recipe)
    for name in ("loss", "augmentation", "precision", "deterministic", "patience", "ema_start"):
        del old[name]
    old |= {"coarse_weight": 0.5, "flip_probability": 0.5, "ct_noise_hu": 10.0, "ct_shift_hu": 10.0}
    old["network"] = {"stage1_filters": 8, "stage2_filters": 16}
    assert from_json(TrainingConfig, upgraded(old)) == recipe


def test_without_space_the_old_checkpoint_survives(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"step": 1})
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs a device that is always full")
    (tmp_path / "last.pt.partial").symlink_to(full)
    with pytest.raises(DosePredictionError, match="The one before it is whole"):
        save_checkpoint(path, {"step": 2, "much": torch.zeros(1_000_000)})
    assert torch.load(path) == {"step": 1}
