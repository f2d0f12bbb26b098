"""The worker as a process: the shipped model on a real patient, and every way to end it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from DosePredictionLib.case import Case
from DosePredictionLib.errors import (
    MappingError,
    MemoryExhaustedError,
    ModelError,
    PredictionCancelled,
    WorkerError,
    WorkerTimeoutError,
)
from DosePredictionLib.evaluation.dvh import dvh
from DosePredictionLib.inference.predictor import default_model, predict
from DosePredictionLib.prediction import Prediction
from DosePredictionLib.processes import is_alive
from DosePredictionLib.worker.client import WorkerClient
from DosePredictionLib.worker.exchange import new_scratch, read_prediction, write_case
from DosePredictionLib.worker.launch import worker_launch
from DosePredictionLib.worker.measured import read_measures
from DosePredictionLib.worker.messages import (
    Cancel,
    Failure,
    Log,
    Ping,
    Pong,
    Predict,
    PredictOptions,
    Ready,
    Reply,
    Result,
    Shutdown,
    decode_reply,
    encode_message,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and process groups")


def wait_until(condition: Callable[[], bool], seconds: float = 120.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Raw:
    """A worker process without a client: lines in, lines out."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    @property
    def stdin(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    def send(self, message: Any) -> None:
        self.stdin.write(message if isinstance(message, bytes) else encode_message(message))

    def next(self) -> Reply:
        assert self.process.stdout is not None
        return decode_reply(self.process.stdout.readline())

    def until(self, *kinds: type) -> Reply:
        while not isinstance(reply := self.next(), kinds):
            pass
        return reply


@contextmanager
def raw_worker(*arguments: str, **options: Any) -> Iterator[Raw]:
    launch = worker_launch(Path(sys.executable))
    process = subprocess.Popen(
        [launch.program, *launch.arguments, *arguments],
        stdin=options.pop("stdin", subprocess.PIPE),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(launch.environment),
        bufsize=0,
        **options,
    )
    try:
        yield Raw(process)
    finally:
        process.kill()
        process.wait()


def predicted_warm(
    worker: WorkerClient, case: Case, folder: Path, options: PredictOptions
) -> Prediction:
    """What a worker predicts that has the model already."""
    request = Predict("warm", str(write_case(folder / "case", case)), str(folder / "dose"))
    assert worker.run(replace(request, options=options)).warm
    return read_prediction(folder / "dose", case)


def test_the_dose_is_that_of_this_process_and_the_second_run_is_warm(
    worker: WorkerClient, small_case: Case, tmp_path: Path
) -> None:
    stages: list[tuple[float, str]] = []
    options = PredictOptions("cpu", "fp32")
    first = worker.predict(small_case, options=options, progress=lambda *seen: stages.append(seen))
    dose = first.dose.array.copy()
    pid = worker.pid
    second = predicted_warm(worker, small_case, tmp_path, options)
    assert worker.pid == pid
    assert np.array_equal(second.dose.array, dose)
    here = predict(small_case, device="cpu", precision="fp32")
    assert np.allclose(dose, here.dose.array, atol=1e-3) and dose.max() > 20
    assert (second.findings, second.mapping) == (here.findings, here.mapping)
    shares = [share for share, _ in stages]
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert list(dict.fromkeys(stage for _, stage in stages)) == [
        "reading the case",
        "loading the model",
        "checks and encoding",
        "coarse dose",
        "final dose",
        "writing the dose",
    ]


def test_the_numbers_come_along_when_they_are_asked_for(
    worker: WorkerClient, small_case: Case, tmp_path: Path
) -> None:
    case = write_case(tmp_path / "case", small_case)
    stages: list[str] = []
    request = Predict(
        id="measured",
        case=str(case),
        output=str(tmp_path / "prediction"),
        options=PredictOptions("cpu", "fp32", measure=True),
    )
    result = worker.run(request, progress=lambda _, stage: stages.append(stage))
    measures = read_measures(Path(result.folder))
    prediction = read_prediction(Path(result.folder), small_case)
    for dose, curves in ((prediction.dose, measures.predicted), (small_case.plan_dose, None)):
        curves = curves if curves is not None else measures.planned
        assert dose is not None and curves is not None
        for key in ("PTV70", "SpinalCord"):
            assert curves[key] == dvh(dose, small_case.structures[key], name=key)
            assert curves[key].dose_at_percent(50) is not None
    assert measures.evaluation is not None and measures.evaluation["mae_body_gy"] is not None
    assert any(stage.startswith("DVH of") for stage in stages)
    assert prediction.seconds["measure"] > 0


def test_coarse_dose_and_strips_come_back_when_they_are_asked_for(
    worker: WorkerClient, small_case: Case
) -> None:
    options = PredictOptions(keep=("coarse dose",), keep_strips=True)
    prediction = worker.predict(small_case, model="openkbp-two-stage", options=options)
    assert prediction.coarse is not None and prediction.coarse.array.max() > 20
    assert prediction.strips is not None and set(prediction.strips) == {0, 45, 90, 135}
    assert all(mask.array.any() for mask in prediction.strips.values())


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"model": "no-such"}, ModelError, "no-such"),
        ({"mapping": {"PTV70": "Liver"}}, MappingError, "Liver"),
        ({"options": PredictOptions(device="cuda:7")}, Exception, "cuda:7"),
        ({"options": PredictOptions(strip_margin_mm=-1.0)}, Exception, "margin"),
    ],
)
def test_what_the_library_refuses_is_refused_alike(
    worker: WorkerClient, small_case: Case, arguments: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        worker.predict(small_case, **arguments)
    assert worker.pid is not None


def test_cancel_reaches_a_running_inference_and_the_worker_stays_warm(
    worker: WorkerClient, small_case: Case, tmp_path: Path
) -> None:
    worker.predict(small_case)
    pid, stage = worker.pid, ""

    def progress(share: float, text: str) -> None:
        nonlocal stage
        stage = text

    with pytest.raises(PredictionCancelled):
        worker.predict(small_case, progress=progress, cancelled=lambda: stage == "coarse dose")
    assert worker.pid == pid
    assert predicted_warm(worker, small_case, tmp_path, PredictOptions()).dose.array.max() > 20


def test_a_time_out_ends_the_prediction_and_the_next_one_works(
    worker: WorkerClient, small_case: Case
) -> None:
    with pytest.raises(WorkerTimeoutError, match=r"0\.05 s"):
        worker.predict(small_case, timeout_seconds=0.05)
    assert worker.predict(small_case).dose.array.max() > 20


@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_ends_the_prediction_and_is_passed_on(
    worker: WorkerClient, small_case: Case
) -> None:
    def interrupt(share: float, stage: str) -> None:
        if stage == "coarse dose":
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        worker.predict(small_case, progress=interrupt)
    assert worker.predict(small_case).dose.array.max() > 20


def test_a_killed_worker_is_an_error_and_the_next_prediction_starts_another(
    worker: WorkerClient, small_case: Case
) -> None:
    worker.predict(small_case)
    pid = worker.pid
    assert pid is not None

    def kill(share: float, stage: str) -> None:
        if stage == "coarse dose":
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(MemoryExhaustedError, match="ended by the system"):
        worker.predict(small_case, progress=kill)
    assert worker.predict(small_case).dose.array.max() > 20
    assert worker.pid != pid


def test_a_crash_says_which_signal_and_where(worker: WorkerClient, small_case: Case) -> None:
    def crash(share: float, stage: str) -> None:
        if stage == "coarse dose" and worker.pid is not None:
            os.kill(worker.pid, signal.SIGSEGV)

    with pytest.raises(WorkerError, match="SIGSEGV") as caught:
        worker.predict(small_case, progress=crash)
    assert "Segmentation fault" in caught.value.details


@pytest.mark.skipif(sys.platform != "linux", reason="sets another process's limits")
def test_memory_that_runs_out_is_an_error_with_what_was_tried(
    worker: WorkerClient, small_case: Case
) -> None:
    import resource

    options = PredictOptions("cpu", "fp32")
    worker.predict(small_case, options=options)
    pid = worker.pid
    assert pid is not None
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:  # noqa: PTH123
        used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    _, hard = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (used, hard))
    wide = widened(small_case, 4)
    with pytest.raises(MemoryExhaustedError, match="Memory ran out") as caught:
        worker.predict(wide, options=options)
    assert any("slabs" in text for text in caught.value.tried) or "prepared" in str(caught.value)
    resource.prlimit(pid, resource.RLIMIT_AS, (hard, hard))
    assert worker.predict(small_case, options=options).dose.array.max() > 20
    assert worker.pid == pid


def widened(case: Case, times: int) -> Case:
    """The case's slices over and over: more voxels than a worker has seen."""
    from DosePredictionLib.volume import Volume

    x, y, z = case.grid.size
    grid = replace(case.grid, size=(x, y, z * times))

    def tiled(volume: Volume) -> Volume:
        return Volume(np.tile(volume.array, (times, 1, 1)), grid)

    structures = {name: tiled(mask) for name, mask in case.structures.items()}
    return Case(case.name, tiled(case.ct), structures, prescription=case.prescription)


def test_a_launcher_is_killed_with_its_child(small_case: Case, launcher: Path) -> None:
    with WorkerClient(launcher, grace_seconds=0.5) as client:
        stopped: list[int] = []

        def stop(share: float, stage: str) -> None:
            assert client.pid is not None
            os.kill(client.pid, signal.SIGSTOP)  # does not read the message: only force is left
            stopped.append(client.pid)

        with pytest.raises(PredictionCancelled):
            client.predict(small_case, progress=stop, cancelled=lambda: bool(stopped))
        assert client.pid is None
        assert wait_until(lambda: not is_alive(stopped[0]))


def test_a_launcher_that_is_killed_takes_its_child_along(small_case: Case, launcher: Path) -> None:
    with WorkerClient(launcher) as client:
        pids: list[int] = []

        def kill_launcher(share: float, stage: str) -> None:
            if not pids:
                assert client.pid is not None and client._process is not None
                assert client.pid != client._process.pid
                pids.append(client.pid)
                os.kill(client._process.pid, signal.SIGKILL)

        with pytest.raises(MemoryExhaustedError, match="signal 9"):
            client.predict(small_case, progress=kill_launcher)
        assert wait_until(lambda: not is_alive(pids[0]))


def test_closing_leaves_neither_process_nor_files(small_case: Case) -> None:
    client = WorkerClient()
    with pytest.raises(ModelError):
        client.predict(small_case, model="no-such")
    pid, scratch = client.pid, client._scratch
    assert pid is not None and scratch is not None and scratch.is_dir()
    client.close()
    assert wait_until(lambda: not is_alive(pid)) and not scratch.exists()
    client.close()


def test_an_interpreter_that_cannot_start_is_named(small_case: Case, tmp_path: Path) -> None:
    with (
        WorkerClient(tmp_path / "no-python") as client,
        pytest.raises(WorkerError, match="no-python"),
    ):
        client.predict(small_case)


def test_garbage_is_answered_and_passed_over() -> None:
    with raw_worker() as raw:
        assert isinstance(raw.next(), Ready)
        for garbage in (
            b"\x00\xff\n",
            b"{]\n",
            b'{"type": "dance"}\n',
            b"\n",
            b"x" * 10**6 + b"\n",
        ):
            raw.send(garbage)
        replies = [raw.next() for _ in range(4)]
        assert all(isinstance(reply, Failure) and reply.id is None for reply in replies)
        raw.send(Ping())
        assert raw.next() == Pong(())
        raw.send(Shutdown())
        assert raw.process.wait(120) == 0


def test_nothing_but_the_protocol_reaches_stdout() -> None:
    code = (
        "import ctypes, os, sys\n"
        "from DosePredictionLib.worker import __main__ as worker\n"
        "streams = worker._take_streams()\n"
        "print('python'); sys.__stdout__.write('old\\n'); sys.__stdout__.flush()\n"
        "ctypes.CDLL(None).puts(b'c'); ctypes.CDLL(None).fflush(None)\n"
        "os.system('echo child')\n"
        "assert sys.stdin.read() == ''\n"
        "streams[1].write(b'message')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=b"for the worker", capture_output=True, check=True
    )
    assert done.stdout == b"message"
    for word in (b"python", b"old", b"c\n", b"child"):
        assert word in done.stderr


def test_the_end_of_stdin_ends_it_and_clears_the_scratch_folder_away(small_case: Case) -> None:
    scratch = new_scratch()
    with raw_worker("--scratch", str(scratch)) as raw:
        raw.send(Predict("1", str(write_case(scratch / "case", small_case)), str(scratch / "out")))
        raw.until(Ready)
        raw.stdin.close()
        assert raw.process.wait(120) == 0
    assert not scratch.exists()


def test_a_folder_that_is_no_scratch_folder_is_never_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "plan").write_text("precious")
    with raw_worker("--scratch", str(tmp_path)) as raw:
        raw.stdin.close()
        assert raw.process.wait(120) == 0
    assert (tmp_path / "plan").is_file()


def test_it_ends_with_its_parent_even_if_the_pipe_stays_open() -> None:
    reader, writer = os.pipe()  # this test holds the writing end to the last
    parent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with raw_worker("--parent", str(parent.pid), stdin=reader) as raw:
            assert isinstance(raw.next(), Ready)
            time.sleep(0.1)
            assert raw.process.poll() is None
            parent.kill()  # and nobody buries it: a zombie counts as dead
            assert raw.process.wait(120) == 0
    finally:
        parent.kill()
        parent.wait()
        os.close(reader)
        os.close(writer)


def test_after_idle_minutes_the_model_is_given_up(small_case: Case, tmp_path: Path) -> None:
    case = str(write_case(tmp_path / "case", small_case))
    with raw_worker("--idle-seconds", "1") as raw:
        raw.send(Predict("1", case, str(tmp_path / "one")))
        first = raw.until(Result, Failure)
        assert isinstance(first, Result) and not first.warm
        raw.send(Ping())
        assert raw.until(Pong) == Pong((default_model(small_case).manifest.name,))
        idle = raw.until(Log)
        assert isinstance(idle, Log) and "freed" in idle.text
        raw.send(Ping())
        assert raw.until(Pong) == Pong(())
        raw.send(Predict("2", case, str(tmp_path / "two")))
        second = raw.until(Result, Failure)
        assert isinstance(second, Result) and not second.warm


def test_two_predictions_wait_for_each_other_and_one_that_waits_can_be_cancelled(
    small_case: Case, tmp_path: Path
) -> None:
    case = str(write_case(tmp_path / "case", small_case))
    with raw_worker() as raw:
        for id in ("1", "2"):
            raw.send(Predict(id, case, str(tmp_path / id)))
        raw.send(Predict("1", case, str(tmp_path / "again")))
        raw.send(Cancel("2"))
        raw.send(Cancel("unknown"))
        ends = [raw.until(Result, Failure) for _ in range(3)]
        assert isinstance(ends[0], Failure) and "under way" in ends[0].message
        assert isinstance(ends[1], Result) and ends[1].id == "1"
        assert isinstance(ends[2], Failure) and ends[2].kind == "PredictionCancelled"
    assert not (tmp_path / "2").exists()


def test_a_missing_torch_is_named_with_the_way_out(
    small_case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('none', name='torch')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with WorkerClient() as client, pytest.raises(WorkerError, match=r"torch is missing.*panel"):
        client.predict(small_case)


def test_an_output_that_cannot_be_written_is_named(small_case: Case, tmp_path: Path) -> None:
    case = str(write_case(tmp_path / "case", small_case))
    (tmp_path / "file").write_text("")
    with raw_worker() as raw:
        raw.send(Predict("1", case, str(tmp_path / "file" / "out")))
        failure = raw.until(Failure)
        assert isinstance(failure, Failure) and f"written into {tmp_path}" in failure.message


def test_the_client_works_outside_the_main_thread(worker: WorkerClient, small_case: Case) -> None:
    doses: list[float] = []
    thread = threading.Thread(
        target=lambda: doses.append(float(worker.predict(small_case).dose.array.max()))
    )
    thread.start()
    thread.join()
    assert doses[0] > 20
