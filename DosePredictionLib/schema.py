"""Dataclasses from JSON, strictly: unknown keys, missing keys and wrong types are refused.

Deliberately small and on the standard library alone: the trainer reads its configuration through
it on machines where nothing but torch, numpy and scipy is installed.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from .errors import DosePredictionError

__all__ = ["from_json", "read_json", "to_json"]

T = TypeVar("T")

_DEEPEST = 64
_MOST_DIGITS = 308


def read_json(path: Path, error: type[DosePredictionError] = DosePredictionError) -> Any:
    """The content of a JSON file; `error` names the file and the place that cannot be read.

    Numbers are finite: NaN, Infinity and what is too large for 64-bit floats are refused.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_int=_whole_number)
    except OSError as exception:
        raise error(f"{path} cannot be read: {exception.strerror}.") from exception
    except RecursionError as exception:
        raise error(f"{path} is nested too deeply; at most {_DEEPEST} levels.") from exception
    except ValueError as exception:  # not JSON, or not UTF-8
        raise error(f"{path} is not valid JSON: {exception}.") from exception
    _require_plain(path, content, error)
    return content


def _whole_number(digits: str) -> int | float:
    # What a float cannot hold; Python refuses to convert far longer ones at all.
    return int(digits) if len(digits) <= _MOST_DIGITS else math.inf


def _require_plain(path: Path, content: Any, error: type[DosePredictionError]) -> None:
    """Refuse numbers that are not finite, and nesting that nobody writes."""
    pending = [("", content, 1)]
    while pending:
        where, value, depth = pending.pop()
        if isinstance(value, float) and not math.isfinite(value):
            raise error(f"{path}: {where.lstrip('.') or 'the content'} is not a finite number.")
        if depth > _DEEPEST:
            raise error(f"{path} is nested too deeply; at most {_DEEPEST} levels.")
        if isinstance(value, dict):
            pending += [(f"{where}.{key}", item, depth + 1) for key, item in value.items()]
        elif isinstance(value, list):
            pending += [(f"{where}[{i}]", item, depth + 1) for i, item in enumerate(value)]


def from_json(
    cls: type[T],
    value: Any,
    where: str = "",
    error: type[DosePredictionError] = DosePredictionError,
) -> T:
    """Build the dataclass `cls` from a JSON object; `where` names the place in messages."""
    return typing.cast(T, _convert(cls, value, where or cls.__name__, error))


def to_json(value: Any) -> Any:
    """A dataclass, or anything made of them, as JSON types."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: to_json(getattr(value, field.name)) for field in fields}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [to_json(item) for item in value]
    return value


def _convert(kind: Any, value: Any, where: str, error: type[DosePredictionError]) -> Any:
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where, error)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _optional(arguments, value, where, error)
    if origin is typing.Literal:
        if value not in arguments:
            raise error(f"{where} must be one of {', '.join(map(str, arguments))}; got {value!r}.")
        return value
    if origin in (tuple, list, Sequence):
        return _sequence(arguments, value, where, error)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise error(f"{where} must be an object; got {value!r}.")
        return {k: _convert(arguments[1], v, f"{where}.{k}", error) for k, v in value.items()}
    return _scalar(kind, value, where, error)


def _dataclass(kind: Any, value: Any, where: str, error: type[DosePredictionError]) -> Any:
    if not isinstance(value, Mapping):
        raise error(f"{where} must be an object; got {value!r}.")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise error(f"{where} has unknown entries {unknown}; it may have {sorted(fields)}.")
    required = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in value]
    if missing:
        raise error(f"{where} lacks {missing}.")
    arguments = {k: _convert(hints[k], v, f"{where}.{k}", error) for k, v in value.items()}
    return kind(**arguments)


def _optional(
    arguments: tuple[Any, ...], value: Any, where: str, error: type[DosePredictionError]
) -> Any:
    """A union: None if it is allowed, else the first member that takes the value."""
    if value is None and type(None) in arguments:
        return None
    kinds = [kind for kind in arguments if kind is not type(None)]
    for kind in kinds[:-1]:
        try:
            return _convert(kind, value, where, error)
        except error:
            continue
    return _convert(kinds[-1], value, where, error)


def _sequence(
    arguments: tuple[Any, ...], value: Any, where: str, error: type[DosePredictionError]
) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise error(f"{where} must be a list; got {value!r}.")
    if (len(arguments) == 2 and arguments[1] is Ellipsis) or len(arguments) == 1:
        kinds = [arguments[0]] * len(value)
    else:
        kinds = list(arguments)
    if len(kinds) != len(value):
        raise error(f"{where} must have {len(kinds)} entries; got {len(value)}.")
    pairs = enumerate(zip(kinds, value, strict=True))
    return tuple(_convert(kind, item, f"{where}[{i}]", error) for i, (kind, item) in pairs)


def _scalar(kind: Any, value: Any, where: str, error: type[DosePredictionError]) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    is_other_bool = isinstance(value, bool) and kind is not bool
    if isinstance(kind, type) and isinstance(value, kind) and not is_other_bool:
        return value
    raise error(f"{where} must be of type {kind.__name__}; got {value!r}.")
