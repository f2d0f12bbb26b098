"""Installing what a prediction needs, by Slicer's own means, and the report on it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import qt
import slicer

from .i18n import _
from .installation_view import InstallationReport, read_report
from .worker_process import as_bytes

__all__ = ["SlicerInstallation", "SlicerInstaller", "installation_report", "missing_packages"]


def missing_packages() -> str:
    """What is not there or too old, in words; empty when nothing. Imports none of it."""
    from DosePredictionLib.installation import missing

    return ", ".join(requirement.package for requirement in missing())


class SlicerInstallation:
    """The panel's `Installer`: looks at Slicer's Python and the worker's."""

    def __init__(self) -> None:
        self._process: Any = None

    def missing(self) -> str:
        """What is missing, in words; empty: nothing."""
        return missing_packages()

    def install(self) -> None:
        """Install it."""
        from DosePredictionLib.installation import install

        install(SlicerInstaller())

    def report(self, done: Callable[[str, dict[str, str]], None]) -> None:
        """Call back with the report and the devices.

        Raises:
            WorkerError: no interpreter is found.
        """

        def reported(report: InstallationReport) -> None:
            done(report.text, dict(report.devices))

        self._process = installation_report(reported)


class SlicerInstaller:
    """The `Installer` that Slicer offers; see `DosePredictionLib.installation`."""

    def install_packages(self, requirements: Sequence[str], constraints: Sequence[str]) -> None:
        """Install packages by pip; what the constraints pin stays as it is.

        Raises:
            subprocess.CalledProcessError: pip failed; its output was shown.
        """
        with tempfile.TemporaryDirectory() as folder:
            pins = Path(folder) / "constraints.txt"
            pins.write_text("\n".join(constraints) + "\n", encoding="utf-8")
            try:
                from slicer.packaging import pip_install
            except ImportError:  # before Slicer 5.12
                slicer.util.pip_install([*requirements, "--constraint", str(pins)])
            else:
                pip_install(list(requirements), constraints=pins, requester="DosePrediction")

    def install_torch(self, version: str) -> None:
        """Install torch through the PyTorch extension, which picks the build for the GPU.

        Without that extension a general build is installed if the person agrees.
        """
        try:
            import PyTorchUtils
        except ImportError:
            text = _(
                "The PyTorch extension is not installed; it chooses the build of PyTorch that "
                "suits this computer's GPU. Without it a general build is installed, about 1 GB. "
                "Go on?"
            )
            if slicer.util.confirmOkCancelDisplay(text):
                slicer.util.pip_install([f"torch{version}"])
            return
        PyTorchUtils.PyTorchUtilsLogic().installTorch(
            askConfirmation=True, torchVersionRequirement=version
        )


def installation_report(done: Callable[[InstallationReport], None]) -> Any:
    """Have the worker's Python look at itself. Returns the process, to be kept until then.

    Args:
        done: called with the report.

    Raises:
        WorkerError: no interpreter is found.
    """
    from DosePredictionLib.worker.launch import worker_launch

    launch = worker_launch()
    process = qt.QProcess()
    environment = qt.QProcessEnvironment()
    for name, value in launch.environment.items():
        environment.insert(name, value)
    process.setProcessEnvironment(environment)

    def finished(_code: int, _status: Any) -> None:
        output = as_bytes(process.readAllStandardOutput().data()).decode("utf-8", "replace")
        errors = as_bytes(process.readAllStandardError().data()).decode("utf-8", "replace")
        report = read_report(output, errors)
        text = f"Slicer {slicer.app.applicationVersion}\n{report.text}"
        done(InstallationReport(text, report.devices))

    process.connect("finished(int,QProcess::ExitStatus)", finished)
    process.start(launch.program, ["-m", "DosePredictionLib", "check", "--json"])
    return process
