"""The report: one file, honest about what is missing, safe with names from strangers."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import OBLIQUE, pelvis_case

from DosePredictionLib.case import Case
from DosePredictionLib.errors import CaseError, GeometryError
from DosePredictionLib.findings import Finding
from DosePredictionLib.prediction import Output
from DosePredictionLib.report import ReportInput, ReportStructure, write_figures, write_report
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Grid, Volume

HOSTILE = "<script>alert(1)</script> \"&' $\\frac{$ \x00\u202e"
VOID = {"meta", "img", "br", "link", "input", "hr", "path"}


class Page(HTMLParser):
    """Tags, ids and attributes of a page; fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]

    def count(self, tag: str) -> int:
        return sum(1 for name, _ in self.tags if name == tag)


def small_case(**more: Any) -> Case:
    return pelvis_case(**({"size": (56, 44, 40), "spacing": (6.0, 6.0, 6.0)} | more))


def report_of(case: Case, with_plan: bool = True, **changes: Any) -> ReportInput:
    protocol = StructureProtocol.load("pelvis")
    structures = [
        ReportStructure(c.label, c.color, case.structures[c.name], c.role, c.name)
        for c in protocol.channels
        if c.name in case.structures
    ]
    assert case.plan_dose is not None
    prediction = case.plan_dose.with_array((case.plan_dose.array * 0.97).astype(np.float32))
    whole: dict[str, Any] = {
        "case": case,
        "prediction": prediction,
        "reference": case.plan_dose if with_plan else None,
        "structures": structures,
        "metadata": METADATA,
        "evaluation": EVALUATION if with_plan else {},
    }
    return ReportInput(**(whole | changes))


def goal(structure: str, text: str, status: str, value: Any, margin: Any) -> dict[str, Any]:
    return {
        "structure": structure,
        "goal": text,
        "status": status,
        "value": value,
        "margin": margin,
    }


METADATA: Any = {
    "model": "pelvis-two-stage",
    "title": "Two-stage pelvis",
    "protocol": "Pelvis",
    "weights_sha256": "0123456789abcdef" * 4,
    "card": {"trained_on": "40 patients", "figures": {"dose_score_gy": 2.5}, "licence": "MIT"},
    "device": "cpu",
    "precision": "bf16",
    "seconds": {"encode": 0.5, "inference": 1.25},
    "findings": [
        Finding("spacing", "info", "Spacing is 6 mm."),
        Finding("couch", "warning", "The couch lies inside Body.", "Crop Body.", "Body"),
    ],
    "fallbacks": ["cuda:0 ran out of memory; the CPU instead"],
    "prescription_gy": {"PTV": 45.0},
    "generated": "2026-01-02T03:04:05+00:00",
    "version": "0.1.0",
}
EVALUATION: Any = {
    "case": "phantom",
    "mae_body_gy": 1.234,
    "mae_above_5gy_gy": None,
    "ssim": 0.987,
    "dose_score_gy": 2.345,
    "dvh_score_gy": float("nan"),
    "gamma": {"3%/3mm": {"pass_rate_percent": 95.61}},
    "structures": {
        "PTV": {
            "volume_cc": 170.0,
            "mae_gy": 1.1,
            "endpoints": {
                "D95_gy": {"prediction": 40.0, "reference": 42.5},
                "V95percent_percent": {"prediction": None, "reference": 91.0},
            },
        }
    },
    "goals": [
        goal("Rectum", "V40Gy <= 35 %", "met", 20.0, 15.0),
        goal("Bladder", "Dmean < 40 Gy", "variation", 41.0, -1.0),
        goal("Marrow", "Dmean < 10 Gy", "not_met", 30.0, -20.0),
        goal("Cord", "Dmax < 45 Gy", "not_evaluable", None, None),
    ],
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pictures, where their size is not the matter."""
    monkeypatch.setattr("DosePredictionLib.report.figures._PANEL_PIXELS", 200)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    path = write_report(report_of(small_case()), folder / "report.html")
    assert [file.name for file in folder.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(written: str) -> Page:
    return Page(written)


def page_of(report: ReportInput, folder: Path) -> Page:
    return Page(write_report(report, folder / "report.html").read_text(encoding="utf-8"))


def test_the_report_needs_no_other_file_and_no_network(written: str, page: Page) -> None:
    sources = page.attributes("src") + page.attributes("href") + page.attributes("xlink:href")
    assert sources
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
    assert "@import" not in written and not re.search(r"url\((?!#)", written)
    assert page.count("script") == 0 and page.count("link") == 0
    assert len(written) < 2_500_000


def test_the_page_is_well_formed_with_unique_ids_and_described_pictures(page: Page) -> None:
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == 9 and all(attrs["alt"] for attrs in pictures)
    references = [href[1:] for href in page.attributes("href") if href.startswith("#")]
    references += [name for label in page.attributes("aria-labelledby") for name in label.split()]
    assert set(references) <= set(ids)
    assert all(attrs.get("scope") for tag, attrs in page.tags if tag == "th")


def test_it_says_that_it_is_research_only_at_the_top_and_at_the_bottom(page: Page) -> None:
    statement = "Not a medical device"
    assert page.text.index(statement) < page.text.index("Dose score")
    assert page.text.count("not a medical device") >= 1


def test_an_undefined_number_is_a_dash_and_never_nan(page: Page) -> None:
    words = page.text.lower()
    assert not re.search(r"\b(nan|none|inf|null)\b(?! and)", words.replace("fallbacks none", ""))
    assert "V95% – 91.0 –" in page.text
    assert "DVH score" not in page.text[: page.text.index("Slices")]


def test_scores_differences_and_statuses_are_shown_in_words(page: Page) -> None:
    assert "D95% 40.0 42.5 −2.5 Gy" in page.text
    assert "Gamma 3 %/3 mm 95.6 %" in page.text
    for words in ("✓ met", "≈ within variation", "✗ not met", "? not evaluable"):
        assert words in page.text
    assert "Dose score 2.35 Gy" in page.text or "Dose score 2.34 Gy" in page.text
    assert "2026-01-02 03:04 UTC" in page.text


def test_the_worst_finding_comes_first_with_what_to_do(page: Page) -> None:
    assert page.text.index("The couch lies inside Body.") < page.text.index("Spacing is 6 mm.")
    assert "Crop Body." in page.text and "1 warning, 1 note" in page.text


def test_a_hostile_structure_name_is_only_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("DosePredictionLib.report.figures._PAPER_DPI", 50)
    case = replace(small_case(), name=HOSTILE)
    report = report_of(case)
    first, *rest = report.structures
    hostile = first._replace(label=HOSTILE, color='red;} body{display:none}"', name="PTV")
    goals = [{"structure": HOSTILE, "goal": HOSTILE, "status": HOSTILE, "unit": HOSTILE}]
    finding = Finding("x", "warning", HOSTILE, HOSTILE, HOSTILE)
    report = replace(
        report,
        structures=[hostile, *rest],
        evaluation=EVALUATION | {"goals": goals, "gamma": {HOSTILE: {"pass_rate_percent": 1.0}}},
        metadata=METADATA | {"model": HOSTILE, "findings": [finding], "title": HOSTILE},
    )
    page = page_of(report, tmp_path)
    assert page.count("script") == 0
    assert "<script>alert(1)</script>" in page.text  # as text, so it arrived and was escaped
    assert "\x00" not in page.text and "display:none" not in page.text
    assert len(write_figures(report, tmp_path)) == 2


def test_without_a_plan_no_column_is_empty(tmp_path: Path) -> None:
    page = page_of(report_of(small_case(), with_plan=False), tmp_path)
    assert page.count("img") == 6
    for word in ("Difference", "Scores against the plan", "difference"):
        assert word not in page.text
    assert "Coverage V95%" in page.text


def test_nothing_but_doses_and_masks_is_needed(tmp_path: Path) -> None:
    case = replace(small_case(), prescription=None)
    bare: dict[str, Any] = {"metadata": {}, "evaluation": {}, "with_plan": False}
    page = page_of(report_of(case, **bare), tmp_path)
    assert "highest dose shown" in page.text
    page = page_of(report_of(case, structures=[], **bare), tmp_path)
    assert page.count("img") == 6


def test_an_empty_organ_is_named_and_called_empty(tmp_path: Path) -> None:
    report = report_of(small_case(), evaluation={})
    structures = [
        s._replace(mask=s.mask.with_array(np.zeros_like(s.mask.array))) if s.name == "Rectum" else s
        for s in report.structures
    ]
    page = page_of(replace(report, structures=structures), tmp_path)
    assert "Rectum empty" in page.text


def test_a_case_without_any_dose_can_be_reported(tmp_path: Path) -> None:
    case = small_case()
    nothing = Volume(np.zeros(case.grid.shape, dtype=np.float32), case.grid)
    page = page_of(report_of(case, prediction=nothing, reference=nothing), tmp_path)
    assert page.count("img") == 9


def test_an_oblique_scan_says_so(tmp_path: Path) -> None:
    page = page_of(report_of(small_case(direction=OBLIQUE)), tmp_path)
    assert "oblique by" in page.text


def test_another_grid_or_a_name_given_twice_is_refused() -> None:
    case = small_case()
    other = Volume(np.zeros((4, 4, 4), dtype=np.float32), Grid((4, 4, 4)))
    with pytest.raises(GeometryError, match=r"The prediction lies on .* Resample"):
        report_of(case, prediction=other)
    twice = ReportStructure("PTV", "#ff0000", case.structures["PTV"], "target")
    with pytest.raises(CaseError, match="twice"):
        report_of(case, structures=[twice, twice])


def test_a_failed_report_leaves_the_old_one_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    old = folder / "report.html"
    old.write_text("old", encoding="utf-8")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_report(report_of(small_case(), with_plan=False), old)
    assert [file.name for file in folder.iterdir()] == ["report.html"]
    assert old.read_text(encoding="utf-8") == "old"


def test_figures_for_a_paper_are_png_of_300_dpi(tmp_path: Path) -> None:
    from PIL import Image

    paths = write_figures(report_of(small_case()), tmp_path / "figures")
    assert sorted(path.name for path in paths) == ["dvh.png", "slices.png"]
    assert sorted(file.name for file in (tmp_path / "figures").iterdir()) == [
        "dvh.png",
        "slices.png",
    ]
    for path in paths:
        with Image.open(path) as picture:
            assert picture.info["dpi"] == pytest.approx((300, 300), abs=1)
            assert picture.width >= 2000


def test_further_outputs_are_shown_with_their_unit_and_hostile_names_as_text(
    tmp_path: Path,
) -> None:
    case = small_case()
    assert case.plan_dose is not None
    dose = case.plan_dose
    mask = case.structures["Bladder"]
    further = (
        Output("spread", dose.with_array(dose.array / 20), "spread", "Gy"),
        Output("chance", mask.with_array(mask.array * 0.5), "probability", "probability"),
        Output("found", mask, "segment", "none", structure=HOSTILE),
    )
    path = write_report(report_of(case, further=further), tmp_path / "report.html")
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert "<script" not in text
    assert f"Spread of the prediction: 0.00 to {dose.array.max() / 20:.2f} Gy" in page.text
    assert "Probability: 0.00 to 0.50" in page.text
    volume_cc = mask.array.sum() * case.grid.voxel_volume_cc
    assert "Segment <script>alert(1)</script>" in page.text and f"{volume_cc:.1f} cc" in page.text
    elsewhere = Volume(mask.array, replace(case.grid, origin=(9.0, 9.0, 9.0)))
    with pytest.raises(GeometryError, match="The output found lies on"):
        report_of(case, further=(Output("found", elsewhere, "segment", "none"),))
