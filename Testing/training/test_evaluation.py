"""Scores of prepared cases are those of the files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from support import OPENKBP_SAMPLE, random_network, write_checkpoint

from DosePredictionLib.cli import main as dose_prediction
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.structures.protocol import StructureProtocol
from training.__main__ import main


@pytest.mark.usefixtures("one_thread")
def test_a_model_scores_on_prepared_cases_as_on_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint.pt", random_network(10))
    protocol = StructureProtocol.load("openkbp")
    model = DoseModel.import_checkpoint(checkpoint, "random", protocol, tmp_path / "models")
    cohort, folder = tmp_path / "cohort", str(model.folder)
    cohort.mkdir()
    sample = cohort / OPENKBP_SAMPLE.name
    _write_with_wider_dose_mask(sample)
    figures, table = tmp_path / "figures.json", tmp_path / "table.csv"
    evaluate = ["evaluate", "--model", folder, "--cases", str(cohort)]
    assert main([*evaluate, "--output", str(figures), "--csv", str(table)]) == 0
    printed = capsys.readouterr().out
    ours = json.loads(figures.read_text())
    doses = str(tmp_path / "doses")
    predict = ["predict", str(sample), "--model", folder, "--output", doses]
    assert dose_prediction([*predict, "--precision", "fp32", "--json"]) == 0
    capsys.readouterr()
    evaluate = ["evaluate", "--cohort", str(cohort), "--predictions", doses, "--workers", "1"]
    assert dose_prediction([*evaluate, "--json"]) == 0
    theirs = json.loads(capsys.readouterr().out)
    for key in ("dose_score_gy", "dvh_score_gy", "mae_body_gy", "ssim"):
        assert ours["summary"][key]["mean"] == pytest.approx(theirs["summary"][key]["mean"], 1e-4)
        assert ours["summary"][key]["ci95"] == pytest.approx(theirs["summary"][key]["ci95"], 1e-4)
    (one,), (other,) = ours["cases"], theirs["cases"]
    assert one["structures"].keys() == other["structures"].keys()
    assert ours["structures"].keys() == theirs["structures"].keys()
    assert one["dose_score_region"] == other["dose_score_region"] == "possible_dose_mask"
    assert f"{one['dose_score_gy']:.3f}" in printed and "dose score, Gy" in printed
    assert "PTV70,D95_gy" in table.read_text()


def _write_with_wider_dose_mask(path: Path) -> None:
    """The sample, whose dose mask leaves the body, farther than is believed, but not its box."""
    arrays = dict(np.load(OPENKBP_SAMPLE))
    shape = arrays["ct"].shape
    mask = np.unpackbits(arrays["possible_dose_mask"])[: arrays["ct"].size].reshape(shape)
    (box,) = ndimage.find_objects(mask)
    mask[box] = ndimage.maximum_filter(mask[box], 13)
    arrays["possible_dose_mask"] = np.packbits(mask)
    np.savez_compressed(path, **arrays)
