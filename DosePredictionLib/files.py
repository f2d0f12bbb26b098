"""Files and folders that appear whole or not at all: the one way in which results are written.

What is written lies in a folder aside, `.partial-…`, beside its place, and is renamed when it is
complete. An exception, an interrupt or a full disk leaves what was there before. A process that was
killed leaves its folder aside behind; the next writing into the same place sweeps it away.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import DosePredictionError
from .processes import is_alive

__all__ = [
    "PARTIAL",
    "check_file_name",
    "file_set",
    "json_text",
    "require_file_place",
    "require_regular_file",
    "sweep",
    "whole_file",
    "whole_folder",
    "write_json",
]

PARTIAL = ".partial-"
"""How the names of folders aside begin; whoever lists a folder passes over them."""

_NUMBERS = re.compile(r"\[\n[-+.\deE,\s]+\]")  # no text in JSON holds a line break
_MOST_BYTES = 200  # file systems take 255; names aside and suffixes come on top


def require_regular_file(
    path: Path, most_bytes: int, error: type[DosePredictionError] = DosePredictionError
) -> None:
    """Refuse what cannot be read to an end: a folder, a device, a pipe, or far too much.

    Raises:
        DosePredictionError: as `error`. A file that is missing is left to whoever opens it.
    """
    if path.exists() and not path.is_file():
        raise error(f"{path} cannot be read: it is a folder, a device or a pipe.")
    if path.is_file() and path.stat().st_size > most_bytes:
        raise error(f"{path} cannot be read: it is larger than {most_bytes // 2**20} MB.")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to, of the same name; it becomes `path` when the block ends well.

    Raises:
        DosePredictionError: the place is a folder or a device.
    """
    require_file_place(path)
    with _aside(path.parent) as aside:
        yield aside / path.name
        (aside / path.name).replace(path)


@contextmanager
def whole_folder(folder: Path, replace: bool = False) -> Iterator[Path]:
    """A folder to write into; it becomes `folder` when the block ends well.

    Args:
        replace: whether a folder that is there gives way; it is removed only then.

    Raises:
        DosePredictionError: the folder exists and is not to be replaced.
    """
    if folder.exists() and not replace:
        raise DosePredictionError(f"{folder} exists. Choose another name, or remove it first.")
    with _aside(folder.parent) as aside:
        new = aside / "new"
        new.mkdir()
        yield new
        if folder.exists():
            folder.rename(aside / "old")
        try:
            new.rename(folder)
        except OSError:
            if (aside / "old").exists():
                (aside / "old").rename(folder)
            raise


@contextmanager
def file_set(folder: Path, superseded: Iterable[str] = ()) -> Iterator[Path]:
    """A folder to write files into; all of them get their places in `folder`, or none does.

    Args:
        folder: made if it is missing; other files in it stay.
        superseded: names of files that go when the set comes, as far as it does not hold them.

    Raises:
        DosePredictionError: one of the places is a folder or a device.
    """
    with _aside(folder.parent) as aside:
        new, old = aside / "new", aside / "old"
        new.mkdir()
        old.mkdir()
        yield new
        names = sorted(file.name for file in new.iterdir())
        for name in names:
            require_file_place(folder / name)
        was_there = folder.is_dir()
        folder.mkdir(exist_ok=True)
        try:
            for name in {*names, *superseded}:
                if (folder / name).exists():
                    (folder / name).rename(old / name)
            for name in names:
                (new / name).rename(folder / name)
        except BaseException:
            for name in names:
                if not (new / name).exists():
                    (folder / name).unlink(missing_ok=True)
            for file in old.iterdir():
                file.rename(folder / file.name)
            if not was_there:
                folder.rmdir()
            raise


def write_json(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all.

    Raises:
        DosePredictionError: the place is a folder or a device.
        ValueError: a number in it is not finite.
    """
    text = json_text(content)
    with whole_file(path) as aside:
        aside.write_text(text, encoding="utf-8")


def json_text(content: Any) -> str:
    """JSON for files: indented, with a list of numbers on one line.

    Raises:
        ValueError: a number in it is not finite.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    return _NUMBERS.sub(lambda found: " ".join(found[0].split()), text) + "\n"


def check_file_name(
    name: str,
    what: str,
    error: type[DosePredictionError] = DosePredictionError,
    most_bytes: int = _MOST_BYTES,
) -> str:
    """The name, if a file or folder may be called so and lies where it is put.

    Args:
        what: what is named so, as the message begins: "the case", "a model".
        error: what is raised.
        most_bytes: of the name in UTF-8; file systems take 255, suffixes included.

    Raises:
        DosePredictionError: it is empty, `.` or `..`, holds a separator or a control character,
            is no valid Unicode, or is too long.
    """
    if name in ("", ".", ".."):
        fault = "it names no file of its own"
    elif "/" in name or "\\" in name:
        fault = "it holds a separator of folders"
    elif any(ord(character) < 32 or ord(character) == 127 for character in name):
        fault = "it holds a control character"
    elif any(0xD800 <= ord(character) < 0xE000 for character in name):
        fault = "it is no valid Unicode"
    elif len(name.encode()) > most_bytes:
        fault = f"it is longer than {most_bytes} bytes"
    else:
        return name
    shown = ascii(name if len(name) <= 80 else f"{name[:80]}…")
    raise error(f"{shown} cannot name {what}: {fault}. Use letters, digits, '-' and '_'.")


def require_file_place(path: Path) -> None:
    """Refuse to replace what is no file: a folder, a device, a pipe.

    Raises:
        DosePredictionError: says what is there.
    """
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a device or a pipe"
        raise DosePredictionError(f"{path} is {kind}; name a file to write to.")


def sweep(folder: Path) -> None:
    """Remove the folders aside in `folder` whose processes, on this machine, have ended."""
    for left in folder.glob(f"{PARTIAL}{_machine()}-*"):
        pid = left.name.split("-")[2]
        if pid.isdigit() and int(pid) != os.getpid() and not is_alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _aside(parent: Path) -> Iterator[Path]:
    """A new folder in `parent` that goes when the block ends, however it ends.

    Raises:
        DosePredictionError: nothing can be written there.
    """
    prefix = f"{PARTIAL}{_machine()}-{os.getpid()}-"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        sweep(parent)
        private = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
    except OSError as exception:  # whose own path may be that of a part nobody knows
        raise DosePredictionError(
            f"Nothing can be written into {parent} ({exception.strerror}): choose another place."
        ) from exception
    private.chmod(0o755)  # mkdtemp makes it private; what is renamed out of it would stay so
    try:
        yield private
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _machine() -> str:
    """This machine in eight digits: a shared folder may hold what another one is writing."""
    return f"{zlib.crc32(platform.node().encode()):08x}"
