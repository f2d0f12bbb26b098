"""The experiment on dose guidance from cohorts to its table, in its smallest form."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from guides import beam_model, small_organs
from support import pelvis_case, write_case_folder

from benchmarks.dose_guidance import main
from DosePredictionLib.beams.arrangement import BeamArrangement

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


@pytest.fixture
def plain_algorithms() -> Iterator[None]:
    """The experiment chooses deterministic ones for the whole process."""
    yield
    torch.use_deterministic_algorithms(False)


def cohort(folder: Path) -> Path:
    """Two patients to learn from, one of them planned in several ways, and one to judge on."""
    whole = replace(pelvis_case(), beams=BeamArrangement.of_angles([0, 90, 180, 270]))
    for name in ("training/plan_1_0000_5_0", "training/plan_1_0000_9_1", "training/sim_2_0001"):
        write_case_folder(folder / name, whole)
    write_case_folder(folder / "test" / "plan_1_0001_4_0", whole)
    return folder


@pytest.mark.usefixtures("plain_algorithms")
def test_three_arms_are_trained_judged_and_compared_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made, runs = cohort(tmp_path / "cohort"), tmp_path / "runs"
    models = {"--model": small_organs(runs).folder}
    models |= {"--guide": beam_model(runs).folder, "--other": beam_model(runs, "other", 6).folder}
    call = ["dose_guidance", "--training", str(made / "training"), "--cohort", str(made / "test")]
    call += [text for name, path in models.items() for text in (name, str(path))]
    call += ["--output", str(tmp_path / "out"), "--steps", "6", "--seeds", "1", "--replan", "0"]
    call += ["--crop", "32", "32", "32", "--precision", "fp32"]
    monkeypatch.setattr(sys, "argv", call)
    main()
    first = capsys.readouterr().out
    assert "D equals A bit for bit" in first and "1 unseen patients, 1 seeds, 6 steps" in first
    assert all(f"| {figure} |" in first for figure in ("Dice", "plan by the guide, Gy"))
    for arm in "ABC":
        (record,) = json.loads((tmp_path / "out" / f"{arm}-1" / "judged.json").read_text())
        assert record["case"] == "plan_1_0001_4_0" and "other_gy" in record["organs"]["Bladder"]
    apart = json.loads((tmp_path / "out" / "gradient.json").read_text())
    assert apart["relative_error"] < 1e-3
    log = (tmp_path / "out" / "B-1" / "metrics.jsonl").read_text().splitlines()
    assert 0.08 <= json.loads(log[-1])["train_dose_gradient_ratio"] <= 0.3
    cases = {path.name for path in (tmp_path / "out" / "cache" / "cases").iterdir()}
    assert cases == {"plan_1_0000_5_0", "sim_2_0001", "plan_1_0001_4_0"}
    main()  # nothing is trained again
    assert capsys.readouterr().out == first[first.index("1 unseen") :]
