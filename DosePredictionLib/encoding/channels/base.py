"""What a channel states of itself, and what it is computed from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import DosePredictionError
from ...findings import Finding
from ...mask import majority
from ...structures.bound import BoundCase
from ...structures.protocol import StructureProtocol
from ...volume import Grid
from ..settings import EncodingSettings

__all__ = ["CaseOnGrid", "Channel", "Group", "Motion", "Source", "Storage"]

Group = Literal["ct", "structures", "strips", "derived"]
"""Where a channel stands in the input, and which argument of a network counts it."""

Storage = Literal["bits", "float16", "float32", "recomputed"]
"""How training keeps a channel: `bits` holds 0 and 1, `float16` rounds to half a thousandth of 1;
`recomputed` keeps nothing and makes the channel from the masks of each crop."""

Motion = Literal["linear", "nearest", "remade"]
"""How a channel follows a patient who is turned or scaled in plane; `remade`: from the masks as
they then lie."""


@dataclass(frozen=True, eq=False)
class CaseOnGrid:
    """A case that is being carried onto a model's grid.

    Args:
        bound: the case.
        grid: the model's grid.
        findings: takes what channels notice.
        recompute_strips: ignore strip masks that came with the case.
    """

    bound: BoundCase
    grid: Grid
    findings: list[Finding] = field(default_factory=list)
    recompute_strips: bool = False


@dataclass(frozen=True, eq=False)
class Source:
    """What channels are computed from: the masks on the model's grid, and the case if it is there.

    Args:
        protocol: of the masks.
        settings: of the model.
        spacing_mm: (x, y, z).
        masks: the protocol's inputs as the network sees them `(channel, z, y, x)`, float32.
        body: bool `(z, y, x)`.
        on_grid: None where the masks are all that was kept: crops and compact files.
        wishes: channel of an organ → share of it that may get the dose that the model limits.
    """

    protocol: StructureProtocol
    settings: EncodingSettings
    spacing_mm: tuple[float, float, float]
    masks: NDArray[np.float32]
    body: NDArray[np.bool_]
    on_grid: CaseOnGrid | None = None
    wishes: Mapping[str, float] = field(default_factory=dict)
    _shared: dict[str, Any] = field(default_factory=dict)

    @property
    def case(self) -> CaseOnGrid:
        """The case itself.

        Raises:
            DosePredictionError: only its masks were kept.
        """
        if self.on_grid is None:
            raise DosePredictionError(
                "This channel is computed from the case itself, of which a compact file and a crop "
                "hold only the masks. Train on a cache instead (prepare --output)."
            )
        return self.on_grid

    @cached_property
    def target(self) -> NDArray[np.bool_]:
        """The union of all targets."""
        result = np.zeros(self.masks.shape[1:], dtype=bool)
        for index, channel in enumerate(self.protocol.inputs):
            if channel.role == "target":
                result |= majority(self.masks[index])
        return result

    def shared(self, name: str, compute: Callable[[], Any]) -> Any:
        """What several channels need, computed once."""
        if name not in self._shared:
            self._shared[name] = compute()
        return self._shared[name]


@dataclass(frozen=True)
class Channel(ABC):
    """One channel of a network's input; its values depend on the case and the model's grid alone.

    Args:
        name: unique within an input.
        mirror: name of the channel that takes its place in the left–right mirrored patient.
        group: where it stands.
        padding: its value beyond the grid, and where its structure is absent.
        motion: how it follows a patient who is turned or scaled.
        storage: how training keeps it.
        structure: the protocol's channel that it shows, if it shows one.
        from_masks: whether masks and body are enough to compute it.
    """

    name: str
    mirror: str
    group: Group
    padding: float
    motion: Motion
    storage: Storage
    structure: str | None = None
    from_masks: bool = False

    def __post_init__(self) -> None:
        makes = self.motion == "remade" or self.storage == "recomputed"
        if makes and not self.from_masks:
            raise DosePredictionError(
                f"The channel {self.name} is to be made anew in training, but not from masks alone."
            )

    @abstractmethod
    def computed(self, source: Source) -> NDArray:
        """Its values `(z, y, x)`, in the network's units.

        Raises:
            DosePredictionError: it needs the case, and only masks were kept.
        """
