"""Numbers written as text: read whole, or refused with the element; never cut short."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_support import save

from DosePredictionLib.errors import CaseError
from DosePredictionLib.io import read_case
from DosePredictionLib.io.dicom.files import Item

MALFORMED = {
    "slope": ("slice*", "RescaleSlope", "1.51", b"1,51"),
    "intercept": ("slice*", "RescaleIntercept", "-1000.5", b"-1000,5"),
    "spacing": ("slice*", "PixelSpacing", ["5.00", "5.00"], b"5.00\\5,00"),
    "position": ("slice*", "ImagePositionPatient", ["1.25", "2", "3"], b"1,25\\2\\3"),
    "scaling": ("rd.dcm", "DoseGridScaling", "0.0010", b"0,0010"),
    "offsets": ("rd.dcm", "GridFrameOffsetVector", ["0", "5.25"], b"0\\5,25"),
    "fractions": ("rp.dcm", "NumberOfFractionsPlanned", "000025", b"00002,"),
    "prescription": ("rp.dcm", "TargetPrescriptionDose", "50.4", b"50,4"),
    "meterset": ("rp.dcm", "BeamMeterset", "200.4", b"200,4"),
    "leaves": ("rp.dcm", "LeafJawPositions", ["-40.5", "50"], b"-40,5\\50"),
    "number": ("rs.dcm", "ROINumber", "000012", b"00001x"),
    "contour": ("rs.dcm", "ContourData", ["1.5", "2.5", "3.5"], b"1.5\\2,5\\3.5"),
}


def first_with(dataset: pydicom.Dataset, keyword: str) -> pydicom.Dataset:
    """The data set itself, or the first item in it that has an element."""
    found = [each for each in _items(dataset) if keyword in each]
    return found[0]


def _items(dataset: pydicom.Dataset) -> list[pydicom.Dataset]:
    items = [dataset]
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                items += _items(item)
    return items


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_number_is_refused_with_its_element(patient: Path, case: str) -> None:
    pattern, keyword, written, malformed = MALFORMED[case]
    file = sorted(patient.glob(pattern))[2 if "*" in pattern else 0]
    dataset = pydicom.dcmread(file)
    setattr(first_with(dataset, keyword), keyword, written)
    save(file, dataset)
    text = "\\".join([written] if isinstance(written, str) else written).encode()
    content = file.read_bytes()
    assert content.count(text) >= 1
    at = content.index(text)
    file.write_bytes(content[:at] + malformed.ljust(len(text)) + content[at + len(text) :])
    with pytest.raises(CaseError, match=keyword) as raised:
        read_case(patient)
    message = str(raised.value)
    assert str(file) in message and "which is no number" in message and "\n" not in message
    assert ("decimal point" in message) == (b"," in malformed)


@pytest.mark.parametrize(
    "raw",
    [b"1,5", b"1_0", b"0x10", b"nan", b"inf", b"1 2", b"1\\\\3", b"1d3", b"\xff", b"1.2.3", b"-"],
)
def test_what_is_no_number_by_the_standard_is_none_here(raw: bytes) -> None:
    with pytest.raises(CaseError, match=r"x.dcm: ContourData \(3006,0050\) holds"):
        item_of(raw).numbers("ContourData")


@pytest.mark.parametrize(
    "end", [b"x", b" " * 200_000 + b"x", b"\\1" * 100_000 + b",", b"1" * 200_000]
)
def test_a_bad_end_is_found_at_once(end: bytes) -> None:
    started = time.process_time()
    with pytest.raises(CaseError, match="ContourData"):
        item_of(b"12.345\\" * 50_000 + end + b"z").numbers("ContourData")
    assert time.process_time() - started < 2.0


def test_every_way_to_write_a_number_is_read() -> None:
    values = item_of(b" 1\\-2.5 \\+3e2\\.5\\7.\\1E-3 \0").numbers("ContourData")
    assert values.tolist() == [1, -2.5, 300, 0.5, 7, 0.001]
    many = np.random.default_rng(1).normal(0, 100, 30_000).round(4)
    text = "\\".join(map(str, many)).encode()
    assert np.array_equal(item_of(text).numbers("ContourData"), many)


def item_of(raw: bytes) -> Item:
    """A data set as parsed from a file: its contour data are not converted yet."""
    dataset = pydicom.Dataset()
    tag = pydicom.tag.Tag("ContourData")
    element = pydicom.dataelem.RawDataElement(tag, "DS", len(raw), raw, 0, False, True)
    dataset._dict[tag] = element
    return Item(Path("x.dcm"), dataset)
