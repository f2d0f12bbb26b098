"""Names that state nothing of a patient without a secret key, and texts without patients' names."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from DosePredictionLib.errors import CaseError, DosePredictionError

__all__ = ["IDENTIFIER_DIGITS", "default_key", "identifier", "read_key", "without_identity"]

IDENTIFIER_DIGITS = 12

_KEY_BYTES = 32
_FEWEST_DIFFERENT = 8  # bytes of a key: "aaaa…" keeps nothing secret
_SHORTEST_WORD = 3  # of a name; initials would take letters out of every text


def identifier(key: bytes, *parts: str, digits: int = IDENTIFIER_DIGITS) -> str:
    """A name that says nothing without the key: HMAC-SHA-256 (RFC 2104), shortened."""
    return hmac.new(key, "\0".join(parts).encode(), hashlib.sha256).hexdigest()[:digits]


def default_key() -> Path:
    """Where the key lies unless a person names another file: never beside the data."""
    return Path.home() / ".dose-prediction" / "clinical.key"


def read_key(path: Path | None, output: Path) -> bytes:
    """The secret key; made, readable by its owner alone, where there is none.

    Args:
        path: None: `default_key()`.
        output: folder of the data; a key that earlier versions left there must be named.

    Raises:
        CaseError: the key is shorter than 32 bytes, all alike, or cannot be read or made.
    """
    beside = output / ".key"
    if path is None and beside.is_file():
        raise CaseError(
            f"{beside}: the key lies beside the data, where whoever gets the one gets the other. "
            "Move it to a place of its own and name it with --key, so that identifiers stay."
        )
    path = path or default_key()
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with os.fdopen(os.open(path, flags, 0o600), "w", encoding="ascii") as file:
                file.write(secrets.token_hex(_KEY_BYTES))
        key = path.read_bytes().strip()
    except OSError as exception:
        raise CaseError(f"The key {path} cannot be used: {exception.strerror}.") from exception
    if len(key) < _KEY_BYTES or len(set(key)) < _FEWEST_DIFFERENT:
        raise CaseError(
            f"The key {path} has {len(key)} bytes, {len(set(key))} of them different; a secret "
            f"takes {_KEY_BYTES} or more by chance. Remove the file to have one made, or name "
            "another by --key."
        )
    return key


def without_identity(text: str, folder: Path, pseudonym: str) -> str:
    """A text on a patient's folder without its path, its files' names, and the patient's.

    Args:
        text: as an error says it.
        pseudonym: takes the place of the folder.
    """
    text = text.replace(str(folder), pseudonym)
    names = {path.name for path in folder.rglob("*")} if folder.is_dir() else set()
    stems = {Path(name).stem for name in names}
    ordered = sorted(names)
    for number, name in sorted(enumerate(ordered, 1), key=lambda pair: -len(pair[1])):
        text = _without_word(text, name, f"file {number}")
    for stem in sorted(stems, key=len, reverse=True):
        text = _without_word(text, stem, "…")
    for word in sorted({folder.name, *_identity(folder)}, key=len, reverse=True):
        text = _without_word(text, word, pseudonym)
    return text


def _without_word(text: str, word: str, instead: str) -> str:
    if len(word) < _SHORTEST_WORD:
        return text
    return re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", lambda _: instead, text, flags=re.IGNORECASE)


def _identity(folder: Path) -> set[str]:
    """Words of the patient's name, and the patient's IDs, as the folder's files have them."""
    from DosePredictionLib.io.dicom.files import open_dicom, quiet_parser, what_else

    words: set[str] = set()
    for path in folder.rglob("*"):
        if not path.is_file() or what_else(path):
            continue
        try:
            with quiet_parser():
                item = open_dicom(path).item
                name = item.text("PatientName", "")
                words |= {item.text("PatientID", ""), name, *re.split(r"[\^=\s]+", name)}
        except DosePredictionError:
            continue
    return words
