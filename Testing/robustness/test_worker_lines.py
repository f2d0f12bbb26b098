"""The worker's listener lives on after any line, and leftovers of killed sessions go."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support import ROOT

from DosePredictionLib.errors import WorkerError
from DosePredictionLib.worker.exchange import SCRATCH_PREFIX, new_scratch
from DosePredictionLib.worker.messages import decode_reply, decode_request

LINES = {
    "text": b"hello",
    "deep": b"[" * 100_000,
    "digits": b'{"type": ' + b"9" * 5000 + b"}",
    "list type": b'{"type": []}',
    "object type": b'{"type": {}}',
    "nan": b'{"type": NaN}',
    "not utf-8": b"\xff\xfe",
    "null": b"null",
    "fields": b'{"type": "predict", "id": 3}',
}


@pytest.mark.parametrize("kind", LINES)
def test_a_malformed_line_is_a_worker_error(kind: str) -> None:
    for decode in (decode_request, decode_reply):
        with pytest.raises(WorkerError):
            decode(LINES[kind])


def test_the_listener_lives_on_after_every_malformed_line() -> None:
    sent = b"\n".join([*LINES.values(), b"x" * (20 << 20), b'{"type": "ping"}', b""])
    done = subprocess.run(
        [sys.executable, "-m", "DosePredictionLib.worker"],
        input=sent,
        capture_output=True,
        cwd=ROOT,
        timeout=120,
    )
    replies = [line for line in done.stdout.splitlines() if line]
    assert done.returncode == 0
    assert sum(b'"type": "error"' in line for line in replies) == len(LINES) + 1
    assert b'"pong"' in replies[-1]


def test_the_next_session_sweeps_what_a_killed_one_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = tmp_path / f"{SCRATCH_PREFIX}{ended.pid}-abc"
    (left / "run1").mkdir(parents=True)
    alive = new_scratch()
    assert not left.exists() and alive.is_dir()
    new_scratch()
    assert alive.is_dir()
