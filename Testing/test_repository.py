"""The repository itself: lists against the tree, boundaries between packages, sizes."""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

from DosePredictionLib.cli import build_parser

LIBRARY = ROOT / "DosePredictionLib"
MODULES = sorted(LIBRARY.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Top-level names that a file imports from outside its package."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_tests_of_interrupts_do_not_depend_on_what_the_caller_ignores() -> None:
    """`nohup` and background jobs pass ignored signals on: `interrupts` sets them anew."""
    found: dict[str, bool] = {}
    for path in (ROOT / "Testing").rglob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                parts = [ast.unparse(each) for each in (*node.decorator_list, node)]
                if any(f"signal.SIG{name}" in part for part in parts for name in ("INT", "TERM")):
                    found[node.name] = "interrupts" in "".join(parts)
    assert len(found) >= 4
    assert [name for name, sets_signals in found.items() if not sets_signals] == []


def test_cmake_lists_every_file_that_ships() -> None:
    text = (LIBRARY / "CMakeLists.txt").read_text()
    lists = dict(re.findall(r"set\((\w+)\n(.*?)\n  \)", text, re.DOTALL))
    listed = {line.strip() for name in ("SCRIPTS", "RESOURCES") for line in lists[name].split("\n")}
    shipped = {
        path.relative_to(LIBRARY).as_posix()
        for path in LIBRARY.rglob("*")
        if path.suffix in (".py", ".jinja", ".css") and "__pycache__" not in path.parts
    }
    assert listed == shipped


def test_the_library_never_imports_slicer_or_qt() -> None:
    for path in MODULES:
        if "scene" not in path.relative_to(LIBRARY).parts:
            assert not imported(path) & {"slicer", "vtk", "qt", "ctk"}, path


def test_no_shipped_code_uses_pickle_to_read() -> None:
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        assert "pickle.load" not in text, path
        assert "weights_only=False" not in text, path
        assert "allow_pickle=True" not in text, path


def test_importing_the_library_imports_no_torch() -> None:
    code = "import sys, DosePredictionLib; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_every_public_name_is_there() -> None:
    import DosePredictionLib

    for name in DosePredictionLib.__all__:
        assert getattr(DosePredictionLib, name) is not None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_every_module_says_what_it_is_and_what_is_public(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    defines = any(isinstance(node, (ast.FunctionDef, ast.ClassDef)) for node in tree.body)
    public = any(
        isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
        for node in tree.body
    )
    assert public or not defines


def test_the_command_lines_options_are_those_that_others_rely_on() -> None:
    (commands,) = [
        action.choices
        for action in build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    ]
    options = {
        name: {option for action in parser._actions for option in action.option_strings}
        for name, parser in commands.items()
    }
    assert set(commands) == {
        "predict",
        "strips",
        "segment",
        "evaluate",
        "evaluate-contours",
        "rtstruct",
        "plan",
        "plan-check",
        "objectives",
        "models",
        "check",
    }
    assert options["predict"] >= {
        "--model",
        "--output",
        "--device",
        "--precision",
        "--format",
        "--map",
        "--mapping",
        "--prescription",
        "--fractions",
        "--report",
        "--recompute-strips",
        "--published-names",
        "--json",
    }
    assert options["evaluate"] >= {
        "--case",
        "--prediction",
        "--reference",
        "--gamma",
        "--cohort",
        "--predictions",
        "--no-resample",
        "--json",
    }
    assert all("--json" in each for each in options.values())


def test_the_tracked_tree_stays_under_80_mib() -> None:
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in done.stdout.split("\0") if name]
    sizes = [path.stat().st_size for path in files if path.is_file()]
    assert sum(sizes) <= 80 * 2**20
    assert max(sizes) <= 15 * 2**20


def test_no_tracked_text_holds_a_machines_paths() -> None:
    pattern = re.compile(r"(?<![\w.~:/-])/(home|root|tmp|mnt|Users|work)/[A-Za-z0-9]")
    for path in [*MODULES, *ROOT.glob("*.md"), *(ROOT / "training").rglob("*.py")]:
        assert not pattern.search(path.read_text(encoding="utf-8")), path
