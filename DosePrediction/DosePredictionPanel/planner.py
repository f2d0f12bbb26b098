"""The planner: a process of its own, so that predictions go on and its memory comes back."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .prepared import Scratch

if TYPE_CHECKING:
    from .services import Worker

__all__ = ["Planner"]


class Planner:
    """The process that plans, and its packages.

    Args:
        make_worker: called with the folder of the exchanged cases and that of the packages.
        scratch: where cases are exchanged.
        folder: of the packages; None: this user's.
    """

    def __init__(
        self, make_worker: Callable[..., Worker], scratch: Scratch, folder: Path | None = None
    ) -> None:
        from DosePredictionLib.planner_environment import planner_folder

        self.folder = folder or planner_folder()
        self.process: Worker | None = None
        self._make_worker, self._scratch = make_worker, scratch
        self._numbers = itertools.count(1)
        self._installing = ""

    @property
    def worker(self) -> Worker:
        """The worker; its process starts with the first request.

        Raises:
            WorkerError: there is no temporary folder to exchange cases in.
        """
        from DosePredictionLib.planner_environment import planner_packages

        if self.process is None:
            self.process = self._make_worker(self._scratch.root, planner_packages(self.folder))
        return self.process

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            process, self.process = self.process, None
            process.stop()

    def is_there(self) -> bool:
        """Whether plans can be made."""
        from DosePredictionLib.planner_environment import has_planner

        return has_planner(self.folder)

    def install(
        self,
        heard: Callable[[float, str], None],
        ended: Callable[[Exception | None, str], None],
    ) -> None:
        """Have the process fill the folder of its packages.

        Args:
            heard: share done and stage.
            ended: called with the error, and details to copy; None when it is installed.

        Raises:
            WorkerError: the process cannot be started.
        """
        from DosePredictionLib.worker.messages import Failure, InstallPlanner, Progress
        from DosePredictionLib.worker.session import as_exception

        def replied(reply: Any) -> None:
            if isinstance(reply, Progress):
                heard(reply.fraction, reply.stage)
                return
            self._installing = ""
            if isinstance(reply, Failure):
                ended(as_exception(reply), reply.details)
            else:
                ended(None, "")

        self._installing = f"install-{next(self._numbers)}"
        self.worker.send(InstallPlanner(self._installing, str(self.folder)), replied)

    def cancel_installation(self) -> None:
        """Stop installing; nothing of it stays."""
        if self._installing and self.process is not None:
            self.process.cancel(self._installing)
