"""The .ui files against the parameter node, read as text: neither Qt nor Slicer is needed."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from DosePredictionPanel.sections import SECTIONS
from support import ROOT

MODULE = ROOT / "DosePrediction"
UI = MODULE / "Resources" / "UI"
ROOTS = {path.stem: ElementTree.parse(path).getroot() for path in sorted(UI.glob("*.ui"))}
PARAMETERS = MODULE / "DosePredictionPanel" / "parameters.py"

# What Slicer's connectors (parameterNodeWrapper/guiConnectors.py) accept for a type.
WIDGETS = {
    "bool": {"QCheckBox"},
    "float": {"QDoubleSpinBox", "ctkSliderWidget"},
    "int": {"QSpinBox"},
    "FloatRange": {"ctkRangeWidget"},
    "enum": {"QComboBox"},
    "node": {"qMRMLNodeComboBox"},
}
# Bound in code, because their choices are known at run time only, or kept without a widget.
WITHOUT_NAME_IN_UI = {
    "shown",
    "modelName",
    "beams",
    "wishes",
    "planBeams",
    "corrections",
    "goalTemplate",
    "device",
    "resultDose",
    "comparedDose",
}


def fields() -> dict[str, ast.AnnAssign]:
    tree = ast.parse(PARAMETERS.read_text(encoding="utf-8"))
    (node,) = (
        each
        for each in tree.body
        if isinstance(each, ast.ClassDef) and each.name == "DosePredictionParameterNode"
    )
    return {
        each.target.id: each
        for each in node.body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    }


def enumerations() -> set[str]:
    tree = ast.parse(PARAMETERS.read_text(encoding="utf-8"))
    return {
        each.name
        for each in tree.body
        if isinstance(each, ast.ClassDef) and any(ast.unparse(b) == "Enum" for b in each.bases)
    }


def type_of(field: ast.AnnAssign) -> tuple[str, str]:
    """Name of the type without its annotations, and the annotations as text."""
    text = ast.unparse(field.annotation)
    match = re.fullmatch(r"Annotated\[(\w+), (.*)\]", text)
    return (match[1], match[2]) if match else (text, "")


def widgets() -> dict[str, ElementTree.Element]:
    return {
        widget.attrib["name"]: widget for root in ROOTS.values() for widget in root.iter("widget")
    }


def named_parameters() -> dict[str, ElementTree.Element]:
    found = {}
    for widget in widgets().values():
        name = widget.findtext("property[@name='SlicerParameterName']/string")
        if name is not None:
            assert name not in found, f"{name} is bound twice"
            found[name] = widget
    return found


def test_every_parameter_has_a_widget_or_is_bound_in_code() -> None:
    assert set(named_parameters()) == set(fields()) - WITHOUT_NAME_IN_UI
    assert set(fields()) >= WITHOUT_NAME_IN_UI


@pytest.mark.parametrize("name", sorted(named_parameters()))
def test_the_widget_fits_the_parameters_type(name: str) -> None:
    kind, annotations = type_of(fields()[name])
    widget = named_parameters()[name]
    if kind.startswith("vtkMRML"):
        types = [each.text for each in widget.findall("property[@name='nodeTypes']/stringlist/*")]
        assert types == [kind]
    expected = WIDGETS[
        "node" if kind.startswith("vtkMRML") else "enum" if kind in enumerations() else kind
    ]
    assert widget.attrib["class"] in expected
    for place, key in enumerate(("minimum", "maximum"), start=1):
        limit = widget.findtext(f"property[@name='{key}']/double")
        if limit is not None:
            limits = re.match(r"\w+\((-?[\d.]+), (-?[\d.]+)\)", annotations)
            assert limits is not None, annotations
            assert float(limit) == float(limits[place])


def test_names_of_widgets_are_unique() -> None:
    """In all sections together: the code finds them by name in one panel."""
    names = [each.attrib["name"] for root in ROOTS.values() for each in root.iter("widget")]
    assert len(names) == len(set(names))


def test_every_node_selector_gets_the_scene() -> None:
    """From the widget that the panel hands it to: the root of the selector's own file."""
    for root in ROOTS.values():
        widget = root.find("widget")
        assert widget is not None
        assert widget.attrib["class"] == "qMRMLWidget"
        assert {each.text for each in root.iter("sender")} <= {widget.attrib["name"]}
        receivers = {each.text for each in root.iter("receiver")}
        inside = root.iter("widget")
        selectors = {w.attrib["name"] for w in inside if w.attrib["class"] == "qMRMLNodeComboBox"}
        assert receivers == selectors


def test_every_section_has_a_ui_file_a_module_and_a_line_in_the_registry() -> None:
    assert set(SECTIONS) == set(ROOTS)
    folder = MODULE / "DosePredictionPanel" / "sections"
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert modules == {name.lower() for name in SECTIONS}
    for name in SECTIONS:
        tree = ast.parse((folder / f"{name.lower()}.py").read_text(encoding="utf-8"))
        (section,) = (each for each in tree.body if isinstance(each, ast.ClassDef))
        assert section.name == f"{name}Section"
        methods = {each.name for each in section.body if isinstance(each, ast.FunctionDef)}
        assert methods >= {"__init__", "draw"}


def test_every_control_says_what_it_does() -> None:
    for name, widget in widgets().items():
        if widget.attrib["class"] in (
            "QPushButton",
            "QCheckBox",
            "QComboBox",
            "QDoubleSpinBox",
            "QSpinBox",
        ):
            # Apply's changes with its state.
            tip = widget.findtext("property[@name='toolTip']/string")
            assert tip or name == "applyButton", name


def test_the_code_asks_only_for_widgets_that_there_are() -> None:
    asked = set()
    for path in MODULE.rglob("*.py"):
        asked |= set(re.findall(r"\bui\.(\w+)", path.read_text(encoding="utf-8")))
    missing = asked - set(widgets())
    assert not missing
    assert len(asked) > 40  # they are found at all


def test_cmake_lists_every_file_of_the_module() -> None:
    text = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8")
    listed = {line.strip() for line in text.splitlines() if re.search(r"\.(py|ui|png)$", line)}
    shipped = {
        path.relative_to(MODULE).as_posix()
        for path in MODULE.rglob("*")
        if path.suffix in (".py", ".ui", ".png") and "__pycache__" not in path.parts
    }
    assert {name.replace("${MODULE_NAME}", "DosePrediction") for name in listed} == shipped


def test_no_python_file_lies_beside_the_module() -> None:
    """Slicer would load it as a module of its own."""
    assert [path.name for path in MODULE.glob("*.py")] == ["DosePrediction.py"]


def test_loading_the_module_imports_next_to_nothing() -> None:
    """What Slicer's start pays for; the rest is imported when the panel is opened."""
    tree = ast.parse((MODULE / "DosePrediction.py").read_text(encoding="utf-8"))
    imported = {
        name
        for node in tree.body
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    own = {name for name in imported if name and name.startswith("DosePrediction")}
    assert own == {"DosePredictionPanel.sample_data"}


@pytest.mark.parametrize(
    "path", sorted(Path(MODULE).rglob("*.py")), ids=lambda path: Path(path).name
)
def test_texts_for_people_are_never_f_strings(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_":
            assert not isinstance(node.args[0], ast.JoinedStr), ast.unparse(node)
