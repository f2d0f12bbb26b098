"""Dataclasses from JSON, strictly: unknown keys, missing keys, wrong types and values out of range
are refused with their place.

A field states its range beside its type: `Annotated[float, Range(0, 200, above=True)]`. The same
ranges hold for a dataclass made in Python where `validated` stands below `@dataclass`.

Deliberately small and on the standard library alone: the trainer reads its configuration through
it on machines where nothing but torch, numpy and scipy is installed.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import numbers
import re
import reprlib
import types
import typing
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from .errors import DosePredictionError
from .files import require_regular_file

__all__ = [
    "FieldError",
    "FreeText",
    "Length",
    "Name",
    "Pattern",
    "Range",
    "Share",
    "field_types",
    "from_json",
    "parse_json",
    "read_json",
    "read_versioned",
    "to_json",
    "validated",
]

T = TypeVar("T")

_DEEPEST = 64
_LARGEST_JSON = 2**28  # bytes
_MOST_DIGITS = 308


@dataclass(frozen=True)
class Range:
    """The numbers that a field may hold, both ends included.

    Args:
        low, high: the ends.
        above: `low` itself is too low.
        below: `high` itself is too high.
    """

    low: float
    high: float
    above: bool = False
    below: bool = False

    def __str__(self) -> str:
        low = f"above {self.low:.10g}" if self.above else f"at least {self.low:.10g}"
        return f"{low} and {'below' if self.below else 'at most'} {self.high:.10g}"

    def allows(self, value: float) -> bool:
        """Whether a number lies in the range; NaN never does."""
        low = self.low < value if self.above else self.low <= value
        return low and (value < self.high if self.below else value <= self.high)


@dataclass(frozen=True)
class Length:
    """How many characters a text has, or how many entries a list or an object.

    Args:
        low, high: the ends, included.
        unique: no entry stands twice.
    """

    low: int
    high: int
    unique: bool = False

    def __str__(self) -> str:
        return f"of length {self.low} to {self.high}{', no entry twice' if self.unique else ''}"

    def allows(self, value: Sized) -> bool:
        """Whether a text, a list or an object has such a length."""
        if self.unique and len(set(typing.cast(Sequence[Any], value))) < len(value):
            return False
        return self.low <= len(value) <= self.high


@dataclass(frozen=True)
class Pattern:
    """A regular expression that a whole text matches, and what that means in words."""

    expression: str
    words: str

    def __str__(self) -> str:
        return self.words

    def allows(self, value: str) -> bool:
        """Whether all of the text matches."""
        return re.fullmatch(self.expression, value) is not None


Rule = Range | Length | Pattern

Name = Annotated[str, Length(1, 200)]
FreeText = Annotated[str, Length(0, 100_000)]
Share = Annotated[float, Range(0, 1)]

_SHOWN = 120  # characters
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 8


class FieldError(DosePredictionError):
    """A field that breaks a rule which one value alone does not show; for `__post_init__`.

    Args:
        field: its name; the reader puts the place before it.
        rule: "must …; got …".
    """

    def __init__(self, field: str, rule: str) -> None:
        self.field, self.rule = field, rule
        super().__init__(f"{field} {rule}")


def validated(cls: type[T]) -> type[T]:
    """Check every field against its type and range whenever one is made; below `@dataclass`.

    Fields are then of the stated types: an int for a float becomes a float, a list a tuple. Rules
    between fields stay in the class's own `__post_init__`, which runs afterwards.

    Raises:
        DosePredictionError: from the constructor; names class and field.
    """
    own: Callable[[Any], None] | None = getattr(cls, "__post_init__", None)

    def __post_init__(self: Any) -> None:
        reader = _Reader(DosePredictionError)
        for name, kind in field_types(self.__class__).items():
            place = f"{type(self).__name__}.{name}"
            object.__setattr__(self, name, reader.convert(kind, getattr(self, name), place))
        if own is not None:
            own(self)

    cls.__post_init__ = __post_init__  # type: ignore[attr-defined]
    return cls


def read_json(path: Path, error: type[DosePredictionError] = DosePredictionError) -> Any:
    """The content of a JSON file; `error` names the file and the place that cannot be read.

    Numbers are finite: NaN, Infinity and what is too large for 64-bit floats are refused.
    """
    try:
        require_regular_file(path, _LARGEST_JSON, error)
        return parse_json(path.read_text(encoding="utf-8-sig"))
    except DosePredictionError:
        raise
    except OSError as exception:
        raise error(f"{path} cannot be read: {exception.strerror}.") from exception
    except ValueError as exception:  # the syntax, the encoding, or a path that cannot be one
        raise error(f"{path} is no valid JSON: {exception}.") from exception


def parse_json(text: str) -> Any:
    """JSON as its standard has it: no NaN, no number beyond a double, no key twice.

    Raises:
        ValueError: with the place and the reason, one line.
    """
    too_deep = f"it is nested too deeply (at most {_DEEPEST} levels)"
    try:
        content = json.loads(text, parse_int=_whole_number, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError(too_deep) from None
    pending = [("", content, 1)]
    while pending:
        where, value, depth = pending.pop()
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{where.lstrip('.') or 'the content'} is not a finite number")
        if depth > _DEEPEST:
            raise ValueError(too_deep)
        if isinstance(value, dict):
            pending += [(f"{where}.{key}", item, depth + 1) for key, item in value.items()]
        elif isinstance(value, list):
            pending += [(f"{where}[{i}]", item, depth + 1) for i, item in enumerate(value)]
    return content


def _whole_number(digits: str) -> int | float:
    # What a float cannot hold; Python refuses to convert far longer ones at all.
    return int(digits) if len(digits) <= _MOST_DIGITS else math.inf


def from_json(
    cls: type[T],
    value: Any,
    where: str = "",
    error: type[DosePredictionError] = DosePredictionError,
    ignored: list[str] | None = None,
) -> T:
    """Build the dataclass `cls` from a JSON object.

    Args:
        where: names the place in messages.
        error: what is raised.
        ignored: takes the places of unknown entries, which are refused without it.
    """
    return typing.cast(T, _Reader(error, ignored).convert(cls, value, where or cls.__name__))


def read_versioned(
    cls: type[T], path: Path, known: tuple[int, int], what: str, error: type[DosePredictionError]
) -> T:
    """The dataclass `cls` from a JSON file with `schema_version` and, perhaps, `schema_minor`.

    What a newer minor version added is left out.

    Args:
        known: version and minor version that `cls` describes.
        what: the file is, in messages.

    Raises:
        error: the file is missing, of a newer version, or malformed.
    """
    content = read_json(path, error)
    if not isinstance(content, dict) or "schema_version" not in content:
        raise error(f"{path} is no {what}: it has no schema_version.")
    version, minor = content["schema_version"], content.get("schema_minor", 0)
    if isinstance(version, int) and version > known[0]:
        raise error(
            f"{path} has schema version {version}; this version of DosePrediction reads up to "
            f"{known[0]}. Install a newer one, or make the file again with this one."
        )
    newer = isinstance(minor, int) and minor > known[1]
    return from_json(cls, content, str(path), error, [] if newer else None)


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


@dataclass(frozen=True)
class _Reader:
    """Turns values into what fields state, or raises `error` with the place."""

    error: type[DosePredictionError]
    ignored: list[str] | None = None

    def convert(self, kind: Any, value: Any, where: str, rules: tuple[Rule, ...] = ()) -> Any:
        """A value as its type and the rules beside it have it."""
        if kind is Any:
            return value
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin is Annotated:
            return self.convert(arguments[0], value, where, (*rules, *arguments[1:]))
        if dataclasses.is_dataclass(kind):
            return self._dataclass(kind, value, where)
        if origin in (typing.Union, types.UnionType):
            return self._union(arguments, value, where, rules)
        if origin is typing.Literal:
            if isinstance(value, str | int) and value in arguments:
                return value
            options = ", ".join(map(str, arguments))
            raise self.error(f"{where} must be one of {options}; got {_shown(value)}.")
        if origin in (tuple, list, Sequence):
            return self._sequence(arguments, value, where, rules)
        if origin in (dict, Mapping):
            return self._mapping(arguments, value, where, rules)
        return self._scalar(kind, value, where, rules)

    def _dataclass(self, kind: Any, value: Any, where: str) -> Any:
        if isinstance(value, kind):
            return value
        if not isinstance(value, Mapping):
            raise self.error(f"{where} must be an object; got {_shown(value)}.")
        kinds = field_types(kind)
        unknown = sorted(set(value) - set(kinds))
        if unknown and self.ignored is None:
            raise self.error(
                f"{where} has unknown entries {_shown(unknown)}; it may have {sorted(kinds)}."
            )
        if self.ignored is not None:
            self.ignored.extend(f"{where}.{_key(name)}" for name in unknown)
        missing = [name for name in _required(kind) if name not in value]
        if missing:
            raise self.error(f"{where} lacks {missing}.")
        arguments = {
            name: self.convert(kinds[name], item, f"{where}.{name}")
            for name, item in value.items()
            if name in kinds
        }
        try:
            return kind(**arguments)
        except FieldError as exception:
            raise self.error(f"{where}.{exception.field} {exception.rule}") from exception
        except DosePredictionError as exception:
            raise self.error(f"{where}: {exception}") from exception

    def _union(
        self, arguments: tuple[Any, ...], value: Any, where: str, rules: tuple[Rule, ...]
    ) -> Any:
        """None if it is allowed, else the first member that takes the value."""
        if value is None and type(None) in arguments:
            return None
        kinds = [kind for kind in arguments if kind is not type(None)]
        for kind in kinds[:-1]:
            try:
                return self.convert(kind, value, where, rules)
            except self.error:
                continue
        return self.convert(kinds[-1], value, where, rules)

    def _sequence(
        self, arguments: tuple[Any, ...], value: Any, where: str, rules: tuple[Rule, ...]
    ) -> tuple[Any, ...]:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise self.error(f"{where} must be a list{_stated(rules)}; got {_shown(value)}.")
        if (len(arguments) == 2 and arguments[1] is Ellipsis) or len(arguments) == 1:
            kinds = [arguments[0]] * len(value)
        else:
            kinds = list(arguments)
        if len(kinds) != len(value):
            raise self.error(f"{where} must have {len(kinds)} entries; got {_shown(value)}.")
        pairs = enumerate(zip(kinds, value, strict=True))
        result = tuple(self.convert(kind, item, f"{where}[{i}]") for i, (kind, item) in pairs)
        self._require(result, "a list", where, rules)
        return result

    def _mapping(
        self, arguments: tuple[Any, ...], value: Any, where: str, rules: tuple[Rule, ...]
    ) -> dict[Any, Any]:
        if not isinstance(value, Mapping):
            raise self.error(f"{where} must be an object{_stated(rules)}; got {_shown(value)}.")
        self._require(value, "an object", where, rules)
        if typing.get_origin(arguments[0]) is Annotated:
            for key in value:
                self.convert(arguments[0], key, f"A key of {where}")
        return {
            key: self.convert(arguments[1], item, f"{where}.{_key(key)}")
            for key, item in value.items()
        }

    def _scalar(self, kind: Any, value: Any, where: str, rules: tuple[Rule, ...]) -> Any:
        noun = f"of type {getattr(kind, '__name__', kind)}"
        result = _of_type(kind, value)
        if result is None:
            raise self.error(f"{where} must be {noun}{_stated(rules)}; got {_shown(value)}.")
        self._require(result, noun, where, rules)
        return result

    def _require(self, value: Any, noun: str, where: str, rules: tuple[Rule, ...]) -> None:
        if not all(rule.allows(value) for rule in rules):
            raise self.error(f"{where} must be {noun}{_stated(rules)}; got {_shown(value)}.")


def _of_type(kind: Any, value: Any) -> Any:
    """The value as the scalar type has it, or None: it is no such thing."""
    if kind is bool or isinstance(value, bool):
        return value if kind is bool and isinstance(value, bool) else None
    try:
        if kind is float and isinstance(value, numbers.Real):
            return float(value) if math.isfinite(value) else None
        if kind is int and isinstance(value, numbers.Integral):
            return int(value)
    except OverflowError:  # an integer that no double holds
        return None
    return value if isinstance(kind, type) and isinstance(value, kind) else None


@functools.cache
def field_types(cls: Any) -> Mapping[str, Any]:
    """The types of a dataclass's fields by their names, rules included."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


@functools.cache
def _required(cls: Any) -> tuple[str, ...]:
    """The fields of a dataclass that have no default."""
    missing = dataclasses.MISSING
    return tuple(
        field.name
        for field in dataclasses.fields(cls)
        if field.init and field.default is missing and field.default_factory is missing
    )


def _stated(rules: tuple[Rule, ...]) -> str:
    return "".join(f", {rule}" for rule in rules)


def _shown(value: Any) -> str:
    """A value in a message: one short line."""
    try:
        text = _SHORT.repr(value)
    except ValueError:  # thousands of digits
        return "an integer that is too long to show"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _key(key: Any) -> str:
    """A key in a place: as it is, if it is a plain word."""
    return key if isinstance(key, str) and re.fullmatch(r"[\w.-]{1,60}", key) else _shown(key)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {_shown(twice)} stands twice in one object")
    return result
