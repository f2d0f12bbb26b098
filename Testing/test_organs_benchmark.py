"""The table of how well organs are found: it must notice a swap of sides, and what a pass adds."""

from __future__ import annotations

from pathlib import Path

import pytest
from organs import ORGANS, PELVIS, organ_model, organs_case

from benchmarks import organs as benchmark
from DosePredictionLib.case import Case
from DosePredictionLib.io.nifti import write_case_folder
from DosePredictionLib.mask import Mask
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.structures.bound import bind


def _masks(case: Case) -> dict[str, Mask]:
    return {name: Mask.of(case.structures[name]) for name in ORGANS}


def test_an_organ_on_the_other_side_is_noticed() -> None:
    case = organs_case()
    bound, masks = bind(case, PELVIS, required=()), _masks(case)
    assert benchmark.mirrored_organs(masks, bound) == []
    heads = {"FemurHead_L": masks["FemurHead_R"], "FemurHead_R": masks["FemurHead_L"]}
    assert benchmark.mirrored_organs(masks | heads, bound) == ["FemurHead_L", "FemurHead_R"]


def test_the_table_has_a_row_an_organ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = organ_model(tmp_path / "model")
    write_case_folder(tmp_path / "cases" / "a", organs_case())
    call = ["organs", str(tmp_path / "cases"), "--model", str(model.folder), "--card", "one case"]
    monkeypatch.setattr("sys.argv", call)
    benchmark.main()
    printed = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if line.strip()}
    for name in ORGANS:
        assert float(rows[name][1]) > 0.8, printed  # of the organs that show on the CT
    assert "0 paired organs" in printed
    card = DoseModel.load(model.folder).manifest.validation
    assert card["cases"] == "one case" and set(card["organs"]) == set(ORGANS)
