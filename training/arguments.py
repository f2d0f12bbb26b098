"""Arguments of `python -m training …`: numbers with their ranges, and one line for a wrong call."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Annotated, Any

from DosePredictionLib.arguments import Parser
from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.schema import Range, field_types, from_json, parse_json

__all__ = ["COUNT", "MINUTES", "WORKERS", "WORKERS_OR_NONE", "Parser", "field_of", "within"]

COUNT = Annotated[int, Range(1, 1_000_000)]
MINUTES = Annotated[float, Range(0, 1_000_000)]
WORKERS = Annotated[int, Range(1, 256)]
WORKERS_OR_NONE = Annotated[int, Range(0, 256)]


def within(kind: Any) -> Callable[[str], Any]:
    """The type of an argument: a number in a range, as `Annotated[int, Range(1, 256)]` has it."""

    def read(text: str) -> Any:
        try:
            value = parse_json(text)
        except ValueError:
            value = text
        try:
            return from_json(kind, value, "it")
        except DosePredictionError as exception:
            raise argparse.ArgumentTypeError(str(exception)) from exception

    return read


def field_of(settings: Any, name: str) -> Callable[[str], Any]:
    """The type of an argument that becomes a field of a dataclass, in the field's own range."""
    return within(field_types(settings)[name])
