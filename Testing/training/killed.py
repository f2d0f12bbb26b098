"""`python -m training …` that is killed, as by `kill -9`, at a named point.

python killed.py POINT ARGUMENTS…; POINT is `step`, `validation` or `checkpoint`.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any


def _die(*arguments: Any, **options: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    """Plant the death, then run the real command."""
    from training import loop
    from training.__main__ import main as training

    point = sys.argv.pop(1)
    count = 0

    if point == "step":
        step = loop.Trainer.train_step

        def until_sixth(self: Any, batch: Any) -> float:
            if self.step == 6:
                _die()
            return step(self, batch)

        loop.Trainer.train_step = until_sixth  # type: ignore[method-assign]
    elif point == "validation":
        figures = loop.validation_figures

        def until_second(*arguments: Any) -> Any:
            nonlocal count
            count += 1
            return _die() if count == 2 else figures(*arguments)

        loop.validation_figures = until_second  # type: ignore[assignment]
    else:
        import torch

        save = torch.save

        def half(state: Any, file: Any) -> None:
            nonlocal count
            count += file.name.endswith("last.pt.partial")
            if count == 2:  # that of step 8
                file.write(b"half a checkpoint")
                file.flush()
                _die()
            save(state, file)

        torch.save = half
    return training()


if __name__ == "__main__":
    sys.exit(main())
