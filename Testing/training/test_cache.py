"""Preparing, configuring and starting runs."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from runs import run, tiny
from support import OPENKBP_SAMPLE

from DosePredictionLib.encoding.derived import DerivedInputs
from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.losses import LossTerm
from DosePredictionLib.schema import from_json, to_json
from DosePredictionLib.structures.protocol import StructureProtocol
from training.__main__ import main
from training.cache import open_cache, prepare
from training.checkpoints import save_checkpoint
from training.compact import open_compact, write_compact
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
    for name in ("ct", "mask_bits", "float32", "float16", "dose_gy", "region", "body"):
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


def test_a_compact_file_holds_the_dose_region_in_fine_steps(tmp_path: Path) -> None:
    settings = replace(recipe.encoding, derived=DerivedInputs(target_dose=True))
    file = tmp_path / "cases.npz"
    cases = tmp_path / "cases"
    cases.mkdir()
    shutil.copy(OPENKBP_SAMPLE, cases / "good.npz")
    (cases / "bad.npz").write_bytes(b"not a case")
    done = write_compact(cases, file, PROTOCOL, settings, workers=1)
    assert done.cases == ("good",) and list(done.refused) == ["bad"]
    assert file.stat().st_size < 450_000
    (stored,) = open_compact(file, PROTOCOL, settings)
    read = TrainingCase.read(OPENKBP_SAMPLE, PROTOCOL, settings)
    box, kept = read.region_box, stored.region_box
    inside = read.region[box]
    assert np.array_equal(stored.region[kept], inside)
    for name, step in (("dose_gy", 0.05), ("ct", 8 / 2000)):
        ours, theirs = getattr(stored, name)[kept], getattr(read, name)[box]
        assert np.abs(ours - theirs)[inside].max() <= step / 2 + 1e-5
        assert not ours[~inside].any()
    for name in ("mask_bits", "body"):
        assert np.array_equal(getattr(stored, name)[kept], getattr(read, name)[box]), name
    assert np.array_equal(stored.input()[-1][kept], read.input()[-1][box])  # target dose
    assert all(edge % 16 == 0 for edge in stored.ct.shape)
    # Known again as the same patient, and refused where a cache would be.
    assert stored.fingerprint == read.fingerprint
    with pytest.raises(DosePredictionError, match="another encoding"):
        open_compact(file, PROTOCOL, recipe.encoding)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DosePredictionError, match="no compact file"):
        open_compact(file, PROTOCOL, settings)


def test_a_validation_patient_in_training_is_refused(
    cohort: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--training", cohort.training, "--validation", cohort.training]
    assert main(tiny("train", *data, "--output", tmp_path / "run")) == 2
    assert "in training and in validation: 56x50x44, 60x48x40" in capsys.readouterr().err


def test_train_and_evaluate_on_a_cache_need_six_packages(
    train_arguments, cohort: SimpleNamespace, tmp_path: Path
) -> None:
    train = train_arguments(tmp_path / "run", extra=("steps=2", "validate_every=2"))
    evaluate = ["evaluate", "--run", str(tmp_path / "run"), "--cases", str(cohort.validation)]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({sorted(_others() | {'PIL'})}))\n"
        "from training.__main__ import main\n"
        f"sys.exit(main({train}) or main({evaluate}))"
    )
    done = run([sys.executable, "-c", code])
    assert torch.load(tmp_path / "run" / "last.pt")["step"] == 2
    assert "dose score, Gy" in done.stdout
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


def _others() -> set[str]:
    """Importable names of every installed package that the six do not ask for themselves."""
    wanted = ["torch", "numpy", "scipy", "safetensors", "tqdm", "tensorboard"]
    allowed: set[str] = set()
    while wanted:
        name = _canonical(wanted.pop())
        if name in allowed:
            continue
        allowed.add(name)
        with contextlib.suppress(PackageNotFoundError):
            needed = [each for each in requires(name) or [] if "extra ==" not in each]
            wanted += [re.split(r"[^\w.-]", each)[0] for each in needed]
    return {
        name
        for name, owners in packages_distributions().items()
        if not {_canonical(owner) for owner in owners} & allowed
        and name not in sys.stdlib_module_names | {"training", "DosePredictionLib"}
    }


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_values_are_set_by_dotted_names() -> None:
    config = overridden(
        recipe, ["learning_rate=3e-4", "network.stage2_filters=24", "crop=[16,32,48]"]
    )
    assert (config.learning_rate, config.network.stage2_filters) == (3e-4, 24)
    assert config.crop == (16, 32, 48) and config.encoding == recipe.encoding
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
    loss = (LossTerm("mae", 1.0), LossTerm("mae", 0.5, stage="coarse"))
    today = TrainingConfig("openkbp", recipe.encoding, loss=loss)
    old = to_json(today)
    for name in ("loss", "augmentation", "precision", "deterministic", "patience", "ema_start"):
        del old[name]
    old |= {"coarse_weight": 0.5, "flip_probability": 0.5, "ct_noise_hu": 10.0, "ct_shift_hu": 10.0}
    old["network"] = {"stage1_filters": 8, "stage2_filters": 16}
    assert from_json(TrainingConfig, upgraded(old)) == today


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
