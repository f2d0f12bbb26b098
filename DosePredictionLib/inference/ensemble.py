"""Mean and spread of several doses, of which only one is held at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["RunningSpread"]


class RunningSpread:
    """Mean and standard deviation by Welford's updates (doi 10.1080/00401706.1962.10490022).

    Two arrays are kept, however many are added.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean: NDArray[np.float32] | None = None
        self._squares: NDArray[np.float32] | None = None

    def add(self, values: NDArray[np.float32]) -> None:
        """Take one more array of the same shape; it is not kept."""
        self.count += 1
        if self._mean is None:
            self._mean = values.copy()
            return
        difference = values - self._mean
        self._mean += difference / self.count
        difference *= values - self._mean
        self._squares = difference if self._squares is None else self._squares + difference

    @property
    def mean(self) -> NDArray[np.float32]:
        """Mean of what was added."""
        assert self._mean is not None
        return self._mean

    @property
    def spread(self) -> NDArray[np.float32] | None:
        """Sample standard deviation; None for fewer than two."""
        if self._squares is None:
            return None
        return np.sqrt(np.maximum(self._squares, 0) / np.float32(self.count - 1))
