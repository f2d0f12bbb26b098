"""Training losses, one a file; plain functions of tensors."""

from .masked import masked_mae

__all__ = ["masked_mae"]
