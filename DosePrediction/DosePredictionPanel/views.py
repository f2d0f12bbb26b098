"""What each section shows: pure functions of the state. A section draws what they return."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .apply_state import ButtonState, apply_button
from .finding_rows import FindingRow, finding_rows, findings_title
from .flow.derived import findings_of, findings_of_result, freshness_of, situation_of
from .flow.levels import levels_text
from .flow.state import (
    GOALS_FROM_FILE,
    CaseMemory,
    Notice,
    PanelState,
    ResultState,
    Verdict,
)
from .i18n import _
from .result_tables import STATUS_COLORS
from .structure_rows import StructureRow, structure_rows

if TYPE_CHECKING:
    from .result_tables import Table

__all__ = [
    "AdvancedView",
    "ChecksView",
    "InputsView",
    "InstallationView",
    "ResultView",
    "RunView",
    "StructuresView",
    "advanced_view",
    "checks_view",
    "inputs_view",
    "installation_view",
    "result_view",
    "run_view",
    "structures_view",
    "verdict_text",
]

_LINES_SHOWN = 3
_SIGNS = {"met": "✓", "variation": "≈", "not_met": "✗"}


@dataclass(frozen=True)
class InputsView:
    """Selectors and the model's card.

    Args:
        hidden: choice (`ct`, `segmentation`, `plan_dose`) → ids of nodes that do not fit it.
        models: name → title.
        doses: that the model knows, as text.
        is_scalable: whether its dose is scaled to another prescription.
    """

    hidden: Mapping[str, tuple[str, ...]]
    models: Mapping[str, str]
    model: str
    card: str
    card_details: str
    doses: str
    prescription_tip: str
    is_scalable: bool


def inputs_view(state: PanelState) -> InputsView:
    """Models, the card of the chosen one, and what the node selectors must not offer."""
    name = state.choices.model if state.choices is not None else ""
    model = state.model
    card, details, doses, tip = "", "", "", ""
    if model is None:
        card = state.models_problem or _(
            "The model {name} is not installed. Choose another one, or install it again."
        ).format(name=name or "–")
    else:
        card, details = model.card, model.card_details
        doses = model.doses
        tip = (
            _("This model predicts its own dose levels; they are not scaled.")
            if model.has_levels
            else _("The dose is scaled to this prescription. The lowest value: the model's own.")
        )
    hidden = {
        choice: tuple(node.id for node in state.nodes if not node.fits(choice))
        for choice in ("ct", "segmentation", "plan_dose")
    }
    models = {each.name: each.title for each in state.models}
    is_scalable = model is not None and not model.has_levels
    return InputsView(hidden, models, name, card, details, doses, tip, is_scalable)


@dataclass(frozen=True)
class StructuresView:
    """Rows by channel and the segments to choose from; without rows a hint."""

    rows: tuple[StructureRow, ...] = ()
    segments: tuple[str, ...] = ()
    hint: str = ""


def structures_view(state: PanelState) -> StructuresView:
    """Which segment fills which channel."""
    matching = state.matching
    if matching.mapping is None or matching.protocol is None:
        return StructuresView(hint=_("Choose a CT, a segmentation and a model."))
    volumes_cc = state.prepared.volumes_cc if state.prepared is not None else {}
    found = dict(matching.found)
    rows = structure_rows(matching.protocol, matching.mapping, volumes_cc, state.findings, found)
    return StructuresView(tuple(rows), matching.names)


@dataclass(frozen=True)
class ChecksView:
    """The findings, worst first."""

    title: str
    rows: tuple[FindingRow, ...] = ()
    hint: str = ""


def checks_view(state: PanelState) -> ChecksView:
    """What was noticed about the inputs and of the shown result; while inputs are read, what was
    noticed before."""
    findings = list(findings_of(state))
    mapping = state.matching.mapping
    if state.input_error:
        from DosePredictionLib.findings import Finding

        findings = [*state.matching.problems, Finding("inputs", "blocking", state.input_error)]
    elif not findings and mapping is not None:
        findings = list(mapping.findings)
    findings += findings_of_result(state)
    rows = tuple(finding_rows(findings))
    if state.reading is not None:
        return ChecksView(findings_title([], reading=True), rows, state.reading.stage)
    if mapping is None and not findings:
        return ChecksView(_("Checks"))
    hint = "" if rows else _("Nothing speaks against a prediction.")
    return ChecksView(findings_title(findings), rows, hint)


@dataclass(frozen=True)
class RunView:
    """Apply, why it is disabled, the progress, and what there is to state, errors first.

    Args:
        share: done, 0…1; below 0: unknown; None: nothing is under way.
    """

    button: ButtonState
    reason: str = ""
    share: float | None = None
    stage: str = ""
    notices: tuple[Notice, ...] = ()


def run_view(state: PanelState) -> RunView:
    """The button and everything beside it."""
    button = apply_button(situation_of(state))
    reason = "" if button.enabled or state.run is not None else button.tool_tip
    share, stage = None, ""
    if state.run is not None:
        share, stage = state.run.share, state.run.stage
    elif state.export:
        share, stage = -1.0, state.export
    outdated = freshness_of(state).notice() if state.run is None else ""
    stated = (state.error, state.message, Notice(outdated, "warning") if outdated else None)
    notices = tuple(notice for notice in stated if notice is not None)
    return RunView(button, reason, share, stage, notices)


@dataclass(frozen=True)
class ResultView:
    """The shown result.

    Args:
        run: its id; empty without one.
        can_display: whether its numbers are at hand: display, goals, report and tables need them.
        why_not: the reason when they are not.
        templates: id → title.
        results, others: dose → label, of those that can be shown as A, and as B beside it.
        dose, other: those that are.
        verdict: rich text; a link is `goal:` and the row of the table.
        layers: what can lie over the CT, as the parameter names it → as a person reads it.
        layer: the one that does.
        probe: what lies under the mouse.
        levels: own isodose levels as text; empty: the usual ones.
        hidden: structures that are not shown.
        arrived: run of the result that came last, to be brought into view.
        bands: what is to be said of the DVHs' bands; has_bands: whether there are some.
    """

    run: str = ""
    summary: str = ""
    results: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)
    dose: str = ""
    other: str = ""
    verdict: str = ""
    layers: Mapping[str, str] = field(default_factory=dict)
    layer: str = "prediction"
    probe: str = ""
    levels: str = ""
    hidden: frozenset[str] = frozenset()
    arrived: str = ""
    tables: Mapping[str, Table] = field(default_factory=dict)
    tab: str = "goals"
    can_display: bool = False
    why_not: str = ""
    templates: Mapping[str, str] = field(default_factory=dict)
    goals: str = ""
    bands: str = ""
    has_bands: bool = False


def result_view(state: PanelState) -> ResultView:
    """Summary and tables; an empty section without a result."""
    goals = state.choices.goals if state.choices is not None else ""
    templates = {"": _("None"), **{each.id: each.title for each in state.templates}}
    if goals not in templates:
        templates[goals] = Path(goals).stem
    templates[GOALS_FROM_FILE] = _("From a file…")
    result, choices = state.result, state.choices
    levels = levels_text(state.levels)
    if result is None or choices is None:
        return ResultView(templates=templates, goals=goals, levels=levels)
    summary, why_not = result.summary, ""
    if not result.has_numbers:
        text = _("{name} came without its numbers. Predict again for tables and reports.")
        summary = why_not = text.format(name=result.name)
    results = {each.dose: each.label or each.name for each in state.results_of_ct(result.ct)}
    numbered = [each for each in state.results_of_ct(result.ct) if each.has_numbers]
    others = {each.dose: each.label for each in numbered if each is not result}
    return ResultView(
        run=result.run,
        summary=summary,
        results=results,
        others={"": _("(none)"), **others},
        dose=result.dose,
        other=choices.compared_dose,
        verdict=verdict_text(result.verdict),
        layers=_layers(state, result),
        layer=choices.shown,
        probe=state.probe,
        levels=levels,
        hidden=state.cases.get(result.ct, CaseMemory()).hidden,
        arrived=state.arrived if state.arrived == result.run else "",
        tables=result.tables,
        tab=state.tab,
        can_display=result.has_numbers,
        why_not=why_not,
        templates=templates,
        goals=goals,
        bands=result.bands,
        has_bands=result.has_bands,
    )


def verdict_text(verdict: Verdict) -> str:
    """How many goals are met, and the first that are not, each with a link to its row."""
    if not verdict.count:
        return ""
    text = _("{met} of {count} goals met.")
    if verdict.met == verdict.count:
        text = _("All {count} goals met.")
    status = "met" if verdict.met == verdict.count else "not_met"
    if verdict.lines and all(line.status == "variation" for line in verdict.lines):
        status = "variation"
    head = text.format(met=verdict.met, count=verdict.count)
    parts = [_colored(f"<b>{_SIGNS[status]} {html.escape(head)}</b>", status)]
    for line in verdict.lines[:_LINES_SHOWN]:
        words = _colored(f"{_SIGNS[line.status]} {html.escape(line.text)}", line.status)
        parts.append(f'<a href="goal:{line.row}" style="text-decoration: none">{words}</a>')
    if len(verdict.lines) > _LINES_SHOWN:
        more = _("and {count} more").format(count=len(verdict.lines) - _LINES_SHOWN)
        parts.append(html.escape(more))
    return "<br>".join(parts)


def _colored(text: str, status: str) -> str:
    return f'<span style="color: {STATUS_COLORS[status]}">{text}</span>'


def _layers(state: PanelState, result: ResultState) -> dict[str, str]:
    """What can lie over the CT; the further outputs of the result by their roles."""
    choices = state.choices
    assert choices is not None
    is_plan = result.plan is not None
    layers = {"prediction": _("Dose of the plan") if is_plan else _("Predicted dose")}
    is_compared = bool(choices.compared_dose)
    if is_compared:
        layers = {
            "prediction": _("A: dose of the plan") if is_plan else _("A: predicted dose"),
            "other": _("B: the other one"),
            "change": _("A − B"),
        }
    plan = result.settings.values.get(_("plan dose"), "") if result.settings is not None else ""
    if any(node.id == plan for node in state.nodes):
        minus = _("A − plan") if is_compared else _("Prediction − plan")
        layers |= {"plan": _("Plan dose"), "difference": minus}
    return {**layers, **dict(result.outputs), "nothing": _("CT only")}


@dataclass(frozen=True)
class AdvancedView:
    """Devices to choose from, id → text; whether samples can be asked for, and what they are, or
    why not."""

    devices: Mapping[str, str]
    device: str
    can_sample: bool = False
    samples_tip: str = ""


def advanced_view(state: PanelState) -> AdvancedView:
    """The devices that were found, and the chosen one though it be none of them."""
    chosen = state.choices.device if state.choices is not None else "auto"
    devices = {"auto": _("Automatic"), "cpu": _("CPU"), **state.installation.devices}
    if chosen not in devices:
        devices[chosen] = _("{device} (not there)").format(device=chosen)
    return AdvancedView(devices, chosen, *_samples(state))


def _samples(state: PanelState) -> tuple[bool, str]:
    if state.model is None:
        return False, _("Choose a model first.")
    if not state.model.draws_samples:
        text = _(
            "{model} draws no samples: it has no head for it. One is trained as docs/diffusion.md "
            "says."
        )
        return False, text.format(model=state.model.title)
    return True, _(
        "Doses drawn about the predicted one: their DVHs are thin curves of the chart, their "
        "standard deviation is a volume. Each takes as long as a prediction, or longer."
    )


@dataclass(frozen=True)
class InstallationView:
    """Title, a line on it, whether there is something to install, and the report."""

    title: str
    text: str
    is_missing: bool
    report: str


def installation_view(state: PanelState) -> InstallationView:
    """What is missing, in words, and the report."""
    missing, report = state.installation.missing, state.installation.report
    if missing:
        text = _("Missing: {packages}. One press installs it into Slicer's Python.")
        title = _("Installation – something is missing")
        return InstallationView(title, text.format(packages=missing), True, report)
    text = _("Everything that a prediction needs is there.")
    return InstallationView(_("Installation – complete"), text, False, report)
