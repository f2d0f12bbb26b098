"""Where protocols, goal templates, models and sample cases lie.

A checkout keeps them in `Resources/` beside the library; the wheel and the installed extension
carry the same tree inside the library's own folder. One function serves all three.
"""

from __future__ import annotations

import os
from pathlib import Path

from .errors import DosePredictionError

__all__ = ["MODEL_PATH_VARIABLE", "model_folders", "resource_path", "resources_root"]

MODEL_PATH_VARIABLE = "DOSE_PREDICTION_MODELS"
"""Environment variable with further folders of model folders, separated as in PATH."""


def resources_root() -> Path:
    """The folder that holds `Protocols`, `Goals`, `Models` and `SampleData`.

    Raises:
        DosePredictionError: the installation is incomplete.
    """
    package = Path(__file__).resolve().parent
    candidates = (package / "Resources", package.parent / "Resources")
    for candidate in candidates:
        if (candidate / "Protocols").is_dir():
            return candidate
    raise DosePredictionError(
        f"The library's resources are missing: looked in {candidates[0]} and {candidates[1]}. "
        "Install the package again."
    )


def resource_path(*parts: str) -> Path:
    """A path below the resources; whether it exists is the caller's to check."""
    return resources_root().joinpath(*parts)


def model_folders() -> list[Path]:
    """Every folder that may hold model folders: the shipped one, then the user's own."""
    extra = os.environ.get(MODEL_PATH_VARIABLE, "")
    user = Path.home() / ".dose-prediction" / "models"
    return [resource_path("Models"), *(Path(p) for p in extra.split(os.pathsep) if p), user]
