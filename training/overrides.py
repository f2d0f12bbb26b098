"""Values of a configuration set on the command line: `--set network.stage2_filters=24`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.schema import from_json, parse_json, to_json

__all__ = ["overridden"]

T = TypeVar("T")


def overridden(config: T, assignments: Sequence[str]) -> T:
    """The configuration with `dotted.name=value` assignments carried out, in order.

    A value is JSON (`3e-4`, `true`, `[64, 96, 96]`), else text.

    Raises:
        DosePredictionError: no such name (the nearest ones are named), the wrong type, or
            beyond its range.
    """
    tree = to_json(config)
    for assignment in assignments:
        dotted, equals, text = assignment.partition("=")
        if not equals:
            raise DosePredictionError(f"--set takes NAME=VALUE; got {assignment!r}.")
        *path, last = dotted.split(".")
        node, known = tree, config
        for name in path:
            _require(known, node, name, dotted)
            node = node[name]
            known = getattr(known, name, None)  # type: ignore[assignment]
        _require(known, node, last, dotted)
        node[last] = _value(text)
    return from_json(type(config), tree, "the configuration")


def _require(config: Any, node: Any, name: str, dotted: str) -> None:
    if not isinstance(node, dict):
        raise DosePredictionError(f"--set {dotted}: {name!r} is not a part of a plain value.")
    if config is None or not is_dataclass(config):
        return
    names = [each.name for each in fields(config)]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names
        raise DosePredictionError(f"--set {dotted}: there is no {name!r}; near: {', '.join(near)}.")


def _value(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return text
