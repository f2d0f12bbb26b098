"""Places in the slices, what lies under the mouse, structures, isodose levels."""

from __future__ import annotations

from ..flow.effects import (
    ClearMarks,
    Highlight,
    JumpTo,
    JumpToWorst,
    MarkBeams,
    RecallLevels,
    RememberLevels,
    ShowStructures,
    StartProbing,
    StopProbing,
)
from ..flow.events import LevelsRecalled, PlaceFound, Probed
from ..i18n import _
from .context import Context, carries_out, node_of

__all__: list[str] = []

_NAMED = 3  # structures at one place
_PROBE_MS = 40  # between two looks at what lies under a moving mouse


@carries_out(JumpTo)
def _jump(_context: Context, effect: JumpTo) -> None:
    from DosePredictionLib.scene import jump_to

    jump_to(effect.position_mm, node_of(effect.ct))


@carries_out(JumpToWorst)
def _jump_to_worst(context: Context, effect: JumpToWorst) -> None:
    from DosePredictionLib.scene import jump_to_world, mark_place, move_cursor, worst_place

    result = context.ports.services.result(node_of(effect.dose))
    if result is None:
        return
    sense = effect.sense
    if not sense:
        sense = "cold" if effect.structure in result.measures.targets else "hot"
    place = worst_place(result, effect.structure, sense)  # type: ignore[arg-type]
    jump_to_world(place.ras)
    move_cursor(result, place.dose_gy)
    if effect.mark:
        mark_place(result, place)
    words = {"hot": _("highest dose"), "cold": _("lowest dose")}
    text = _("{what} of {name}: {dose}").format(
        what=words[sense].capitalize(),
        name=place.name or _("the patient"),
        dose=_dose_text(place.dose_gy, result.prescription_gy),
    )
    context.dispatch(PlaceFound(text))


@carries_out(MarkBeams)
def _mark_beams(_context: Context, effect: MarkBeams) -> None:
    from DosePredictionLib.scene import clear_beam_marks, mark_beams

    marks = effect.marks
    ct, segmentation = (None, None)
    if marks is not None:
        ct, segmentation = node_of(marks.ct), node_of(marks.segmentation)
    if marks is None or ct is None or segmentation is None:
        clear_beam_marks()
        return
    mark_beams(ct, segmentation, marks.targets, marks.directions, marks.isocenter_mm)


@carries_out(ClearMarks)
def _clear_marks(context: Context, effect: ClearMarks) -> None:
    from DosePredictionLib.scene import clear_marks

    result = context.ports.services.result(node_of(effect.dose))
    if result is not None:
        clear_marks(result)


@carries_out(StartProbing)
def _start_probing(context: Context, effect: StartProbing) -> None:
    def moved(ras: tuple[float, float, float] | None) -> None:
        context.start_timer("probe", _PROBE_MS, lambda: _probe(context, effect.dose, ras))

    context.watch.observe_cursor(moved)


@carries_out(StopProbing)
def _stop_probing(context: Context, _effect: StopProbing) -> None:
    context.stop_timer("probe")
    context.watch.observe_cursor(None)


def _probe(context: Context, dose: str, ras: tuple[float, float, float] | None) -> None:
    """Say what lies there, and move the cursor on the DVH chart."""
    from DosePredictionLib.scene import move_cursor, probe

    result = context.ports.services.result(node_of(dose))
    if result is None:
        return
    found = None if ras is None else probe(result, ras)
    move_cursor(result, None if found is None else found.dose_gy)
    text = ""
    if found is not None:
        parts = [_dose_text(found.dose_gy, result.prescription_gy)]
        for name, percent in list(found.structures.items())[:_NAMED]:
            rank = _("{name}, exceeded in {percent:.0f} % of it")
            parts.append(rank.format(name=name, percent=percent))
        text = " · ".join(parts)
    context.dispatch(Probed(text))


def _dose_text(dose_gy: float, prescription_gy: float) -> str:
    text = _("{dose:.2f} Gy = {percent:.0f} %")
    return text.format(dose=dose_gy, percent=100 * dose_gy / prescription_gy)


@carries_out(ShowStructures)
def _show_structures(context: Context, effect: ShowStructures) -> None:
    from DosePredictionLib.scene import show_structures

    result = context.ports.services.result(node_of(effect.dose))
    if result is not None:
        show_structures(result, effect.hidden, with_bands=effect.bands)
        context.ports.dialogs.arrange_charts()


@carries_out(Highlight)
def _highlight(context: Context, effect: Highlight) -> None:
    from DosePredictionLib.scene import highlight_structure

    result = context.ports.services.result(node_of(effect.dose))
    if result is not None:
        highlight_structure(result, effect.structure)


@carries_out(RecallLevels)
def _recall_levels(context: Context, _effect: RecallLevels) -> None:
    context.dispatch(LevelsRecalled(context.ports.levels.recall()))


@carries_out(RememberLevels)
def _remember_levels(context: Context, effect: RememberLevels) -> None:
    context.ports.levels.remember(effect.levels)
