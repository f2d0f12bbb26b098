"""Results on the slices, goals, removal."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import slicer

from ..flow.effects import (
    ApplyDisplay,
    ForgetResult,
    ForgetScene,
    HideResult,
    JudgeGoals,
    RemoveResult,
    ShowCt,
    ShowLayout,
    ShowResult,
    StopShowing,
    SweepOrphans,
    SwitchContours,
    Tabulate,
)
from ..flow.events import Displayed, DisplayFailed, Tabulated
from ..flow.state import Display
from ..result_tables import verdict_of
from ..result_view import result_tables
from ..steps import StepRunner
from .context import Context, carries_out, node_of

if TYPE_CHECKING:
    from DosePredictionLib.scene import DisplaySettings, SceneResult

__all__: list[str] = []


@carries_out(ShowResult)
def _show(context: Context, effect: ShowResult) -> None:
    """What takes the views a while comes one by one, so that the window stays usable."""
    _stop(context)
    result = context.ports.services.result(node_of(effect.dose))
    if result is None:
        return

    def done(_nothing: None) -> None:
        context.shower = None
        context.dispatch(Displayed(effect.token, effect.display))

    def failed(error: Exception) -> None:
        context.shower = None
        is_expected = isinstance(error, ValueError)
        context.dispatch(DisplayFailed(effect.token, str(error), is_expected))

    steps = _show_steps(context, result, effect)
    context.shower = StepRunner(steps, context.ports.clock, lambda _step: None, done, failed)
    context.shower.start()


def _show_steps(
    context: Context, result: SceneResult, effect: ShowResult
) -> Generator[Any, None, None]:
    from DosePredictionLib.scene import (
        display_steps,
        inputs_of,
        jump_to_world,
        make_room_for_legend,
        prepare_cursor,
        show_chart,
        show_result_layout,
        target_center,
    )

    yield None  # the tables are drawn first
    prepare_cursor(result)
    if effect.layout:
        show_result_layout(result, is_legend_beside=True)
    else:
        show_chart(result, is_legend_beside=True)
    yield None
    if effect.center:
        ct, _segmentation = inputs_of(result.dose)
        if ct is not None and effect.display.legend:
            make_room_for_legend(ct)
        yield None
        center = target_center(result)
        if center is None:
            _center_on(result.dose)
        else:
            jump_to_world(center)
    yield None
    yield from display_steps(result, _settings(context, effect.display))
    context.ports.dialogs.arrange_charts()


@carries_out(ApplyDisplay)
def _apply(context: Context, effect: ApplyDisplay) -> None:
    from DosePredictionLib.errors import CaseError
    from DosePredictionLib.scene import apply_display

    result = context.ports.services.result(node_of(effect.dose))
    if result is None:
        return
    try:
        apply_display(result, _settings(context, effect.display))
    except CaseError as error:
        context.dispatch(DisplayFailed(effect.token, str(error)))


@carries_out(StopShowing)
def _stop_showing(context: Context, _effect: StopShowing) -> None:
    _stop(context)


@carries_out(HideResult)
def _hide(context: Context, effect: HideResult) -> None:
    from DosePredictionLib.errors import CaseError
    from DosePredictionLib.scene import (
        DisplaySettings,
        apply_display,
        compared_run,
        highlight_structure,
        result_nodes,
    )

    result = context.ports.services.result(node_of(effect.dose))
    if result is None:
        return
    highlight_structure(result, "")
    chart = result_nodes(result.run).get("chart")
    for plot in slicer.util.getNodesByClass("vtkMRMLPlotViewNode"):
        if chart is not None and plot.GetPlotChartNodeID() == chart.GetID():
            plot.SetPlotChartNodeID(None)
    run = compared_run(result) if effect.keeps_comparison else ""
    other = next((each for each in context.ports.services.results() if each.run == run), None)
    nothing = DisplaySettings("nothing", isodoses=False, legend=False, other=other)
    with contextlib.suppress(CaseError):  # some of its nodes were deleted by hand
        apply_display(result, nothing)


@carries_out(ShowCt)
def _show_ct(_context: Context, effect: ShowCt) -> None:
    ct = node_of(effect.ct)
    if ct is None:
        return
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        composite.SetBackgroundVolumeID(ct.GetID())
    _center_on(ct)


@carries_out(SwitchContours)
def _switch_contours(_context: Context, effect: SwitchContours) -> None:
    for id, is_shown in ((effect.hidden, False), (effect.shown, True)):
        node = node_of(id)
        display = None if node is None else node.GetDisplayNode()
        if display is not None:
            display.SetVisibility(is_shown)


@carries_out(ShowLayout)
def _show_layout(context: Context, effect: ShowLayout) -> None:
    from DosePredictionLib.scene import show_result_layout

    result = context.ports.services.result(node_of(effect.dose))
    if result is not None:
        show_result_layout(result)


@carries_out(JudgeGoals)
def _judge(context: Context, effect: JudgeGoals) -> None:
    """The other result is held against the same template, or there is nothing to compare."""
    services = context.ports.services
    services.set_goals(node_of(effect.dose), effect.goals)
    if services.result(node_of(effect.other)) is not None:
        services.set_goals(node_of(effect.other), effect.goals)
    _tabulate(context, Tabulate(effect.dose, effect.goals, effect.other))


@carries_out(Tabulate)
def _tabulate(context: Context, effect: Tabulate) -> None:
    services = context.ports.services
    result, other = services.result(node_of(effect.dose)), services.result(node_of(effect.other))
    if result is None:
        return
    tables, verdict = result_tables(result, other), verdict_of(result.goals)
    beside = effect.other if other is not None else ""
    context.dispatch(Tabulated(effect.dose, effect.goals, tables, verdict, beside))


@carries_out(SweepOrphans)
def _sweep(context: Context, _effect: SweepOrphans) -> None:
    """In a turn of its own: a node is leaving the scene just now."""

    def sweep() -> None:
        from DosePredictionLib.scene import sweep_orphans

        sweep_orphans(slicer.mrmlScene)

    context.start_timer("sweep", 0, sweep)


@carries_out(RemoveResult)
def _remove(context: Context, effect: RemoveResult) -> None:
    _stop(context)
    dose = node_of(effect.dose)
    if dose is not None:
        context.ports.services.remove(dose)


@carries_out(ForgetResult)
def _forget(context: Context, effect: ForgetResult) -> None:
    context.ports.services.forget_result(effect.dose)


@carries_out(ForgetScene)
def _forget_scene(context: Context, _effect: ForgetScene) -> None:
    context.prepared = None
    context.ports.services.forget_scene()


def _stop(context: Context) -> None:
    if context.shower is not None:
        context.shower.stop()
        context.shower = None


def _settings(context: Context, display: Display) -> DisplaySettings:
    from DosePredictionLib.scene import DEFAULT_LEVELS, DisplaySettings, IsodoseLevels

    own = display.levels
    levels = DEFAULT_LEVELS
    if own is not None:
        levels = IsodoseLevels(own.values, own.unit)  # type: ignore[arg-type]
    return DisplaySettings(
        layer=display.layer,
        opacity=display.opacity,
        low=display.low,
        high=display.high,
        unit=display.unit,  # type: ignore[arg-type]
        isodoses=display.isodoses,
        legend=display.legend,
        levels=levels,
        surfaces=display.surfaces,
        other=context.ports.services.result(node_of(display.other)),
    )


def _center_on(volume: Any) -> None:
    """Move all slices to the middle of a volume."""
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    middle = [(low + high) / 2 for low, high in zip(bounds[::2], bounds[1::2], strict=True)]
    for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        node.JumpSliceByCentering(*middle)
