"""Organs: found in the worker, added beside the user's contours, or held against them."""

from __future__ import annotations

import traceback
from typing import Any

from ..contours_view import costs_table
from ..flow.effects import CancelOrgans, FindOrgans
from ..flow.events import (
    CostsFound,
    NodesListed,
    OrgansAdded,
    OrgansFailed,
    OrgansProgress,
)
from ..flow.facts import OrganOrder
from ..i18n import _
from ..organ_run import costs_job, filling_job, start_organs
from ..prediction_run import Callbacks, RunInputs
from .context import Context, carries_out, node_of
from .scene_facts import list_nodes

__all__: list[str] = []


@carries_out(FindOrgans)
def _find(context: Context, effect: FindOrgans) -> None:
    token, order = effect.token, effect.order

    def progress(share: float, stage: str) -> None:
        context.dispatch(OrgansProgress(token, share, stage))

    def failed(error: Exception, details: str) -> None:
        from DosePredictionLib.errors import PredictionCancelled

        context.organs = None
        is_cancelled = isinstance(error, PredictionCancelled)
        context.dispatch(OrgansFailed(token, str(error), details or repr(error), is_cancelled))

    def finished(value: Any) -> None:
        context.organs = None
        if order.dose:
            context.dispatch(CostsFound(token, costs_table(value)))
            return
        from DosePredictionLib.scene import found_by

        context.dispatch(NodesListed(list_nodes()))  # the new one can be chosen
        node, notes = value
        before = found_by(node_of(order.segmentation))
        names = tuple(name for name in found_by(node) if name not in before)
        context.dispatch(OrgansAdded(token, node.GetID(), names, notes))

    try:
        job = costs_job(order) if order.dose else filling_job(order)
        callbacks = Callbacks(progress, lambda *_all: None, failed)
        inputs = _inputs(order)
        context.organs = start_organs(inputs, job, context.ports.services, finished, callbacks)
    except (OSError, ValueError) as error:  # the library's: cause and remedy in the message
        failed(error, "")
    except Exception as error:
        text = _("Organs cannot be found: {error}. Copy the details for a report.")
        failed(RuntimeError(text.format(error=error)), traceback.format_exc())


@carries_out(CancelOrgans)
def _cancel(context: Context, _effect: CancelOrgans) -> None:
    if context.organs is not None:
        context.organs.cancel()


def _inputs(order: OrganOrder) -> RunInputs:
    from DosePredictionLib.worker.messages import PredictOptions

    return RunInputs(
        ct=node_of(order.ct),
        segmentation=node_of(order.segmentation),
        model=order.model,
        mapping=dict(order.mapping),
        options=PredictOptions(device=order.device, precision=order.precision),
    )
