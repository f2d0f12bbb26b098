"""Files, functions and signatures stay small; what is larger is listed with the reason."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

from support import ROOT

LONG_FILES = {
    "DosePrediction/DosePredictionPanel/flow/events.py": "every event, a few lines each",
    "Testing/dicom/test_dicom_case.py": "one table of faulty patients",
    "Testing/panel/test_panel_in_scene.py": "the whole panel on the real scene",
    "Testing/panel/test_reducer.py": "event sequences of the whole panel",
    "Testing/panel/test_results_flow.py": "event sequences of results, cases and live updates",
    "Testing/scene/test_entrances.py": "one table of cases through every entrance",
    "Testing/test_checks.py": "every check on one phantom",
    "Testing/test_cli.py": "what every command promises",
    "Testing/test_mapping.py": "one table of names",
    "Testing/test_schema.py": "one table of all fields",
}
LONG_FUNCTIONS = {
    "DosePredictionLib/inference/predictor.py predict": "the public docstring is half of it",
    "DosePredictionLib/scene/reading.py case_steps": "steps of one generator, in their order",
}
PUBLIC_CONTRACTS = {
    "DosePrediction/DosePrediction.py predict",
    "DosePrediction/DosePrediction.py predictAsync",
    "DosePredictionLib/evaluation/gamma.py gamma",
    "DosePredictionLib/evaluation/gamma.py gammas",
    "DosePredictionLib/inference/predictor.py predict",
    "DosePredictionLib/scene/results.py result_steps",
    "DosePredictionLib/worker/client.py predict",
}
OLDER = {
    "DosePrediction/DosePrediction.py _inputs",
    "DosePredictionLib/evaluation/cohort.py _row",
    "DosePredictionLib/evaluation/gamma_search.py _test",
    "DosePredictionLib/report/dvh_chart.py _draw_label",
    "DosePredictionLib/report/slices.py _text",
    "DosePredictionLib/scene/tables.py _curve_draft",
    "training/export.py export_run",
    "training/simulation/phantom.py _paint_skeleton",
    "training/simulation/phantom.py _painted",
}
"""Signatures that are older than the limit."""


def sources() -> Iterator[tuple[str, str]]:
    command = ["git", "ls-files", "*.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    names = done.stdout.split() or [str(p.relative_to(ROOT)) for p in ROOT.rglob("*.py")]
    for name in names:
        if (ROOT / name).is_file() and ".venv" not in Path(name).parts:
            yield name, (ROOT / name).read_text(encoding="utf-8")


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    for name, text in sources():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                yield f"{name} {node.name}", node


def parameters(function: ast.FunctionDef) -> int:
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return len([each for each in every if each.arg not in ("self", "cls")])


def test_files_of_over_500_lines_say_why() -> None:
    long = {name for name, text in sources() if len(text.splitlines()) > 500}
    assert long <= set(LONG_FILES)


def test_functions_of_over_60_lines_say_why() -> None:
    long = {name for name, node in functions() if (node.end_lineno or 0) - node.lineno >= 60}
    assert long <= set(LONG_FUNCTIONS)


def test_no_new_function_has_more_than_six_parameters() -> None:
    many = {name for name, node in functions() if parameters(node) > 6 and "Testing/" not in name}
    assert many <= PUBLIC_CONTRACTS | OLDER


def test_public_functions_are_typed_and_documented() -> None:
    public = [
        node
        for name, node in functions()
        if name.startswith(("DosePredictionLib/", "training/", "DosePrediction/"))
        and not node.name.startswith("_")
    ]
    kept = [n for n in public if n.returns is not None]
    assert len(kept) >= 0.99 * len(public)
