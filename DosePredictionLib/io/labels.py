"""Names for the labels of a label map, from a file beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import CaseError
from ..files import require_regular_file
from ..schema import read_json

__all__ = ["LABEL_SUFFIXES", "labels_file", "read_labels"]

LABEL_SUFFIXES = (".json", ".csv", ".txt", ".ctbl")

_LARGEST_FILE = 2**20
_PATTERNS = ("{}", "{}_ColorTable", "labels", "dataset")
_SNAP = re.compile(r'(\d+)(?:\s+[\d.]+){6}\s+"(.*)"')  # ITK-SNAP
_COLOURS = re.compile(r"(\d+)\s+(\S+)(?:\s+\d+){4}")  # 3D Slicer, FreeSurfer
_PAIR = re.compile(r'(\d+)\s*[,;\t ]\s*"?([^",;\t]+?)"?(?:\s*[,;\t].*)?')  # further columns


def labels_file(image: Path, stem: str) -> Path | None:
    """The file beside an image that names its labels: called like it, or `labels`, `dataset`.

    3D Slicer puts a `…_ColorTable` beside a label map that it exports.
    """
    stems = [pattern.format(stem) for pattern in _PATTERNS]
    names = (f"{name}{suffix}" for name in stems for suffix in LABEL_SUFFIXES)
    return next((file for name in names if (file := image.with_name(name)).is_file()), None)


def read_labels(path: Path) -> dict[int, str]:
    """Label value → name; the background (0) is left out.

    JSON: `{"1": "PTV"}`, `{"PTV": 1}`, or either under `labels` (nnU-Net's `dataset.json`). Text: a
    line `1,PTV` a label, an ITK-SNAP label file, or a colour table of 3D Slicer.

    Raises:
        CaseError: unreadable, not a list of names, or a name or value twice.
    """
    require_regular_file(path, _LARGEST_FILE, CaseError)
    if path.suffix.lower() == ".json":
        pairs = _json_pairs(path, read_json(path, CaseError))
    else:
        try:
            pairs = _text_pairs(path, path.read_text(encoding="utf-8-sig").splitlines())
        except UnicodeDecodeError as exception:
            raise CaseError(f"{path} is not UTF-8 text: {exception}.") from exception
    return _named(path, pairs)


def _json_pairs(path: Path, content: Any) -> list[tuple[str, str]]:
    if isinstance(content, Mapping) and isinstance(content.get("labels"), Mapping):
        content = content["labels"]
    if not isinstance(content, Mapping) or not content:
        raise CaseError(f'{path} names no labels: expected an object as {{"1": "PTV"}}.')
    pairs = []
    for key, value in content.items():
        if isinstance(value, str) and key.isdecimal():
            pairs.append((key, value))
        elif isinstance(value, int) and not isinstance(value, bool):
            pairs.append((str(value), key))
        else:
            raise CaseError(f"{path}: expected a label value and a name; got {key!r}: {value!r}.")
    return pairs


def _text_pairs(path: Path, lines: list[str]) -> list[tuple[str, str]]:
    pairs = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or not text[0].isdigit():
            continue  # a comment, or the names of the columns
        match = _SNAP.fullmatch(text) or _COLOURS.fullmatch(text) or _PAIR.fullmatch(text)
        if match is None:
            raise CaseError(f"{path}, line {number}: expected a label value and a name.")
        pairs.append((match[1], match[2]))
    return pairs


def _named(path: Path, pairs: Iterable[tuple[str, str]]) -> dict[int, str]:
    names: dict[int, str] = {}
    for text, name in pairs:
        value, name = int(text) if len(text) <= 9 else -1, name.strip()
        if not 0 <= value <= 65535 or not name:
            raise CaseError(f"{path}: a label is 1 to 65535 and has a name; got {text}: {name!r}.")
        if value == 0:
            continue
        if value in names or name in names.values():
            raise CaseError(f"{path} lists label {value} or the name {name!r} twice.")
        names[value] = name
    if not names:
        raise CaseError(f"{path} names no labels.")
    return names
