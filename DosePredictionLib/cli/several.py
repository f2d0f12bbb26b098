"""Several cases: failures as they happen, the result in the end, and the exit code."""

from __future__ import annotations

from collections.abc import Callable

from ..app.codes import EXIT_SOME_FAILED
from ..app.output import Output
from ..app.several import CaseFailure, Record, Several

__all__ = ["finish", "note_failure"]


def note_failure(output: Output) -> Callable[[CaseFailure], None]:
    """What writes a failure as a line on stderr."""
    return lambda failure: output.note(f"error: {failure.case}: {failure.error}")


def finish(several: Several[Record], output: Output, text: Callable[[Record], str]) -> int:
    """Print what became of the cases; the exit code."""
    lines = [text(record) for record in several.done]
    count = len(several.done) + len(several.failed)
    if count > 1:
        lines.append(f"{len(several.done)} of {count} cases done.")
    output.result(several.as_json(), "\n".join(lines))
    return EXIT_SOME_FAILED if several.failed else 0
