"""The same work on one case or on several, where one may fail without the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from ..errors import DosePredictionError
from ..io import case_name

__all__ = ["CaseFailure", "CaseRecord", "Several", "failure_text", "work_on_cases"]


class CaseRecord(Protocol):
    """What is known of a case that was worked on."""

    def as_json(self) -> dict[str, Any]:
        """Its JSON object."""


Record = TypeVar("Record", bound=CaseRecord)


@dataclass(frozen=True)
class CaseFailure:
    """A case that could not be done, and why, in one line."""

    case: str
    error: str

    def as_json(self) -> dict[str, str]:
        """Its JSON object."""
        return {"case": self.case, "error": self.error}


@dataclass(frozen=True)
class Several(Generic[Record]):
    """What became of several cases, in their order."""

    done: tuple[Record, ...]
    failed: tuple[CaseFailure, ...]

    def as_json(self) -> dict[str, Any]:
        """`cases` and `failed`."""
        return {
            "cases": [record.as_json() for record in self.done],
            "failed": [failure.as_json() for failure in self.failed],
        }


def work_on_cases(
    paths: Sequence[Path],
    work: Callable[[Path], Record],
    failed: Callable[[CaseFailure], None] = lambda failure: None,
) -> Several[Record]:
    """Work on each case. One case's error is the call's; of several, each is a `CaseFailure`.

    Args:
        failed: called with each failure as it happens.

    Raises:
        DosePredictionError: two cases would share a name; or what the only case raised.
    """
    names: dict[str, Path] = {}
    for path in paths:
        name = case_name(path)
        if name in names:
            raise DosePredictionError(
                f"{names[name]} and {path} would both be written as {name!r}. Rename one, or run "
                "them apart."
            )
        names[name] = path
    if len(paths) == 1:
        return Several((work(paths[0]),), ())
    done, failures = [], []
    for name, path in names.items():
        try:
            done.append(work(path))
        except Exception as exception:  # whatever one case can raise is that case's failure
            failures.append(CaseFailure(name, failure_text(exception)))
            failed(failures[-1])
    return Several(tuple(done), tuple(failures))


def failure_text(exception: Exception) -> str:
    """An exception in one line; one that nobody foresaw with its kind."""
    text = " ".join(str(exception).split())
    if isinstance(exception, (DosePredictionError, OSError)):
        return text
    if isinstance(exception, MemoryError):
        return "Memory ran out: close other programs, or work with fewer --workers."
    return f"It failed unexpectedly: {type(exception).__name__}: {text}".rstrip(": ")
