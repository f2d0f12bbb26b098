"""What the library raises. Each message says what was wrong, where, and what to do."""

from __future__ import annotations

__all__ = [
    "CaseError",
    "DosePredictionError",
    "GeometryError",
    "MappingError",
    "ModelError",
    "PredictionCancelled",
    "PredictionError",
]


class DosePredictionError(ValueError):
    """Base of everything that a caller can put right."""


class GeometryError(DosePredictionError):
    """Grids that are impossible, or do not fit each other."""


class CaseError(DosePredictionError):
    """A case that cannot be read, or whose content cannot be right."""


class MappingError(DosePredictionError):
    """Structures that cannot be assigned to the channels of a protocol."""


class ModelError(DosePredictionError):
    """A model that is missing, damaged, or does not fit what is asked of it."""


class PredictionError(DosePredictionError):
    """A prediction that could not be completed."""


class PredictionCancelled(DosePredictionError):
    """The caller cancelled; nothing was written."""
