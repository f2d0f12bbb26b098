"""The run's figures: `metrics.jsonl`, which a resumed run cuts back, and TensorBoard."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .pictures import png

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["MetricsLog"]


class MetricsLog:
    """Appends records to `metrics.jsonl`, and the same numbers to TensorBoard where it is there.

    What depends on the clock goes to TensorBoard only, so that a resumed run writes the same file.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / "metrics.jsonl"
        self._board: SummaryWriter | None = None
        self._run = run

    @property
    def length(self) -> int:
        """Bytes that the file holds; a checkpoint remembers it."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def cut_back(self, length: int) -> None:
        """Forget what was written after a checkpoint."""
        if self.path.is_file():
            with self.path.open("r+b") as file:
                file.truncate(length)

    def write(self, record: Mapping[str, float], timing: Mapping[str, float]) -> None:
        """Append one record, and force it onto the disk."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())
        board = self._writer(int(record["step"]))
        if board is not None:
            for name, value in {**record, **timing}.items():
                if name != "step":
                    board.add_scalar(name, value, int(record["step"]))
            board.flush()

    def picture(self, name: str, picture: NDArray[np.uint8], step: int) -> None:
        """Show an image `(y, x, 3)` in TensorBoard; its own `add_image` would need Pillow."""
        board = self._writer(step)
        if board is None:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary

        height, width, channels = picture.shape
        image = Summary.Image(
            height=height, width=width, colorspace=channels, encoded_image_string=png(picture)
        )
        summary = Summary(value=[Summary.Value(tag=name, image=image)])
        board._get_file_writer().add_summary(summary, step)

    def close(self) -> None:
        """End TensorBoard's file."""
        if self._board is not None:
            self._board.close()

    def _writer(self, step: int) -> SummaryWriter | None:
        if self._board is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                return None
            self._board = SummaryWriter(str(self._run / "tensorboard"), purge_step=step)
        return self._board
