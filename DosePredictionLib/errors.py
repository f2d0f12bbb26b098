"""What the library raises. Each message says what was wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "CallError",
    "CaseError",
    "DosePredictionError",
    "GeometryError",
    "MappingError",
    "MemoryExhaustedError",
    "ModelError",
    "NoProtocolError",
    "NoStructuresError",
    "PredictionCancelled",
    "PredictionError",
    "WorkerError",
    "WorkerTimeoutError",
]


class DosePredictionError(ValueError):
    """Base of everything that a caller can put right.

    Attributes:
        details: lines for a copyable report, as a traceback in another process or its last output.
    """

    details: str = ""


class GeometryError(DosePredictionError):
    """Grids that are impossible, or do not fit each other."""


class CaseError(DosePredictionError):
    """A case that cannot be read, or whose content cannot be right."""


class NoStructuresError(CaseError):
    """A CT that nothing was contoured on."""


class MappingError(DosePredictionError):
    """Structures that cannot be assigned to the channels of a protocol."""


class NoProtocolError(MappingError):
    """The structures do not state which protocol, and so which body site, a case belongs to."""


class ModelError(DosePredictionError):
    """A model that is missing, damaged, or does not fit what is asked of it."""


class PredictionError(DosePredictionError):
    """A prediction that could not be completed."""


class MemoryExhaustedError(PredictionError):
    """Memory ran out for good.

    Args:
        tried: the fallbacks that were taken before, in words.
    """

    def __init__(self, message: str, tried: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.tried = tuple(tried)


class CallError(DosePredictionError):
    """The command line itself is wrong."""


class PredictionCancelled(DosePredictionError):
    """The caller cancelled; nothing was written."""


class WorkerError(DosePredictionError):
    """The process that predicts could not be started, was lost, or said what it must not."""


class WorkerTimeoutError(WorkerError, TimeoutError):
    """The process that predicts did not finish in the time given; it was ended."""
