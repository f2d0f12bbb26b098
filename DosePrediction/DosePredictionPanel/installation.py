"""What a prediction needs of Slicer's Python, and how it gets there.

Packages that Slicer brings (numpy, scipy, SimpleITK, pydicom) are never touched: pip would replace
them under the running application.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import qt
import slicer

from .i18n import _

__all__ = ["install_missing", "installation_report", "missing_packages"]

# Module → requirement. Lower bounds only: another extension may need a newer version.
_REQUIREMENTS = {
    "torch": "torch>=2.4",
    "nibabel": "nibabel>=5.2",
    "safetensors": "safetensors>=0.4.3",
    "tqdm": "tqdm>=4.66",
    "matplotlib": "matplotlib>=3.8",
    "jinja2": "Jinja2>=3.1",
}


def missing_packages() -> list[str]:
    """Modules that are not there; nothing is imported."""
    importlib.invalidate_caches()
    return [name for name in _REQUIREMENTS if importlib.util.find_spec(name) is None]


def install_missing() -> None:
    """Install what is missing; asks before torch, which is large.

    Raises:
        RuntimeError: pip failed; its output is in the Python console.
    """
    missing = missing_packages()
    if "torch" in missing:
        _install_torch()
        missing.remove("torch")
    requirements = [_REQUIREMENTS[name] for name in missing]
    if not requirements:
        return
    try:
        from slicer.packaging import pip_install  # Slicer 5.12 and later
    except ImportError:
        slicer.util.pip_install(requirements)
    else:
        pip_install(requirements, requester="DosePrediction")


def installation_report(done: Callable[[str], None]) -> Any:
    """Ask the worker's Python for its report; `done` gets the text. Returns the process."""
    from DosePredictionLib.worker.launch import worker_launch

    launch = worker_launch()
    process = qt.QProcess()
    process.setProcessChannelMode(qt.QProcess.MergedChannels)
    environment = qt.QProcessEnvironment()
    for name, value in launch.environment.items():
        environment.insert(name, value)
    process.setProcessEnvironment(environment)

    def finished(_code: int, _status: Any) -> None:
        data = process.readAllStandardOutput().data()
        text = data.decode("utf-8", "replace") if isinstance(data, bytes) else str(data)
        done(f"Slicer {slicer.app.applicationVersion}\n{text}")

    process.connect("finished(int,QProcess::ExitStatus)", finished)
    process.start(launch.program, ["-m", "DosePredictionLib", "check"])
    return process


def _install_torch() -> None:
    """Through the PyTorch extension, which picks the build for this machine's GPU."""
    try:
        import PyTorchUtils
    except ImportError:
        text = _(
            "The PyTorch extension is not installed; it chooses the build of PyTorch that suits "
            "this computer's GPU. Without it a general build is installed, about 1 GB. Go on?"
        )
        if not slicer.util.confirmOkCancelDisplay(text):
            return
        slicer.util.pip_install([_REQUIREMENTS["torch"]])
        return
    PyTorchUtils.PyTorchUtilsLogic().installTorch(
        askConfirmation=True, torchVersionRequirement=_REQUIREMENTS["torch"].removeprefix("torch")
    )
