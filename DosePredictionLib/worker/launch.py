"""How the worker is started: interpreter, command line and environment."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import WorkerError

__all__ = ["Launch", "find_interpreter", "worker_environment", "worker_launch"]

_LAUNCHER = "PythonSlicer"

# What a person or another program sets for its own Python and breaks ours: code run at startup,
# an interactive prompt on the pipe, a debugger, drawing into a window, packages of the user's own
# Python. PYTHONHOME and the library paths stay: Slicer's interpreter lives by them.
_UNWANTED = (
    "PYTHONSTARTUP",
    "PYTHONINSPECT",
    "PYTHONDEBUG",
    "PYTHONVERBOSE",
    "PYTHONBREAKPOINT",
    "PYTHONWARNINGS",
    "PYTHONEXECUTABLE",
    "PYTHONIOENCODING",
    "PYTHONCASEOK",
    "PYTHONDUMPREFS",
    "PYTHONPROFILEIMPORTTIME",
    "__PYVENV_LAUNCHER__",
)
_WANTED = {
    "PYTHONUTF8": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONNOUSERSITE": "1",
    "PYTHONSAFEPATH": "1",  # a folder of cases with a torch.py in it is not the library
    "PYTHONFAULTHANDLER": "1",  # a crash says where
    "MPLBACKEND": "Agg",
}
# Not by PYTHONPATH: before what stands there Slicer's launcher puts its own packages.
_WITH_PACKAGES = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from DosePredictionLib.worker.__main__ import main; main()"
)


@dataclass(frozen=True)
class Launch:
    """Everything that a QProcess or `subprocess` needs to start the worker.

    Args:
        program: the interpreter.
        arguments: its arguments.
        environment: the whole environment, not additions to this process's.
    """

    program: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]


def worker_launch(
    interpreter: Path | None = None,
    scratch: Path | None = None,
    script: Path | None = None,
    packages: Path | None = None,
) -> Launch:
    """How to start a worker that ends with this process.

    Args:
        interpreter: None: `find_interpreter()`.
        scratch: folder of `exchange.new_scratch` that the worker clears away if this process dies
            before it could.
        script: started in place of `-m DosePredictionLib.worker`; it ends in `worker.__main__.main`
            after it has prepared what that needs.
        packages: folder of packages that go before the interpreter's own; without a script.

    Raises:
        WorkerError: no interpreter is found.
    """
    program = interpreter or find_interpreter()
    start = ["-m", "DosePredictionLib.worker"] if script is None else [str(script)]
    if packages is not None:
        start = ["-c", _WITH_PACKAGES, str(packages)]
    arguments = [*start, "--parent", str(os.getpid())]
    if scratch is not None:
        arguments += ["--scratch", str(scratch)]
    return Launch(str(program), tuple(arguments), worker_environment(os.environ))


def find_interpreter(executable: str | None = None, prefix: str | None = None) -> Path:
    """The Python interpreter for the worker.

    Inside Slicer `sys.executable` may be the application, the launcher `PythonSlicer`, or
    `python-real`, which works only in the environment that the launcher makes. The rule:

    1. the launcher beside `executable`, in the `bin` folder beside it or in that of the folder
       above (`Slicer.app/Contents/MacOS/Slicer` → `Contents/bin/PythonSlicer`), in the `bin`
       folder of the installation that `prefix` (`<Slicer>/lib/Python`) belongs to, or in that of
       `SLICER_HOME`, which Slicer sets for itself;
    2. `executable` itself if its name begins with `python`;
    3. the launcher on the PATH, where Slicer's build tree has it.

    Args:
        executable: None: `sys.executable`; empty, as it may be in Slicer: unknown.
        prefix: None: `sys.exec_prefix`.

    Raises:
        WorkerError: none of these exists; the message names the places.
    """
    executable = sys.executable if executable is None else executable
    own = Path(executable)
    root = Path(sys.exec_prefix if prefix is None else prefix)
    home = os.environ.get("SLICER_HOME")
    name = _LAUNCHER + (".exe" if os.name == "nt" else "")
    # Without an executable its folders would be those of whatever the current folder holds.
    folders = [own.parent, own.parent / "bin", own.parent.parent / "bin"] if executable else []
    folders += [folder / "bin" for folder in root.parents[1:2]]
    if home:
        folders.append(Path(home) / "bin")
    places = [folder / name for folder in folders]
    if own.name.casefold().startswith("python"):
        places.append(own)
    for place in places:
        if place.is_file() and os.access(place, os.X_OK):
            return place
    on_path = shutil.which(_LAUNCHER)
    if on_path is not None:
        return Path(on_path)
    looked = ", ".join(dict.fromkeys(str(place) for place in places))
    raise WorkerError(
        f"No Python interpreter for the prediction was found: looked for {looked} and for "
        f"{_LAUNCHER} on the PATH. Install Slicer again, or start it by its own launcher."
    )


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without what breaks a child's Python, and with the library's path.

    Slicer's additional module paths are on `sys.path` only, hence `PYTHONPATH`.
    """
    kept = {key: value for key, value in environment.items() if key not in _UNWANTED}
    library = str(Path(__file__).resolve().parents[2])
    paths = [library, *(p for p in kept.get("PYTHONPATH", "").split(os.pathsep) if p)]
    return {**kept, **_WANTED, "PYTHONPATH": os.pathsep.join(paths)}
