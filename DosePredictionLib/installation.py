"""What a prediction needs of Python, and how it gets there inside Slicer.

Packages that Slicer brings are never replaced: pip would exchange them under the running
application, and other extensions rest on their versions. Torch comes from Slicer's PyTorch
extension, which picks the build for the machine's GPU.

Imports nothing but the standard library, so that it can say what is missing:
`python -m DosePredictionLib check`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .errors import DosePredictionError

__all__ = [
    "REQUIREMENTS",
    "Installer",
    "Requirement",
    "constraints",
    "install",
    "missing",
]


@dataclass(frozen=True)
class Requirement:
    """A package and the oldest version of it that will do.

    Args:
        package: its name on PyPI.
        minimum: no upper bound: another extension may need a newer one.
        of_slicer: whether Slicer brings it; never installed or changed then.
    """

    package: str
    minimum: str
    of_slicer: bool = False

    def __str__(self) -> str:
        return f"{self.package}>={self.minimum}"

    @property
    def installed(self) -> str | None:
        """The version that is there."""
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return None

    @property
    def is_met(self) -> bool:
        """Whether a version is there that will do."""
        version = self.installed
        return version is not None and _numbers(version) >= _numbers(self.minimum)


TORCH = Requirement("torch", "2.4")

REQUIREMENTS = (
    Requirement("numpy", "1.26", of_slicer=True),
    Requirement("scipy", "1.13", of_slicer=True),
    TORCH,
    Requirement("nibabel", "5.2"),
    Requirement("SimpleITK", "2.3", of_slicer=True),
    Requirement("pydicom", "2.4", of_slicer=True),
    Requirement("safetensors", "0.4.3"),
    Requirement("tqdm", "4.66"),
    Requirement("matplotlib", "3.8"),
    Requirement("Jinja2", "3.1"),
)
"""Those of `pyproject.toml`; a test compares the two."""


class Installer(Protocol):
    """What installs packages: in Slicer its own functions, elsewhere pip."""

    def install_packages(self, requirements: Sequence[str], constraints: Sequence[str]) -> None:
        """Install packages without changing those that the constraints pin.

        In Slicer `slicer.packaging.pip_install` (5.12 and later) or `slicer.util.pip_install`.
        """

    def install_torch(self, version: str) -> None:
        """Install torch of a version such as ">=2.4".

        In Slicer `PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True,
        torchVersionRequirement=version)`.
        """


def missing() -> list[Requirement]:
    """What is not there, or is too old. Imports none of it."""
    importlib.invalidate_caches()
    return [requirement for requirement in REQUIREMENTS if not requirement.is_met]


def constraints() -> list[str]:
    """Pins of what pip must leave as it is, where it is installed: Slicer's packages, and torch."""
    kept = [requirement for requirement in REQUIREMENTS if requirement.of_slicer]
    return [
        f"{requirement.package}=={requirement.installed}"
        for requirement in (*kept, TORCH)
        if requirement.installed is not None
    ]


def install(installer: Installer) -> list[Requirement]:
    """Install what is missing: torch first, so that nothing else pulls in a build of its own.

    Returns:
        What is missing even so; a person may have declined torch.

    Raises:
        DosePredictionError: Slicer's own packages are too old; nothing was installed.
    """
    lacking = missing()
    too_old = [requirement for requirement in lacking if requirement.of_slicer]
    if too_old:
        raise DosePredictionError(
            f"Slicer's own packages are too old: {', '.join(map(_wanted, too_old))}. They cannot "
            "be replaced in a running Slicer; install Slicer 5.10 or later."
        )
    if TORCH in lacking:
        installer.install_torch(f">={TORCH.minimum}")
        if not TORCH.is_met:
            return missing()
    packages = [str(requirement) for requirement in lacking if requirement != TORCH]
    if packages:
        installer.install_packages(packages, constraints())
    return missing()


def _wanted(requirement: Requirement) -> str:
    return f"{requirement.package} {requirement.installed or 'missing'} (≥ {requirement.minimum})"


def _numbers(version: str) -> tuple[int, ...]:
    """The release segment of a version, "2.13.0+cpu" → (2, 13, 0)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in match.group().split(".")) if match else ()
