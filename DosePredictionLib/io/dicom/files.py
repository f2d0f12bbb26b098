"""DICOM files as untrusted input: opened in bounded memory, values with types, damage in one line.

pydicom converts values when they are first asked for, so damage may show anywhere. Everything that
touches a data set goes through `Item`, which turns whatever pydicom raises into a `CaseError` that
names the file.
"""

from __future__ import annotations

import math
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.datadict import dictionary_VR
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ...errors import CaseError, DosePredictionError

__all__ = [
    "CT",
    "ENHANCED_CT",
    "ION_PLAN",
    "NOT_DICOM",
    "RTDOSE",
    "RTPLAN",
    "RTSTRUCT",
    "SEG",
    "TEXT",
    "DicomFile",
    "Item",
    "damage_in",
    "is_marked",
    "open_dicom",
    "plain",
    "quiet_parser",
    "same_content",
    "what_else",
]

CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
RTDOSE = "1.2.840.10008.5.1.4.1.1.481.2"
RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
RTPLAN = "1.2.840.10008.5.1.4.1.1.481.5"
ION_PLAN = "1.2.840.10008.5.1.4.1.1.481.8"
SEG = "1.2.840.10008.5.1.4.1.1.66.4"

_MODALITY = {CT: "CT", RTDOSE: "RTDOSE", RTSTRUCT: "RTSTRUCT", RTPLAN: "RTPLAN", SEG: "SEG"}
_PREAMBLE = 128
_META = 4096  # the file meta information lies within
_ELEMENT_HEADER = 8
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_ENCAPSULATED = (b"1.2.840.10008.1.2.4.", b"1.2.840.10008.1.2.5")
NOT_DICOM = "is not DICOM (no 'DICM' at byte 128)"
"""What is said of a file that is none, as a picture beside the patient's."""

TEXT = "is a text, not DICOM (no 'DICM' at byte 128)"
"""What is said of a file that holds no zero byte."""

_SUFFIXES = (".dcm", ".ima", ".dicom")
_GROUP_LENGTH = b"\x02\0\0\0"
# Of the file meta information, or of a data set without it: lengths, character set, image type …
_FIRST_ELEMENTS = (
    *(bytes((2, 0, element, 0)) for element in (0, 1, 2)),
    *(bytes((8, 0, element, 0)) for element in (0, 1, 5, 8, 0x12, 0x14, 0x16, 0x18)),
)
_LONGEST_FIRST_VALUE = 256
_OTHER_FORMATS = {
    b"\x1f\x8b": "gzip-compressed",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf": "7-zip",
    b"BZh": "bzip2-compressed",
    b"\xfd7zXZ": "xz-compressed",
}
_LARGEST_FILE_BYTES = 2**31
_LARGEST_INFLATED_BYTES = 2**30
_INFLATED_AT_ONCE_BYTES = 2**24
# Every number matches in one way alone, so that a search that fails ends at once.
_NUMBER = rb" *[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)? *"
_NUMBERS = re.compile(_NUMBER + rb"(?:\\" + _NUMBER + rb")*")
_SHOWN = 40  # characters of a bad value
_MISSING: Any = object()


@contextmanager
def damage_in(path: Path) -> Iterator[None]:
    """Turn whatever a parser raises on damaged bytes into a `CaseError` that names the file."""
    try:
        yield
    except DosePredictionError:
        raise
    except Exception as exception:
        # Any exception: on damaged bytes pydicom and its codecs raise whatever they stumble over.
        reason = " ".join(str(exception).split())[:200] or type(exception).__name__
        raise CaseError(f"{path} is damaged or not readable as DICOM: {reason}") from exception


@contextmanager
def quiet_parser() -> Iterator[None]:
    """Without pydicom's warnings on values that break the standard: what matters is checked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def plain(text: str) -> str:
    """A text without padding, zero bytes and what else cannot be shown; names become file names."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    return shown.strip()


class Item:
    """A data set or an item of a sequence, with typed access; `path` is named in every error."""

    def __init__(self, path: Path, dataset: pydicom.Dataset) -> None:
        self.path, self.dataset = path, dataset

    def has(self, keyword: str) -> bool:
        """Whether the element is there with a value."""
        return self._raw(keyword) not in (None, "", b"", [])

    def _raw(self, keyword: str) -> Any:
        """The value as it stands: bytes where pydicom has not converted it yet."""
        with damage_in(self.path):
            tag = Tag(keyword)
            value = self.dataset.get_item(tag).value if tag in self.dataset else None
            return list(value) if isinstance(value, MultiValue) else value

    def text(self, keyword: str, default: str = _MISSING) -> str:
        """A string, several joined by backslashes, as `plain` has it."""
        with damage_in(self.path):
            if not self.has(keyword):
                return self._default(keyword, default)
            value = self.dataset.get(keyword)
            multiple = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
            text = "\\".join(map(str, value)) if multiple else str(value)
            return plain(text)

    def numbers(
        self, keyword: str, count: int | None = None, default: Sequence[float] = _MISSING
    ) -> NDArray[np.float64]:
        """Finite numbers, `count` of them if given."""
        with damage_in(self.path):
            if not self.has(keyword):
                return np.asarray(self._default(keyword, default), dtype=float)
            raw = self._raw(keyword)
            if isinstance(raw, bytes) and dictionary_VR(Tag(keyword)) in ("DS", "IS"):
                values = self._parsed(keyword, raw)
            else:
                values = np.atleast_1d(np.asarray(self.dataset.get(keyword), dtype=float))
            if count is not None and values.size != count:
                raise CaseError(
                    f"{self.path}: {keyword} must hold {count} numbers; it holds {values.size}."
                )
            if not np.all(np.isfinite(values)):
                raise CaseError(f"{self.path}: {keyword} holds NaN or infinite numbers.")
            return values

    def _parsed(self, keyword: str, raw: bytes) -> NDArray[np.float64]:
        """Numbers written as text, joined by backslashes: all of them, or none."""
        # Contours hold them by the hundred thousand: checked and converted at once, by a grammar
        # that no version of numpy or pydicom stretches.
        raw = raw.strip(b" \0")
        parts = raw.split(b"\\")
        if _NUMBERS.fullmatch(raw):
            return np.array(parts, dtype=np.bytes_).astype(np.float64)
        bad = next((part for part in parts if not _NUMBERS.fullmatch(part)), b"")
        text = bad.decode("ascii", "backslashreplace").strip()
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
        hint = "; a decimal point is wanted, not a comma" if b"," in bad else ""
        raise CaseError(
            f"{self.path}: {keyword} {Tag(keyword)} holds {shown!r}, which is no number{hint}. "
            "Export it again."
        )

    def number(self, keyword: str, default: float | None = _MISSING) -> float:
        """One finite number."""
        if default is not _MISSING and not self.has(keyword):
            return default  # type: ignore[return-value]
        return float(self.numbers(keyword, 1)[0])

    def integer(self, keyword: str, default: int | None = _MISSING) -> int:
        """One whole number."""
        value = self.number(keyword, default)
        if value is None:
            return value
        if not math.isfinite(value) or value != int(value):
            raise CaseError(f"{self.path}: {keyword} must be a whole number; it is {value:g}.")
        return int(value)

    def items(self, keyword: str) -> list[Item]:
        """Items of a sequence; none when it is absent."""
        with damage_in(self.path):
            value = self.dataset.get(keyword)
            if value is None:
                return []
            if not isinstance(value, pydicom.sequence.Sequence):
                raise CaseError(f"{self.path}: {keyword} must be a sequence of items.")
            return [Item(self.path, item) for item in value]

    def _default(self, keyword: str, default: Any) -> Any:
        if default is _MISSING:
            raise CaseError(f"{self.path} lacks {keyword}, which the standard demands.")
        return default


@dataclass(frozen=True, eq=False)
class DicomFile:
    """An opened file: what it is, whose, and in which frame of reference."""

    path: Path
    item: Item
    sop_class: str
    instance_uid: str
    series_uid: str
    frame_uid: str
    patient_id: str

    def label(self) -> str:
        """How a choice between files is put to a person."""
        names = ("StructureSetLabel", "RTPlanLabel", "SeriesDescription", "DoseSummationType")
        stated = [text for name in names if (text := self.item.text(name, ""))]
        return f"{self.path.name} ({', '.join(stated)})" if stated else self.path.name


def what_else(path: Path) -> str:
    """What a file is instead of DICOM; empty if it may be DICOM. Any file may be asked about.

    DICOM is known by its suffix, by "DICM" after the preamble, or by a first element of the groups
    that a file without preamble begins with.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_PREAMBLE + 4)
    except OSError as exception:
        return f"cannot be read: {exception.strerror}"
    if _is_marked(path, head) or _begins_as_data_set(head):
        return ""
    return _what_it_is(head)


def is_marked(path: Path) -> bool:
    """Whether a file says itself that it is DICOM: one that cannot be read is damaged then."""
    try:
        with path.open("rb") as file:
            return _is_marked(path, file.read(_PREAMBLE + 4))
    except OSError:
        return False


def _is_marked(path: Path, head: bytes) -> bool:
    return head[_PREAMBLE:][:4] == b"DICM" or path.suffix.lower() in _SUFFIXES


def _begins_as_data_set(head: bytes) -> bool:
    """Whether the first bytes are an element of group 2 or 8, little or big endian."""
    if head[:4] not in _FIRST_ELEMENTS:
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    length = int.from_bytes(head[4:8], "little")
    return explicit or length <= _LONGEST_FIRST_VALUE


def _what_it_is(head: bytes) -> str:
    """What a file is that is not DICOM, and what to do about it if it should be."""
    if not head:
        return "is empty (0 bytes)"
    for magic, kind in _OTHER_FORMATS.items():
        if head.startswith(magic):
            return f"is a {kind} file: unpack it"
    return NOT_DICOM if b"\0" in head else TEXT


def open_dicom(path: Path) -> DicomFile:
    """Open a file; nothing but its identity is checked.

    Raises:
        CaseError: not DICOM, truncated in its header, encrypted, too large, or its modality is not
            that of its class.
    """
    try:
        size = path.stat().st_size
        if size > _LARGEST_FILE_BYTES:
            raise CaseError(f"{path} has {size / 2**30:.1f} GiB; at most 2 GiB are read.")
        content = path.read_bytes()
    except OSError as exception:
        raise CaseError(f"{path} cannot be read: {exception.strerror}.") from exception
    marked = content[_PREAMBLE : _PREAMBLE + 4] == b"DICM"
    if not marked and not _begins_as_data_set(content):
        what = _what_it_is(content[:_PREAMBLE])
        raise CaseError(f"{path} {what}; export it again, or remove it from the folder.")
    with damage_in(path):
        _require_bounded_inflation(path, content)
        # From memory: a value length of 4 GB then never allocates more than the file holds.
        dataset = pydicom.dcmread(_source(content), force=not marked)
        _tell_syntax(dataset)
    item = Item(path, dataset)
    # Some exporters leave the data set's own blank; the file meta information says the same.
    meta = Item(path, getattr(dataset, "file_meta", None) or pydicom.Dataset())
    sop_class = item.text("SOPClassUID", "")
    if not sop_class and item.has("EncryptedAttributesSequence"):
        raise CaseError(f"{path} is encrypted: export it again without encryption.")
    sop_class = sop_class or meta.text("MediaStorageSOPClassUID", "")
    if not sop_class:
        raise CaseError(f"{path} has no SOP class: export it again, or remove it from the folder.")
    modality = item.text("Modality", "")
    expected = _MODALITY.get(sop_class)
    if expected is not None and modality != expected:
        raise CaseError(
            f"{path} says modality {modality!r}, but its class is that of {expected} "
            f"({UID(sop_class).name}): one of the two is wrong. Export it again."
        )
    return DicomFile(
        path,
        item,
        sop_class,
        item.text("SOPInstanceUID", "") or meta.text("MediaStorageSOPInstanceUID", ""),
        item.text("SeriesInstanceUID", ""),
        item.text("FrameOfReferenceUID", ""),
        item.text("PatientID", ""),
    )


def same_content(one: DicomFile, other: DicomFile) -> bool:
    """Whether two files hold one data set, byte by byte; who wrote the file does not matter."""
    try:
        contents = [file.path.read_bytes() for file in (one, other)]
    except OSError as exception:
        raise CaseError(
            f"{exception.filename} cannot be read: {exception.strerror}."
        ) from exception
    syntaxes = [getattr(file.item.dataset, "file_meta", None) for file in (one, other)]
    same_syntax = len({str(getattr(meta, "TransferSyntaxUID", "")) for meta in syntaxes}) == 1
    return same_syntax and _without_meta(contents[0]) == _without_meta(contents[1])


def _without_meta(content: bytes) -> bytes:
    """The data set of a file without preamble and file meta information."""
    start = _PREAMBLE + 4 if content[_PREAMBLE : _PREAMBLE + 4] == b"DICM" else 0
    if content[start : start + 4] != _GROUP_LENGTH:
        return content[start:]
    # The group length, always the first element, says where the data set begins.
    length = int.from_bytes(content[start + 8 : start + 12], "little")
    return content[start + 12 + length :]


def _tell_syntax(dataset: pydicom.Dataset) -> None:
    """Complete the file meta information of a file that has none by how it was read."""
    meta = getattr(dataset, "file_meta", None)
    if meta is None or "TransferSyntaxUID" in meta:
        return
    implicit, little = getattr(dataset, "original_encoding", (True, True))
    if little is not False:
        syntax = ImplicitVRLittleEndian if implicit is not False else ExplicitVRLittleEndian
        meta.TransferSyntaxUID = syntax


class _WholeValues(BytesIO):
    """A file in memory whose values are there whole: pydicom takes a cut one for a short one."""

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if size is not None and size > _ELEMENT_HEADER and len(data) < size:
            # pydicom takes an EOFError for the regular end.
            raise ValueError(
                f"a value of {size} bytes reaches beyond the end of the file (truncated)"
            )
        return data


def _source(content: bytes) -> BytesIO:
    """The content as pydicom reads it; encapsulated pixels are sought in steps beyond the end."""
    meta = content[:_META]
    encapsulated = any(root in meta for root in _ENCAPSULATED)
    return BytesIO(content) if encapsulated else _WholeValues(content)


def _require_bounded_inflation(path: Path, content: bytes) -> None:
    """Refuse a deflated data set that would swell without bound."""
    if _DEFLATED not in content[:_META]:
        return
    deflated = _without_meta(content)
    inflater, swollen = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while deflated and swollen < _LARGEST_INFLATED_BYTES:
        swollen += len(inflater.decompress(deflated, _INFLATED_AT_ONCE_BYTES))
        deflated = inflater.unconsumed_tail
    if swollen >= _LARGEST_INFLATED_BYTES:
        raise CaseError(
            f"{path} is deflated and swells beyond {_LARGEST_INFLATED_BYTES} bytes: export it "
            "uncompressed."
        )
