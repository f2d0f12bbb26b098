"""Keys and numbers as a person reads them."""

from __future__ import annotations

from itertools import pairwise

import pytest

from DosePredictionLib.report.palette import (
    DARK_SURFACE,
    DOSE_MAP,
    LIGHT_SURFACE,
    readable_on,
    safe_color,
)
from DosePredictionLib.report.wording import endpoint_label, endpoint_unit, number, signed, when


@pytest.mark.parametrize(
    ("key", "label", "unit"),
    [
        ("Dmean_gy", "Dmean", "Gy"),
        ("D95_gy", "D95%", "Gy"),
        ("D0.1cc_gy", "D0.1cc", "Gy"),
        ("V20Gy_percent", "V20Gy", "%"),
        ("V95percent_percent", "V95%", "%"),
        ("V20Gy_cc", "V20Gy", "cc"),
        ("something", "something", ""),
    ],
)
def test_endpoint_keys_read_as_clinicians_write_them(key: str, label: str, unit: str) -> None:
    assert (endpoint_label(key), endpoint_unit(key)) == (label, unit)


def test_missing_and_infinite_numbers_are_a_dash() -> None:
    assert {number(value) for value in (None, float("nan"), float("inf"), "x")} == {"–"}


def test_signs_are_true_signs_and_zero_has_none() -> None:
    assert signed(1.25, 1) == "+1.2" and signed(-1.26) == "−1.3"
    assert signed(-0.01) == "0.0" and signed(0.01) == "0.0"


def test_a_time_loses_its_seconds_and_other_text_stays() -> None:
    assert when("2026-11-21T03:00:59.5+00:00") == "2026-11-21 03:00 UTC"
    assert when("2026-11-21T03:00:59+02:00") == "2026-11-21 03:00 +02:00"
    assert when("2026-11-21") == "2026-11-21" and when(None) == ""


def test_colors_are_made_readable_on_either_surface() -> None:
    assert readable_on("#ffffff", LIGHT_SURFACE) != "#ffffff"
    assert readable_on("#000000", DARK_SURFACE) != "#000000"
    assert readable_on("#000000", LIGHT_SURFACE) == "#000000"
    assert safe_color("no color; }") == "#9aa0a6"


def test_more_dose_is_brighter_all_the_way() -> None:
    rgb = DOSE_MAP(range(0, 256, 8))[:, :3]
    lightness = rgb @ (0.2126, 0.7152, 0.0722)
    assert all(after > before for before, after in pairwise(lightness))
