"""Nodes, segments, reading and checking."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from ..arguments import as_prescription, as_wishes
from ..flow.beams import from_text
from ..flow.effects import (
    CheckInputs,
    CompareInputs,
    ListNodes,
    LookAtSegments,
    Match,
    ObserveSegmentation,
    ReadInputs,
    RememberCorrections,
    StopReading,
)
from ..flow.events import (
    Checked,
    Compared,
    InputsRead,
    Matched,
    NodesListed,
    ReadFailed,
    ReadStep,
    SegmentsSeen,
)
from ..flow.state import Matching, Prepared
from ..i18n import _
from ..prepared import PreparedInputs, prepare_steps
from ..steps import StepRunner
from .context import Context, carries_out, node_of
from .scene_facts import contents_by_name, list_nodes

if TYPE_CHECKING:
    from DosePredictionLib.findings import Finding

__all__: list[str] = []

_numbers = itertools.count(1)


@carries_out(ListNodes)
def _list_nodes(context: Context, _effect: ListNodes) -> None:
    context.dispatch(NodesListed(list_nodes(), came=True))


@carries_out(ObserveSegmentation)
def _observe(context: Context, effect: ObserveSegmentation) -> None:
    context.watch.observe_segmentation(node_of(effect.segmentation))


@carries_out(LookAtSegments)
def _look_at_segments(context: Context, effect: LookAtSegments) -> None:
    from DosePredictionLib.errors import MappingError
    from DosePredictionLib.structures.mapping import fitting_protocol

    protocol, names = "", _names(effect.segmentation)
    if names:
        try:
            protocol = fitting_protocol(names).id
        except MappingError:
            protocol = ""
    seen = SegmentsSeen(effect.segmentation, protocol, effect.keep_model, effect.recall)
    context.dispatch(seen)


@carries_out(Match)
def _match(context: Context, effect: Match) -> None:
    """Segments to channels, by name and by hand; reads no voxels."""
    from DosePredictionLib.errors import DosePredictionError
    from DosePredictionLib.findings import Finding
    from DosePredictionLib.scene import found_by
    from DosePredictionLib.structures.mapping import propose_mapping
    from DosePredictionLib.structures.protocol import StructureProtocol

    names, corrections = _names(effect.segmentation), effect.corrections
    problems = _problems(effect)
    protocol = mapping = None
    chosen: dict[str, str | None] = {}
    if effect.protocol and effect.segmentation:
        if effect.recall:
            recalled = context.ports.corrections.recall(effect.protocol, names)
            corrections = tuple(sorted((channel, s or "") for channel, s in recalled.items()))
        try:
            protocol = StructureProtocol.load(effect.protocol)
            # Those that can be applied: their channel and segment exist.
            chosen = {
                channel: name or None
                for channel, name in corrections
                if channel in protocol.names and (not name or name in names)
            }
            mapping = propose_mapping(names, protocol, chosen)
        except DosePredictionError as error:
            problems.append(Finding("mapping", "blocking", str(error)))
    order = tuple(chosen.items())
    found = tuple(found_by(node_of(effect.segmentation)).items()) if names else ()
    matching = Matching(tuple(names), protocol, mapping, tuple(problems), order, found)
    context.dispatch(Matched(matching, corrections))


@carries_out(RememberCorrections)
def _remember(context: Context, effect: RememberCorrections) -> None:
    channels = {channel: name or None for channel, name in effect.corrections}
    context.ports.corrections.remember(effect.protocol, effect.names, channels)


@carries_out(ReadInputs)
def _read(context: Context, effect: ReadInputs) -> None:
    """Read one node or segment a turn of the event loop, unless they have been read already."""
    services = context.ports.services
    nodes = [node_of(id) for id in (effect.ct, effect.segmentation, effect.plan_dose)]

    def read(prepared: PreparedInputs) -> None:
        context.reader = None
        services.keep_prepared(prepared)
        context.prepared = prepared
        light = prepared.light
        contents = contents_by_name(light.fingerprint, light.segments)
        context.dispatch(InputsRead(effect.token, Prepared(dict(light.volumes_cc), contents)))

    def failed(error: Exception) -> None:
        context.reader = None
        context.dispatch(ReadFailed(effect.token, str(error)))

    if nodes[0] is None or nodes[1] is None:
        failed(ValueError(_("The CT or the segmentation has gone. Choose another one.")))
        return
    try:
        prepared = services.prepared(*nodes)
        if prepared is not None:
            read(prepared)
            return
        folder, before = services.scratch.new("case"), services.last_prepared
        steps = prepare_steps(nodes[0], nodes[1], nodes[2], folder, before)
    except (OSError, ValueError) as error:
        failed(error)
        return
    context.reader = StepRunner(
        steps,
        context.ports.clock,
        lambda step: context.dispatch(ReadStep(effect.token, step.label)),
        read,
        failed,
    ).start()


@carries_out(StopReading)
def _stop_reading(context: Context, _effect: StopReading) -> None:
    if context.reader is not None:
        context.reader.stop()
        context.reader = None


@carries_out(CheckInputs)
def _check(context: Context, effect: CheckInputs) -> None:
    from DosePredictionLib.errors import WorkerError
    from DosePredictionLib.worker.messages import Check, Failure
    from DosePredictionLib.worker.messages import Checked as CheckedReply
    from DosePredictionLib.worker.session import as_exception

    def replied(reply: Any) -> None:
        if isinstance(reply, CheckedReply):
            context.dispatch(Checked(effect.token, reply.findings))
        elif isinstance(reply, Failure):
            # What the library refused says all; what nobody foresaw is for a report.
            is_unforeseen = isinstance(as_exception(reply), WorkerError)
            details = reply.details if is_unforeseen else ""
            context.dispatch(ReadFailed(effect.token, reply.message, details))

    order = effect.order
    assert context.prepared is not None
    try:
        own_gy = order.prescription_gy or None
        request = Check(
            id=f"check-{next(_numbers)}",
            case=str(context.prepared.folder),
            model=order.model,
            mapping=dict(order.mapping),
            prescription=as_prescription(own_gy, order.model),
            before=_folder_before(context, order.before),
            beams=from_text(order.beams) if order.beams else None,
            wishes=as_wishes(order.wishes),
        )
        context.ports.services.worker.send(request, replied)
    except (OSError, ValueError) as error:
        context.dispatch(ReadFailed(effect.token, str(error)))


def _folder_before(context: Context, dose: str) -> str | None:
    """Where the inputs of an earlier result lie, if they do."""
    kept = context.ports.services.kept(node_of(dose))
    return None if kept is None or kept.prepared is None else str(kept.prepared.folder)


@carries_out(CompareInputs)
def _compare(context: Context, effect: CompareInputs) -> None:
    from DosePredictionLib.scene import list_segments, what_changed

    result = context.ports.services.result(node_of(effect.dose))
    ct, segmentation = node_of(effect.ct), node_of(effect.segmentation)
    if result is None or ct is None or segmentation is None:
        return
    names = what_changed(result.fingerprint, ct, segmentation, node_of(effect.plan_dose))
    structures = {segment.name for segment in list_segments(segmentation)}
    structures |= {info.name for info in result.segments.values()}
    context.dispatch(Compared(effect.dose, tuple(names), tuple(structures)))


def _names(segmentation: str) -> list[str]:
    from DosePredictionLib.scene import list_segments

    node = node_of(segmentation)
    return [segment.name for segment in list_segments(node)] if node is not None else []


def _problems(effect: Match) -> list[Finding]:
    """What blocks a prediction of these nodes, seen without reading voxels."""
    from DosePredictionLib.scene import input_findings

    ct, segmentation = node_of(effect.ct), node_of(effect.segmentation)
    if ct is None or segmentation is None:
        return []
    findings = input_findings(ct, segmentation, node_of(effect.plan_dose))
    return [finding for finding in findings if finding.severity == "blocking"]
