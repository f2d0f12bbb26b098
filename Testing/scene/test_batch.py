"""The batch on the real MRML; that Slicer itself starts it is for the tests inside Slicer."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from support import OPENKBP_SAMPLE

slicer = pytest.importorskip("slicer", reason="needs the slicer-core wheel (Linux, x86-64)")

pytestmark = pytest.mark.usefixtures("scene")


def run(*arguments: object) -> int:
    from DosePredictionLib.scene.batch import main

    return main([str(argument) for argument in arguments], Path(sys.executable))


def test_a_case_becomes_dose_report_tables_and_scene(tmp_path: Path, scene: Any) -> None:
    cases, output = tmp_path / "cases", tmp_path / "out"
    (cases / "no case").mkdir(parents=True)
    (cases / "README.md").write_text("not a case either")
    shutil.copy(OPENKBP_SAMPLE, cases)
    assert run("--cases", cases, "--output", output, "--goals", "head_neck_70_35") == 3
    summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    (record,) = summary["cases"]
    (failed,) = summary["failed"]
    assert failed["case"] == "no case" and "no case" in failed["error"]
    assert record["case"] == "pt_235" and record["scores"]["dose_score_gy"] < 5
    for key in ("dose", "prediction", "report", "scene"):
        assert Path(record[key]).stat().st_size > 1000
    tables = {path.name for path in (output / "pt_235" / "tables").iterdir()}
    assert tables >= {"metrics.csv", "goals.csv", "dvh.csv"}
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    assert not [path for path in output.rglob("*") if path.name.startswith(".partial")]


def test_a_loaded_case_reads_back_as_it_was(scene: Any) -> None:
    import numpy as np
    from support import OBLIQUE, pelvis_case

    from DosePredictionLib.scene import case_from_nodes
    from DosePredictionLib.scene.loading import load_case

    case = pelvis_case((41, 33, 23), (9.0, 10.0, 11.0), OBLIQUE)
    ct, segmentation, plan = load_case(case, {"PTV": "#ff0080"})
    back = case_from_nodes(ct, segmentation, plan, name=case.name).case
    assert back.grid.matches(case.grid) and np.array_equal(back.ct.array, case.ct.array)
    assert list(back.structures) == list(case.structures)
    for name, mask in case.structures.items():
        assert np.array_equal(back.structures[name].array > 0.5, mask.array)
    assert back.plan_dose is not None and case.plan_dose is not None
    assert np.allclose(back.plan_dose.array, case.plan_dose.array)
    segment = segmentation.GetSegmentation().GetNthSegment(list(case.structures).index("PTV"))
    assert segment.GetColor() == pytest.approx((1.0, 0.0, 128 / 255))


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ((), "required"),
        (("--cases", "nowhere"), "required"),
        (("--cases", "nowhere", "--output", "OUT"), "no folder of cases"),
        (("--cases", "EMPTY", "--output", "OUT"), "holds no cases"),
        (("--cases", "EMPTY", "--output", "OUT", "--goals", "no-such"), "no-such"),
        (("--cases", "EMPTY", "--output", "OUT", "--dance"), "--dance"),
    ],
)
def test_a_wrong_call_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple, rule: str
) -> None:
    (tmp_path / "EMPTY").mkdir()
    places = {"EMPTY": tmp_path / "EMPTY", "OUT": tmp_path / "OUT"}
    assert run(*(places.get(argument, argument) for argument in arguments)) == 2
    assert rule in capsys.readouterr().err
    if "OUT" in arguments and "--dance" not in arguments:
        assert rule in (tmp_path / "OUT" / "summary.json").read_text(encoding="utf-8")


def test_no_option_is_one_that_slicer_keeps_for_itself() -> None:
    from DosePredictionLib.scene.batch import _parser

    options = {option for action in _parser()._actions for option in action.option_strings}
    assert options >= {"--cases", "--output", "--model", "--map", "--mapping", "--prescription"}
    assert not options & {"--help", "-h", "--version", "--home", "--testing"}
