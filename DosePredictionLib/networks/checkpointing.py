"""Activations recomputed in the backward pass, with batch norm's statistics updated once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

__all__ = ["recomputed"]


def recomputed(
    function: Callable[..., Tensor], modules: tuple[nn.Module, ...], *inputs: Tensor
) -> Tensor:
    """`function(*inputs)`, of which only the inputs are kept for the backward pass.

    Args:
        function: runs the modules, and nothing else that has a state.
        modules: whose batch norms must not count the batch again when it is recomputed.
    """
    norms = [m for each in modules for m in each.modules() if isinstance(m, _BatchNorm)]

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _without_tracking(norms)

    result: Tensor = checkpoint(
        function,
        *inputs,
        use_reentrant=False,
        context_fn=contexts,
        preserve_rng_state=False,  # nothing here draws random numbers
    )
    return result


@contextmanager
def _without_tracking(norms: list[_BatchNorm]) -> Iterator[None]:
    """Batch norms use the batch's statistics, where training, without recording them.

    With a momentum of 0 they do all that they did the first time, tensor for tensor, as
    checkpointing demands.
    """
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked for norm in norms]
    saved = [None if count is None else count.clone() for count in counts]
    try:
        for norm in norms:
            norm.momentum = 0.0
        yield
    finally:
        for norm, momentum, count, value in zip(norms, momenta, counts, saved, strict=True):
            norm.momentum = momentum
            if count is not None and value is not None:
                count.copy_(value)
