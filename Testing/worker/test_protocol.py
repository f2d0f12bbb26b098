from __future__ import annotations

import json

import pytest

from DosePredictionLib.case import Prescription
from DosePredictionLib.errors import (
    MappingError,
    MemoryExhaustedError,
    PredictionCancelled,
    WorkerError,
)
from DosePredictionLib.wishes import Wish
from DosePredictionLib.worker.messages import (
    PROTOCOL_VERSION,
    Cancel,
    Failure,
    Log,
    Ping,
    Pong,
    Predict,
    PredictOptions,
    Progress,
    Ready,
    Result,
    Shutdown,
    decode_reply,
    decode_request,
    encode_message,
)
from DosePredictionLib.worker.session import Session, as_exception, qprocess_exit_code

ODD = "Prüfung\n\udcff é"  # not ASCII, a line's end, and a byte that no encoding explains

REQUESTS = [
    Predict("1", ODD, ODD),
    Predict(
        "2",
        "case",
        "out",
        model="pelvis",
        mapping={"PTV": ODD, "Bladder": None},
        prescription=Prescription({"PTV": 50.4}, 28),
        options=PredictOptions("cpu", "bf16", True, 5.0, ("coarse dose", "sample"), True, True, 7),
        wishes=(Wish(ODD, 40.0, 25.0),),
    ),
    Cancel("1"),
    Ping(),
    Shutdown(),
]
REPLIES = [
    Ready(PROTOCOL_VERSION, "0.1.0", 42, ODD),
    Progress("1", 0.25, "coarse dose"),
    Result("1", ODD, True),
    Failure("1", "MemoryExhaustedError", ODD, ("slabs",), ODD),
    Failure(None, "WorkerError", "no message"),
    Log("warning", ODD),
    Pong(("pelvis",)),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda message: type(message).__name__)
def test_requests_come_back_as_they_went(request_: Predict) -> None:
    line = encode_message(request_)
    assert line.count(b"\n") == 1 and line.isascii()
    assert decode_request(line) == request_


@pytest.mark.parametrize("reply", REPLIES, ids=lambda message: type(message).__name__)
def test_replies_come_back_as_they_went(reply: Progress) -> None:
    line = encode_message(reply)
    assert line.count(b"\n") == 1 and line.isascii()
    assert decode_reply(line) == reply


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (b"hello", "No JSON message"),
        (b"\xff\xfe", "No JSON message"),
        (b"[1]", "must have a type"),
        (b'{"type": "progress", "id": "1", "fraction": 0, "stage": ""}', "must have a type"),
        (b'{"type": "cancel"}', "lacks"),
        (b'{"type": "cancel", "id": 1}', "of type str"),
        (b'{"type": "cancel", "id": "1", "now": true}', "unknown entries"),
        (b'{"type": "predict", "id": "1", "case": "c", "output": "o", "options": 3}', "object"),
    ],
)
def test_what_is_no_request_is_refused(line: bytes, rule: str) -> None:
    with pytest.raises(WorkerError, match=rule):
        decode_request(line)


def test_replies_are_put_together_from_pieces() -> None:
    session = Session()
    session.predict(Predict("1", "case", "out"))
    data = b"".join(encode_message(reply) for reply in REPLIES[:3])
    replies = [reply for i in range(len(data)) for reply in session.feed(data[i : i + 1])]
    assert replies == REPLIES[:3]
    assert session.ready == REPLIES[0] and session.waiting == []


def test_garbage_on_the_workers_stdout_is_told_and_passed_over() -> None:
    session = Session()
    log, progress = session.feed(b"Warning: a library prints\n" + encode_message(REPLIES[1]))
    assert isinstance(log, Log) and "a library prints" in log.text
    assert progress == REPLIES[1]


def test_a_worker_of_another_version_is_refused() -> None:
    (failure,) = Session().feed(encode_message(Ready(PROTOCOL_VERSION + 1, "9", 1, "python")))
    assert isinstance(failure, Failure) and "two versions" in failure.message


def test_an_id_in_use_is_refused() -> None:
    session = Session()
    session.predict(Predict("1", "case", "out"))
    with pytest.raises(WorkerError, match="under way"):
        session.predict(Predict("1", "case", "out"))


@pytest.mark.parametrize(
    ("exit_code", "kind", "text"),
    [
        (-9, "MemoryExhaustedError", "memory ran out"),
        (137, "MemoryExhaustedError", "memory ran out"),
        (-11, "WorkerError", "SIGSEGV"),
        (139, "WorkerError", "SIGSEGV"),
        (0, "WorkerError", "without an answer"),
        (1, "WorkerError", "exit code 1 "),
        (-1073741819, "WorkerError", "0xc0000005"),
    ],
)
def test_an_end_in_the_middle_says_what_happened(exit_code: int, kind: str, text: str) -> None:
    session = Session()
    session.predict(Predict("1", "case", "out"))
    session.feed_stderr(b"one\ntwo \xff\nthe last")
    (failure,) = session.ended(exit_code)
    assert failure.id == "1" and failure.kind == kind
    assert text in failure.message and "Nothing was changed" in failure.message
    assert failure.details.splitlines() == ["one", "two \ufffd", "the last"]
    assert session.waiting == []
    assert session.ended(exit_code) == []


def test_a_qprocess_counts_signals_positive() -> None:
    assert qprocess_exit_code(9, crashed=True) == -9
    assert qprocess_exit_code(3, crashed=False) == 3
    assert qprocess_exit_code(-1073741819, crashed=True, windows=True) == -1073741819


def test_failures_become_the_librarys_exceptions() -> None:
    assert isinstance(as_exception(Failure("1", "MappingError", "")), MappingError)
    assert isinstance(as_exception(Failure("1", "PredictionCancelled", "")), PredictionCancelled)
    memory = as_exception(Failure("1", "MemoryExhaustedError", "", ("slabs",)))
    assert isinstance(memory, MemoryExhaustedError) and memory.tried == ("slabs",)
    for foreign in ("Sequence", "annotations", "KeyError"):
        assert type(as_exception(Failure("1", foreign, ""))) is WorkerError


def test_not_a_number_never_goes_on_the_wire() -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode_message(Progress("1", float("nan"), ""))
    assert json.loads(encode_message(Ping())) == {"type": "ping"}
