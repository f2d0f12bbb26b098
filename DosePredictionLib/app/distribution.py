"""What the patients are like whom a model was made on, from a folder of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks.anatomy import anatomy
from ..checks.distribution import Distribution
from ..checks.distribution_fit import Identity, fit_distribution
from ..checks.view import CaseView
from ..errors import DosePredictionError
from ..io import case_name, read_case
from ..models.expectations import ModelExpectations
from ..processes import parallel_map, usable_cores
from ..structures.bound import bind
from ..structures.protocol import StructureProtocol
from .several import CaseFailure, failure_text

if TYPE_CHECKING:
    from ..models.manifest import ModelFolder

__all__ = ["Distributed", "DistributionRequest", "cohort_paths", "describe_patients", "patients_of"]


@dataclass(frozen=True)
class DistributionRequest:
    """Whose distribution is made, and of whom.

    Args:
        model: whose patients they are.
        cases: folders and files that `read_case` takes.
        cohort: what the patients are, in words.
        workers: processes; None: one a core.
    """

    model: ModelFolder
    cases: tuple[Path, ...]
    cohort: str = ""
    workers: int | None = None


@dataclass(frozen=True)
class Distributed:
    """A distribution, and the cases that could not be read."""

    distribution: Distribution
    failed: tuple[CaseFailure, ...]

    def as_json(self) -> dict[str, Any]:
        """The record, without the statistics."""
        return {
            **self.distribution.summary(),
            "failed": [failure.as_json() for failure in self.failed],
        }

    def text(self) -> str:
        """The record in a few lines for people."""
        found = self.distribution
        return (
            f"{found.model}: {len(found.measures)} numbers of {found.patients} patients; "
            f"{found.share_percent:g} % of them, scored by the others, have a score of up to "
            f"{found.threshold:.2f}"
        )


def describe_patients(request: DistributionRequest) -> Distributed:
    """Measure the patients, and say what is usual among them. Their plans are not looked at.

    Raises:
        DosePredictionError: there are too few.
    """
    manifest = request.model.manifest
    found, failed = patients_of(
        request.cases, manifest.protocol, manifest.expectations, request.workers
    )
    identity = Identity(manifest.name, manifest.checksums, manifest.protocol, request.cohort)
    return Distributed(fit_distribution(list(found.values()), identity), failed)


def patients_of(
    cases: tuple[Path, ...],
    protocol: str,
    expected: ModelExpectations,
    workers: int | None = None,
) -> tuple[dict[str, Mapping[str, float]], tuple[CaseFailure, ...]]:
    """The numbers of each case by its name, and why others have none."""
    work = partial(_numbers, protocol=protocol, expected=expected)
    cores = usable_cores() if workers is None else workers
    done = [each for _, each in parallel_map(work, cases, cores)]
    failed = tuple(result for _, result in done if isinstance(result, CaseFailure))
    found = {name: each for name, each in done if not isinstance(each, CaseFailure)}
    return dict(sorted(found.items())), failed


def cohort_paths(folder: Path) -> tuple[Path, ...]:
    """The cases of a folder.

    Raises:
        DosePredictionError: there is no such folder, or no case in it.
    """
    if not folder.is_dir():
        raise DosePredictionError(f"There is no folder {folder}.")
    paths = [p for p in sorted(folder.iterdir()) if p.is_dir() or p.suffix == ".npz"]
    if not paths:
        raise DosePredictionError(f"{folder} holds no case: neither a folder nor an npz file.")
    return tuple(paths)


def _numbers(
    path: Path, protocol: str, expected: ModelExpectations
) -> tuple[str, Mapping[str, float] | CaseFailure]:
    name = case_name(path)
    try:
        bound = bind(read_case(path), StructureProtocol.load(protocol))
        numbers = anatomy(CaseView(bound, expected))
    except Exception as exception:  # whatever one case can raise is that case's failure
        return name, CaseFailure(name, failure_text(exception))
    if not numbers:
        return name, CaseFailure(name, "It has no target, or no body.")
    return name, numbers
