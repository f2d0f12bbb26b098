"""The same work on many files, where one may fail without the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from DosePredictionLib.app.several import failure_text
from DosePredictionLib.processes import parallel_map

__all__ = ["attempts"]

T = TypeVar("T")


def attempts(
    work: Callable[[Path], T], paths: Sequence[Path], workers: int, label: str
) -> Iterator[tuple[int, T | None, str]]:
    """Index, result and "", or index, None and why it failed, in the order of completion.

    Args:
        work: of the module level; whatever it raises is that path's failure.
        label: of the progress bar.
    """
    done = parallel_map(partial(_attempt, work), paths, workers)
    for index, (result, reason) in tqdm(done, total=len(paths), desc=label, disable=None):
        yield index, result, reason


def _attempt(work: Callable[[Path], T], path: Path) -> tuple[T | None, str]:
    try:
        return work(path), ""
    except Exception as exception:
        return None, failure_text(exception) or type(exception).__name__
