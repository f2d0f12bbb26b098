"""Tables that spreadsheets open."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.evaluation.cohort import write_csv
from DosePredictionLib.tables import safe_cell, write_table


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-x", "@sum(a)", "\t=1", "\r=1", "-1+2"])
def test_what_a_spreadsheet_would_run_is_quoted(text: str) -> None:
    assert safe_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["-1.5", "+2", "PTV", "", "a=b", -3.0, None, "1e-3", "'=x"])
def test_numbers_and_names_stay(value: object) -> None:
    assert safe_cell(value) == value


def test_a_cohorts_table_is_safe(tmp_path: Path) -> None:
    record = {"case": "=HYPERLINK(1)", "bias_body_gy": -0.5}
    write_csv(tmp_path / "scores.csv", [record])
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[1][0] == "'=HYPERLINK(1)" and "-0.5" in rows[1]


def test_a_device_or_a_folder_is_never_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for place in (Path("/dev/null"), folder):
        with pytest.raises(DosePredictionError, match=str(place)):
            write_table(place, [["a"]])
    assert Path("/dev/null").is_char_device() and not list(folder.iterdir())
