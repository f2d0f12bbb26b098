"""The same work on one case or on several, where one may fail without the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import DosePredictionError
from ..io import case_name
from .codes import EXIT_SOME_FAILED
from .output import Output

__all__ = ["run_cases"]


def run_cases(
    paths: Sequence[Path],
    work: Callable[[Path], dict[str, Any]],
    output: Output,
    describe: Callable[[dict[str, Any]], str],
) -> int:
    """Work on each case; the exit code.

    One case: its error is the call's. Several: each failure is listed under `failed`, the others
    are done, and the code is 3.

    Raises:
        DosePredictionError: two cases would share a name, or the only case failed.
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
        record = work(paths[0])
        output.result({"cases": [record], "failed": []}, describe(record))
        return 0
    records, failed = [], []
    for name, path in names.items():
        try:
            records.append(work(path))
        except (DosePredictionError, OSError) as exception:
            message = " ".join(str(exception).split())
            failed.append({"case": name, "error": message})
            output.note(f"error: {name}: {message}")
    lines = [describe(record) for record in records]
    lines.append(f"{len(records)} of {len(paths)} cases done.")
    output.result({"cases": records, "failed": failed}, "\n".join(lines))
    return EXIT_SOME_FAILED if failed else 0
