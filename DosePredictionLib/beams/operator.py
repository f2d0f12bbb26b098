"""What turns fluence into dose: a linear map with non-negative entries, and its transpose."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["DoseOperator", "MatrixOperator"]


class DoseOperator(Protocol):
    """A linear map with non-negative entries; arrays may be NumPy's or torch's.

    Attributes:
        elements: number of fluence elements.
    """

    @property
    def elements(self) -> int:
        """Number of fluence elements."""

    def dose(self, fluence: Any) -> Any:
        """Dose of each voxel `(voxel,)` from `(element,)`."""

    def adjoint(self, dose: Any) -> Any:
        """The transposed map: `(element,)` from `(voxel,)`."""


class MatrixOperator:
    """A dose influence matrix `(voxel, element)`, as planning programs give it."""

    def __init__(self, matrix: Any) -> None:
        self._matrix = sparse.csc_array(matrix).astype(np.float32)
        self._transposed = self._matrix.T

    @property
    def elements(self) -> int:
        """Number of fluence elements."""
        return int(self._matrix.shape[1])

    def dose(self, fluence: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `DoseOperator`."""
        return np.asarray(self._matrix @ fluence)

    def adjoint(self, dose: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `DoseOperator`."""
        return np.asarray(self._transposed @ dose)
