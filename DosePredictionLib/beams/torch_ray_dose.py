"""The dose operator of traced fields on torch: on any device, and differentiable."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from .ray_dose import RayDose

__all__ = ["TorchRayDose"]


class _Product(torch.autograd.Function):
    """A sparse matrix times a vector; the gradient takes the transposed matrix."""

    @staticmethod
    def forward(context: Any, vector: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
        context.matrices = transposed, matrix
        return torch.mv(matrix, vector)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _Product.apply(gradients[0], *context.matrices), None, None


class TorchRayDose:
    """`RayDose` of tensors: the same numbers, with gradients from dose to fluence and back.

    Args:
        operator: on NumPy.
        device: where it works.
    """

    def __init__(self, operator: RayDose, device: torch.device | str = "cpu") -> None:
        self._operator = operator
        self._matrix = _csr(sparse.csr_array(operator.matrix), device)
        self._transposed = _csr(sparse.csr_array(operator.matrix.T), device)
        self._open = [torch.from_numpy(field.open).to(device) for field in operator.fields]
        self._blurs = [
            [
                (share, torch.from_numpy(along).to(device), torch.from_numpy(across).to(device))
                for share, along, across in blurs
            ]
            for blurs in operator.blurs
        ]

    @property
    def elements(self) -> int:
        """Number of fluence elements."""
        return self._operator.elements

    def dose(self, fluence: Tensor) -> Tensor:
        """See `DoseOperator`."""
        parts = []
        for part, opened, blurs in zip(
            self._operator.elements_of, self._open, self._blurs, strict=True
        ):
            lattice = fluence.new_zeros(opened.shape).masked_scatter(opened, fluence[part])
            blurred = [weight * (v @ lattice @ u.T) for weight, v, u in blurs]
            parts.append(torch.stack(blurred).sum(0).flatten())
        dose: Tensor = _Product.apply(torch.cat(parts), self._matrix, self._transposed)
        return dose

    def adjoint(self, dose: Tensor) -> Tensor:
        """See `DoseOperator`."""
        spread = _Product.apply(dose, self._transposed, self._matrix)
        parts, start = [], 0
        for opened, blurs in zip(self._open, self._blurs, strict=True):
            part = spread[start : start + opened.numel()].view(opened.shape)
            start += opened.numel()
            blurred = [weight * (v.T @ part @ u) for weight, v, u in blurs]
            parts.append(torch.stack(blurred).sum(0)[opened])
        return torch.cat(parts)


def _csr(matrix: sparse.csr_array, device: torch.device | str) -> Tensor:
    return torch.sparse_csr_tensor(
        torch.from_numpy(matrix.indptr.astype(np.int32)),
        torch.from_numpy(matrix.indices.astype(np.int32)),
        torch.from_numpy(matrix.data),
        size=matrix.shape,
        check_invariants=False,
    ).to(device)
