"""The layout of the library: who may import whom, what stays free of torch, and no cycles.

The table is that of docs/architecture.md. Imports are read from the source, local ones included.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT

LIBRARY = ROOT / "DosePredictionLib"
PACKAGE = LIBRARY.name

KNOWS_NOTHING_OF: dict[str, set[str]] = {
    "beams": {
        *("structures", "checks", "encoding", "networks", "tasks", "losses", "models", "inference"),
        *("evaluation", "io", "report", "app", "cli", "worker", "scene"),
    },
    "structures": {"io", "evaluation", "inference", "networks", "app", "cli", "worker", "scene"},
    "checks": {"io", "evaluation", "inference", "networks", "app", "cli", "worker", "scene"},
    "encoding": {"io", "evaluation", "inference", "networks", "losses", "app", "worker", "scene"},
    "networks": {"structures", "io", "encoding", "evaluation", "app", "worker", "scene", "report"},
    "tasks": {"io", "app", "cli", "worker", "scene", "report"},
    "losses": {"networks", "io", "inference", "app", "cli", "worker", "scene", "report"},
    "models": {"io", "evaluation", "inference", "app", "cli", "worker", "scene", "report"},
    "inference": {"io", "evaluation", "app", "cli", "worker", "scene", "report"},
    "evaluation": {"networks", "inference", "io", "app", "cli", "worker", "scene", "report"},
    "io": {"networks", "inference", "tasks", "losses", "app", "cli", "worker", "scene", "report"},
    "planning": {"io", "networks", "inference", "tasks", "losses", "app", "cli", "worker", "scene"},
    "report": {"io", "inference", "networks", "tasks", "app", "cli", "worker", "scene"},
    "app": {"cli", "worker", "scene"},
    "cli": {"worker", "scene"},
    "worker": {"cli", "scene"},
    "scene": {"cli", "inference", "networks", "tasks", "losses"},
}
"""Package → packages that it never imports."""

TORCH_FREE = (
    "",
    "app.choices",
    "app.contours",
    "app.evaluate",
    "app.models",
    "app.outputs",
    "app.plan",
    "app.plan_check",
    "app.predict",
    "app.segment",
    "app.strips",
    "beams.mimic",
    "beams.ray_dose",
    "case",
    "checks.registry",
    "encoding.encoder",
    "encoding.strips",
    "evaluation.evaluate",
    "io",
    "models.manifest",
    "networks.configs",
    "prediction",
    "report",
    "scene",
    "structures.bound",
    "worker.client",
    "worker.messages",
    "worker.session",
)
"""Modules that Slicer's own process imports."""


def modules() -> dict[str, Path]:
    """Dotted name below the package → file."""
    found = {}
    for path in LIBRARY.rglob("*.py"):
        parts = path.relative_to(LIBRARY).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker sees."""
    for child in ast.iter_child_nodes(tree):
        if not is_type_checking(child):
            yield child
            yield from nodes(child)


def imports(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of the library that a module imports, anywhere in it."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or node.level == 0:
            continue
        base = package[: len(package) - node.level + 1] if node.level > 1 else package
        target = ".".join(part for part in (*base, node.module or "") if part)
        for alias in node.names:
            deeper = f"{target}.{alias.name}" if target else alias.name
            found.add(deeper if deeper in known else target)
    return found - {name, ""}


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    known = modules()
    return {name: imports(name, path, known) for name, path in known.items()}


def test_every_import_in_the_library_is_relative() -> None:
    for path in modules().values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == 0 and "scripts" not in path.parts:
                assert (node.module or "").split(".")[0] not in (PACKAGE, "training"), path


def test_packages_import_only_what_the_table_allows(graph: dict[str, set[str]]) -> None:
    packages = {path.parent.name for path in LIBRARY.glob("*/__init__.py")}
    assert packages == set(KNOWS_NOTHING_OF)
    wrong = [
        f"{name} imports {target}"
        for name, targets in graph.items()
        for target in targets
        if target.split(".")[0] in KNOWS_NOTHING_OF.get(name.split(".")[0], set())
    ]
    assert not wrong


def test_modules_form_no_cycle(graph: dict[str, set[str]]) -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join((*path[path.index(name) :], name))
        if name not in done:
            for target in graph[name]:
                visit(target, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_only_the_scene_imports_slicer_and_vtk() -> None:
    for name, path in modules().items():
        if name.split(".")[0] == "scene":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            assert not {name.split(".")[0] for name in names} & {"slicer", "vtk", "qt", "ctk"}, path


def test_what_runs_in_slicers_process_imports_no_torch() -> None:
    wanted = ", ".join(f"'{PACKAGE}.{name}'.rstrip('.')" for name in TORCH_FREE)
    code = f"""
import importlib, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("torch is blocked", name=name)

sys.meta_path.insert(0, Absent())
for name in [{wanted}]:
    importlib.import_module(name)
from {PACKAGE} import tangent_strips, dvh, read_case, Case, Prediction, StructureProtocol
assert "torch" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
