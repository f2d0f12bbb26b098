"""The protocol between a client and the worker: one JSON object a line, each a typed message.

Lines are ASCII (JSON escapes), so that any path or name passes whatever the system's encoding.
Reading is strict: unknown types, unknown or missing entries and wrong types are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..beams.arrangement import BeamArrangement
from ..case import Prescription
from ..errors import WorkerError
from ..findings import Finding
from ..origin import DicomOrigin
from ..prediction import OutputRole
from ..schema import from_json, parse_json, to_json
from ..tasks.registry import Gives
from ..wishes import Wish

__all__ = [
    "PROTOCOL_VERSION",
    "Cancel",
    "Check",
    "CheckDeliverability",
    "Checked",
    "Failure",
    "InstallPlanner",
    "Job",
    "Log",
    "MakePlan",
    "Ping",
    "PlanWish",
    "Pong",
    "Predict",
    "PredictOptions",
    "Progress",
    "Ready",
    "Reply",
    "Request",
    "Result",
    "Shutdown",
    "WriteReport",
    "decode_reply",
    "decode_request",
    "encode_message",
]

PROTOCOL_VERSION = 5


@dataclass(frozen=True)
class PredictOptions:
    """How to predict.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:n`.
        precision: `auto`, `fp32`, `bf16` or `fp16`.
        recompute_strips: ignore strip masks that came with the case.
        strip_margin_mm: margin of the strips instead of the model's own; None: the model's.
        keep: roles of outputs that are only given when they are asked for, as the coarse dose.
        keep_strips: return the strip masks that the network received, too.
        measure: compute DVHs and scores, too (`measured.read_measures`).
        seed: of whatever the model's task draws, and of the first sample.
        samples: how many doses are drawn about the predicted one, of which the DVHs and the spread
            are returned (`measured.read_bands`), if they are measured.
        force_model: a model of another body site is a warning, not a refusal.
    """

    device: str = "auto"
    precision: str = "auto"
    recompute_strips: bool = False
    strip_margin_mm: float | None = None
    keep: tuple[OutputRole, ...] = ()
    keep_strips: bool = False
    measure: bool = False
    seed: int = 0
    samples: int = 0
    force_model: bool = False


@dataclass(frozen=True)
class Predict:
    """Request: predict a case.

    Args:
        id: chosen by the client; every reply to this request carries it.
        case: folder of a case as `exchange.py` writes it.
        output: folder that the prediction is written to; it must not exist.
        model: name or folder; None: the default model of the protocol that fits.
        mapping: channel → structure where the automatic choice is overruled; null leaves a channel
            empty.
        prescription: overrules the case's own.
        beams: go before the case's own.
        gives: what the model is for: a dose, or the segments of organs, with a named model.
        wishes: go before the case's own; the model must take them.
    """

    id: str
    case: str
    output: str
    model: str | None = None
    mapping: dict[str, str | None] = field(default_factory=dict)
    prescription: Prescription | None = None
    options: PredictOptions = PredictOptions()
    beams: BeamArrangement | None = None
    gives: Gives = "dose"
    wishes: tuple[Wish, ...] = ()


@dataclass(frozen=True)
class Check:
    """Request: the preflight findings on a case; answered by `Checked`. Needs no torch.

    Args:
        id, case, model, mapping, prescription, beams, wishes: as in `Predict`; the model is named.
        before: folder of an earlier state of the case: what has gone from a structure to another
            one since is a finding.
    """

    id: str
    case: str
    model: str
    mapping: dict[str, str | None] = field(default_factory=dict)
    prescription: Prescription | None = None
    before: str | None = None
    beams: BeamArrangement | None = None
    wishes: tuple[Wish, ...] = ()


@dataclass(frozen=True)
class CheckDeliverability:
    """Request: whether any plan on some beams could give a dose; answered by `Checked`.

    Args:
        case, prediction: folders, as `Predict` had them.
        beams: go before the prediction's own; None: those, else the protocol's.
    """

    id: str
    case: str
    prediction: str
    beams: BeamArrangement | None = None


@dataclass(frozen=True)
class WriteReport:
    """Request: write the HTML report of a prediction; answered by `Result` with its path.

    Args:
        case, prediction: folders, as `Predict` had them.
        path: of the HTML file.
        goals: as `Evaluation.goal_records` has them; none are shown without.
        samples: as `Bands.samples`; likewise.
    """

    id: str
    case: str
    prediction: str
    path: str
    goals: tuple[dict[str, Any], ...] = ()
    samples: dict[str, Any] | None = None


@dataclass(frozen=True)
class PlanWish:
    """A goal that a plan is asked for, as "Rectum V40Gy <= 30 %", and by how much it counts."""

    text: str
    weight: float = 10.0


@dataclass(frozen=True)
class MakePlan:
    """Request: a plan that a machine could deliver for a prediction; answered by `Result`.

    Args:
        case, prediction: folders, as `Predict` had them.
        output: folder for the plan's dose, as a prediction's is written, and its files; it must
            not exist.
        beams: go before the prediction's own; None: those, else twenty.
        machine: id, or a JSON file.
        wishes: asked of the plan beside the dose.
        goals: template that both doses are held against: an id or a path; empty: none.
        origin: what plan and dose refer to. It names the patient, and goes this way alone.
    """

    id: str
    case: str
    prediction: str
    output: str
    beams: BeamArrangement | None = None
    machine: str = "generic-120"
    wishes: tuple[PlanWish, ...] = ()
    goals: str = ""
    origin: DicomOrigin | None = None


@dataclass(frozen=True)
class InstallPlanner:
    """Request: install what plans are made with into a folder; answered by `Result`."""

    id: str
    folder: str


@dataclass(frozen=True)
class Cancel:
    """Request: stop working on a prediction, or drop it when it still waits."""

    id: str


@dataclass(frozen=True)
class Ping:
    """Request: answer with `Pong`, even while a prediction runs."""


@dataclass(frozen=True)
class Shutdown:
    """Request: cancel what runs, and end."""


@dataclass(frozen=True)
class Ready:
    """Reply: the worker is up. Requests may be sent before it, too.

    Args:
        protocol_version: that of the worker; the client refuses another than its own.
        version: of the library.
        pid: of the worker itself, which a launcher may have started; leader of its own group.
        python: path of the interpreter.
    """

    protocol_version: int
    version: str
    pid: int
    python: str


@dataclass(frozen=True)
class Progress:
    """Reply: how far a prediction is.

    Args:
        fraction: share of the work done, 0…1; never falls.
        stage: what is being done, in words.
    """

    id: str
    fraction: float
    stage: str


@dataclass(frozen=True)
class Result:
    """Reply: a prediction lies in `folder`, as `exchange.read_prediction` reads it.

    Args:
        warm: whether the model was there already from an earlier request.
    """

    id: str
    folder: str
    warm: bool


@dataclass(frozen=True)
class Checked:
    """Reply: the findings on a case, from reading, mapping and preflight."""

    id: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Failure:
    """Reply: a prediction was not completed; nothing was written.

    Args:
        id: of the request; None when a line could not be read as one.
        kind: class in `errors.py` (`CaseError`, `PredictionCancelled`, `MemoryExhaustedError` …).
        message: what was wrong and what to do, one line.
        tried: fallbacks taken before giving up, in words.
        details: traceback or the worker's last output, for a copyable report.
    """

    id: str | None
    kind: str
    message: str
    tried: tuple[str, ...] = ()
    details: str = ""


@dataclass(frozen=True)
class Log:
    """Reply: something worth knowing."""

    level: Literal["info", "warning"]
    text: str


@dataclass(frozen=True)
class Pong:
    """Reply to `Ping`.

    Args:
        models: names of the models that are loaded.
    """

    models: tuple[str, ...]


Job = Predict | Check | CheckDeliverability | WriteReport | MakePlan | InstallPlanner
Request = Job | Cancel | Ping | Shutdown
Reply = Ready | Progress | Result | Checked | Failure | Log | Pong

_REQUESTS: Mapping[str, type[Any]] = {
    "predict": Predict,
    "check": Check,
    "check_deliverability": CheckDeliverability,
    "write_report": WriteReport,
    "make_plan": MakePlan,
    "install_planner": InstallPlanner,
    "cancel": Cancel,
    "ping": Ping,
    "shutdown": Shutdown,
}
_REPLIES: Mapping[str, type[Any]] = {
    "ready": Ready,
    "progress": Progress,
    "result": Result,
    "checked": Checked,
    "error": Failure,
    "log": Log,
    "pong": Pong,
}
_NAMES = {kind: name for name, kind in {**_REQUESTS, **_REPLIES}.items()}


def encode_message(message: Request | Reply) -> bytes:
    """A message as a line, its end included."""
    content = {"type": _NAMES[type(message)], **to_json(message)}
    return json.dumps(content, ensure_ascii=True, allow_nan=False).encode("ascii") + b"\n"


def decode_request(line: bytes) -> Request:
    """A line from the client.

    Raises:
        WorkerError: it is no request.
    """
    request: Request = _decode(line, _REQUESTS)
    return request


def decode_reply(line: bytes) -> Reply:
    """A line from the worker.

    Raises:
        WorkerError: it is no reply.
    """
    reply: Reply = _decode(line, _REPLIES)
    return reply


def _decode(line: bytes, kinds: Mapping[str, type[Any]]) -> Any:
    try:
        content = parse_json(line.decode("utf-8"))
    except ValueError as exception:  # of the encoding or the syntax
        raise WorkerError(f"No JSON message: {line[:80]!r} ({exception}).") from exception
    kind = content.get("type") if isinstance(content, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise WorkerError(f"A message must have a type of {', '.join(kinds)}; got {line[:80]!r}.")
    del content["type"]
    return from_json(kinds[kind], content, f"message {kind!r}", WorkerError)
