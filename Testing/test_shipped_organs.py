"""The shipped model of organs on the shipped pelvis: CT → organs → dose, and sides that stay."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import OPENKBP_SAMPLE, SAMPLES

from benchmarks.organs import mirrored_organs
from DosePredictionLib.io import read_case
from DosePredictionLib.mask import Mask
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol

Run = Callable[..., tuple[int, Any, str]]

PELVIS = SAMPLES / "simulated_pelvis"

LEAST_DICE = {
    "Bladder": 0.92,
    "Rectum": 0.82,
    "Small_Intestine": 0.72,
    "Marrow": 0.87,
    "SpinalCord": 0.70,
    "FemurHead_L": 0.90,
    "FemurHead_R": 0.90,
}


def test_organs_of_the_shipped_pelvis_are_found_and_a_dose_is_predicted_on_them(
    run: Run, tmp_path: Path
) -> None:
    code, result, _ = run("segment", PELVIS, "--output", tmp_path / "organs")
    assert code == 0
    found = Path(result["cases"][0]["folder"])
    assert result["cases"][0]["model"] == "pelvis-organs-simulated"
    code, compared, _ = run("evaluate-contours", "--case", PELVIS, "--prediction", found)
    assert code == 0
    dice = {name: each["dice"] for name, each in compared["structures"].items()}
    assert set(dice) == set(LEAST_DICE)
    assert {name for name, least in LEAST_DICE.items() if dice[name] < least} == set(), dice
    bound = bind(read_case(PELVIS), StructureProtocol.load("pelvis"))
    contours = {name: Mask.of(each) for name, each in read_case(found).structures.items()}
    assert mirrored_organs(contours, bound) == []
    code, predicted, _ = run("predict", found, "--output", tmp_path / "dose")
    assert code == 0
    code, own, _ = run("predict", PELVIS, "--output", tmp_path / "own")
    assert code == 0
    on_found, on_own = (_mean_doses(result) for result in (predicted, own))
    for name in ("Bladder", "Rectum", "PTV"):
        assert on_found[name] == pytest.approx(on_own[name], abs=2.0)


def _mean_doses(result: Any) -> dict[str, float]:
    record = json.loads(Path(result["cases"][0]["prediction"]).read_text())
    return {name: each["endpoints"]["Dmean_gy"] for name, each in record["structures"].items()}


def test_a_head_and_neck_shows_no_pelvis_however_much_bone_was_found(
    run: Run, tmp_path: Path
) -> None:
    code, result, _ = run("segment", OPENKBP_SAMPLE, "--output", tmp_path / "out")
    assert code == 2
    assert "shows no pelvis, or too little of it" in result["error"]["message"]
    assert not (tmp_path / "out").exists()
