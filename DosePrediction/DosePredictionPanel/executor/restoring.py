"""Results that came with a scene, or from a script, as the panel knows results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..flow.derived import channels_of, options_of, settings_from
from ..flow.state import Contents, ResultState
from ..plan_facts import PLAN_OPTION, facts_from_text
from ..result_tables import verdict_of
from ..result_view import (
    bands_note,
    further_outputs,
    has_bands,
    result_findings,
    result_summary,
    result_tables,
)
from ..services import KeptResult
from .context import Context
from .scene_facts import contents_by_name

if TYPE_CHECKING:
    from DosePredictionLib.scene import SceneResult

__all__ = ["restored_states"]


def restored_states(context: Context) -> tuple[ResultState, ...]:
    """All results whose numbers are at hand; those of the scene are kept from now on."""
    from DosePredictionLib.scene import restored_results

    services = context.ports.services
    for result in restored_results():
        if services.kept(result.dose) is None:
            services.keep_result(KeptResult(result))
    alive = [result for result in services.results() if result.dose.GetScene() is not None]
    return tuple(_state_of(result) for result in alive)


def _state_of(result: SceneResult) -> ResultState:
    from DosePredictionLib.scene import default_range, inputs_of

    ct, segmentation = inputs_of(result.dose)
    plan, record = result.plan, result.record
    ids = tuple(node.GetID() if node is not None else "" for node in (ct, segmentation, plan))
    channels = {match.channel: match.structure for match in result.mapping.matches}
    options = record.options or options_of(record.model, 0.0, -1.0, channels)
    return ResultState(
        run=result.run,
        dose=result.dose.GetID(),
        name=result.dose.GetName(),
        ct=ids[0],
        segmentation=ids[1],
        settings=settings_from((ids[0], ids[1], ids[2]), options),
        goals=record.goals,
        summary=result_summary(result),
        tables=result_tables(result),
        ranges={"Gy": default_range(result, "Gy"), "%": default_range(result, "%")},
        label=result.label or result.name,
        contents=_used_contents(result, set(channels_of(options).values())),
        verdict=verdict_of(result.goals),
        outputs=further_outputs(result),
        bands=bands_note(result),
        has_bands=has_bands(result),
        findings=result_findings(result),
        plan=facts_from_text(record.options.get(PLAN_OPTION, "")),
    )


def _used_contents(result: SceneResult, used: set[str | None]) -> Contents:
    """As `flow.naming.used_contents` of the inputs when it was predicted."""
    from DosePredictionLib.scene import inputs_of, list_segments

    _ct, segmentation = inputs_of(result.dose)
    segments = [] if segmentation is None else list_segments(segmentation)
    every = contents_by_name(result.fingerprint, {info.name: info for info in segments})
    names = {"CT", "plan dose", "place of CT", "place of segmentation", "place of plan dose"}
    return tuple(sorted((n, crc) for n, crc in every.items() if n in used or n in names))
