"""The extension as CMake builds and installs it, and its entry in the Extensions Index.

Where no build tree of Slicer is at hand (`SLICER_BUILD`), its macros are declared anew with the
install layout of the real ones: that shows what lands where, not that a real Slicer loads it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

MODULES = "lib/Slicer-5.13/qt-scripted-modules"

SLICER_CONFIG = f"""
set(Slicer_USE_FILE "${{CMAKE_CURRENT_LIST_DIR}}/UseSlicer.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${{CMAKE_CURRENT_LIST_DIR}}/Nothing.cmake")
set(Slicer_EXTENSION_CPACK "${{CMAKE_CURRENT_LIST_DIR}}/Cpack.cmake")
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR "{MODULES}")
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR "{MODULES}")
set(BUILD_TESTING ON)
"""

USE_SLICER = """
# Copies the listed files, and nothing else, into the build tree, and installs them.
macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(M "WITH_GENERIC_TESTS;WITH_SUBDIR" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(M_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "unknown keywords: ${M_UNPARSED_ARGUMENTS}")
  endif()
  set(subdir "")
  if(M_WITH_SUBDIR)
    get_filename_component(subdir ${CMAKE_CURRENT_SOURCE_DIR} NAME)
    set(subdir "/${subdir}")
  endif()
  foreach(file ${M_SCRIPTS} ${M_RESOURCES})
    get_filename_component(folder ${file} DIRECTORY)
    # When it is configured: a rule for each of hundreds of files starts a process for each.
    configure_file(${CMAKE_CURRENT_SOURCE_DIR}/${file}
      ${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}${subdir}/${file} COPYONLY)
    install(FILES ${CMAKE_CURRENT_SOURCE_DIR}/${file} COMPONENT RuntimeLibraries
      DESTINATION ${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}${subdir}/${folder})
  endforeach()
endmacro()

macro(slicer_add_python_unittest)
  cmake_parse_arguments(T "" "SCRIPT" "SLICER_ARGS" ${ARGN})
  if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${T_SCRIPT})
    message(FATAL_ERROR "no test script ${T_SCRIPT}")
  endif()
endmacro()
"""

CPACK = """
foreach(variable HOMEPAGE CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS)
  if("${EXTENSION_${variable}}" STREQUAL "")
    message(FATAL_ERROR "EXTENSION_${variable} is empty")
  endif()
endforeach()
foreach(variable README_FILE LICENSE_FILE)
  if(NOT EXISTS "${EXTENSION_${variable}}")
    message(FATAL_ERROR "EXTENSION_${variable} is missing")
  endif()
endforeach()
"""

needs_cmake = pytest.mark.skipif(shutil.which("cmake") is None, reason="CMake is not installed")


def slicer_stand_in(folder: Path) -> Path:
    folder.mkdir()
    (folder / "SlicerConfig.cmake").write_text(SLICER_CONFIG)
    (folder / "UseSlicer.cmake").write_text(USE_SLICER)
    (folder / "Cpack.cmake").write_text(CPACK)
    (folder / "Nothing.cmake").write_text("")
    return folder


def cmake(*arguments: object) -> str:
    done = subprocess.run(
        ["cmake", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tracked(folder: str) -> set[str]:
    """Files of a folder that belong to the repository, relative to it."""
    base = ROOT / folder
    return {
        path.relative_to(base).as_posix()
        for path in base.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != "CMakeLists.txt"
    }


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of the modules in the build tree and in the installed tree."""
    top = tmp_path_factory.mktemp("extension")
    real = os.environ.get("SLICER_BUILD")
    slicer = Path(real) if real else slicer_stand_in(top / "slicer")
    build, install = top / "build", top / "install"
    cmake("-S", ROOT, "-B", build, f"-DSlicer_DIR={slicer}", "-DCMAKE_BUILD_TYPE=Release")
    cmake("--build", build)
    cmake("--install", build, "--prefix", install)
    (built,) = build.glob("lib/Slicer-*/qt-scripted-modules")
    (installed,) = install.rglob("qt-scripted-modules")
    return built, installed


@needs_cmake
@pytest.mark.parametrize("index", [0, 1], ids=["build tree", "installed tree"])
def test_the_whole_extension_is_built_and_installed(trees: tuple[Path, Path], index: int) -> None:
    tree = trees[index]
    expected = {f"DosePredictionLib/{name}" for name in tracked("DosePredictionLib")}
    expected |= {f"DosePredictionLib/Resources/{name}" for name in tracked("Resources")}
    expected |= tracked("DosePrediction")
    assert files_in(tree) - {"qt-scripted-modules"} >= expected
    assert {name for name in files_in(tree) if name.endswith(".py")} == {
        name for name in expected if name.endswith(".py")
    }
    # Slicer takes every script at the top for a module.
    assert [path.name for path in tree.glob("*.py")] == ["DosePrediction.py"]


@needs_cmake
def test_the_installed_library_predicts_with_nothing_else_on_the_path(
    trees: tuple[Path, Path], tmp_path: Path
) -> None:
    installed = trees[1]
    code = (
        "import DosePredictionLib as d\n"
        "from DosePredictionLib.models.dose_model import DoseModel\n"
        "from DosePredictionLib.resources import resource_path\n"
        "from DosePredictionLib.worker.launch import worker_launch\n"
        "print(d.__file__)\n"
        "[model.verify() for model in DoseModel.installed()]\n"
        "print(d.read_case(resource_path('SampleData', 'openkbp', 'pt_235.npz')).name)\n"
        "print(worker_launch().environment['PYTHONPATH'].split(':')[0])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    home, case, path = done.stdout.splitlines()
    assert Path(home) == installed / "DosePredictionLib" / "__init__.py"
    assert (case, path) == ("pt_235", str(installed))


def test_the_index_entry_is_that_of_this_extension() -> None:
    text = (ROOT / "CMakeLists.txt").read_text()
    (project,) = re.findall(r"^project\((\w+)\)", text, re.MULTILINE)
    path = ROOT / f"{project}.json"
    content = path.read_bytes()
    assert b"\r" not in content and content.endswith(b"}\n")
    entry = json.loads(content)
    assert entry["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.2.json#")
    allowed = {"$schema", "category", "scm_url", "scm_revision", "scm_type", "build_dependencies"}
    assert set(entry) <= allowed | {"dicom_support_rule", "build_subdirectory", "enabled", "tier"}
    assert {"$schema", "category", "scm_url"} <= set(entry)
    assert 1 <= entry["tier"] <= 5
    (depends,) = re.findall(r'set\(EXTENSION_DEPENDS "(.*)"\)', text)
    assert entry["build_dependencies"] == depends.split()
    (homepage,) = re.findall(r'set\(EXTENSION_HOMEPAGE "(.*)"\)', text)
    assert entry["scm_url"] == f"{homepage}.git"
    assert not project.startswith("Slicer")


def test_icon_and_screenshots_that_the_index_shows_are_in_the_repository() -> None:
    text = (ROOT / "CMakeLists.txt").read_text()
    urls = re.findall(r'"\$\{EXTENSION_HOMEPAGE\}/raw/main/([^"]+)"', text)
    assert len(urls) >= 2
    assert all((ROOT / url).is_file() for url in urls)
    icon = next(ROOT / url for url in urls if "Icons" in url).read_bytes()
    assert icon[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(icon[16:20], "big") == int.from_bytes(icon[20:24], "big") == 128


def test_importing_the_library_is_quick_and_imports_no_torch() -> None:
    """Slicer imports every module at its start: 0.2 s is what a user would begin to notice."""
    code = (
        "import json, sys, time\n"
        "before = time.process_time()  # the machine may be busy\n"
        "import DosePredictionLib\n"
        "print(json.dumps([time.process_time() - before, *sys.modules]))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seconds, *modules = json.loads(done.stdout)
    assert seconds < 0.2
    assert not {"torch", "numpy", "scipy", "SimpleITK"} & set(modules)


def test_the_client_of_the_worker_imports_no_torch() -> None:
    code = (
        "import sys\n"
        "import DosePredictionLib.worker.client, DosePredictionLib.app.summary\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
