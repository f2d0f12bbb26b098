"""Structure protocols: the ordered channels that a family of models takes.

How a clinic's own names find their channels is described in `mapping.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from ..errors import DosePredictionError
from ..ranges import DoseGy
from ..resources import resource_path
from ..schema import FieldError, FreeText, Length, Name, Pattern, from_json, read_json, validated

__all__ = ["Channel", "Role", "StructureProtocol"]

Role = Literal["target", "organ", "external"]
_Names = Annotated[tuple[Name, ...], Length(0, 1000)]
_Color = Annotated[str, Pattern("#[0-9a-fA-F]{6}", "a color such as #d62728")]


@dataclass(frozen=True)
@validated
class Channel:
    """One structure that a model takes.

    Args:
        name: the channel's name, and that of the structure in file names.
        role: `target`, `organ` (at risk) or `external` (the body's outline).
        label: how a person reads it.
        tg263: the name by AAPM TG-263 (doi 10.1002/mp.12985).
        color: display color, "#rrggbb".
        required: whether a case without it is refused.
        synonyms: further spellings; case, separators and side marks do not matter.
        related: names of related structures that are not the same (Bowel_Bag for Small_Intestine):
            a person may map them, with a warning; they never match by themselves.
        side: "left" or "right" of a paired organ.
        level_gy: for targets with a dose level of their own, that level in Gy.
        network_input: false for a structure that shapes the encoding (an external contour that
            cuts off the couch) without being an input of the network.
    """

    name: Name
    role: Role
    label: Name
    tg263: Name
    color: _Color
    required: bool = False
    synonyms: _Names = ()
    related: _Names = ()
    side: Literal["left", "right"] | None = None
    level_gy: DoseGy | None = None
    network_input: bool = True

    def __post_init__(self) -> None:
        if self.level_gy is not None and self.role != "target":
            raise FieldError("level_gy", f"is for targets; {self.name} is of the role {self.role}.")


@dataclass(frozen=True)
@validated
class StructureProtocol:
    """An ordered set of channels, as read from `Resources/Protocols/<id>.json`.

    Args:
        id: how models and commands name it ("pelvis", "openkbp").
        title: how a person reads it.
        description: where it comes from.
        channels: in the order of the network's input.

    Raises:
        DosePredictionError: two channels share a name, or none is a target.
    """

    id: Name
    title: Name
    description: FreeText
    channels: Annotated[tuple[Channel, ...], Length(1, 100)]

    def __post_init__(self) -> None:
        names = self.names
        if len(set(names)) != len(names):
            raise DosePredictionError(f"Protocol {self.id} names a channel twice: {names}.")
        if not self.targets:
            raise DosePredictionError(f"Protocol {self.id} has no channel with the role target.")

    @classmethod
    def load(cls, name: str) -> StructureProtocol:
        """Read a shipped protocol by its id, or one's own by the path of its JSON file.

        Raises:
            DosePredictionError: there is none of that id; the message lists those there are.
        """
        own = Path(name)
        path = own if own.suffix == ".json" else resource_path("Protocols", f"{name}.json")
        if not path.is_file():
            raise DosePredictionError(
                f"There is no protocol {name!r}; there are {', '.join(cls.available())}."
            )
        return from_json(cls, read_json(path), path.name)

    @staticmethod
    def available() -> list[str]:
        """Ids of the shipped protocols."""
        return sorted(path.stem for path in resource_path("Protocols").glob("*.json"))

    @property
    def names(self) -> list[str]:
        """Channel names in order."""
        return [channel.name for channel in self.channels]

    @cached_property
    def inputs(self) -> tuple[Channel, ...]:
        """Channels that the network receives, in its order."""
        return tuple(channel for channel in self.channels if channel.network_input)

    @cached_property
    def targets(self) -> tuple[Channel, ...]:
        """Channels with the role target, highest level first as the file lists them."""
        return tuple(channel for channel in self.channels if channel.role == "target")

    @cached_property
    def organs(self) -> tuple[Channel, ...]:
        """Channels with the role organ."""
        return tuple(channel for channel in self.channels if channel.role == "organ")

    @cached_property
    def required(self) -> tuple[str, ...]:
        """Names of the channels without which no dose is predicted."""
        return tuple(channel.name for channel in self.channels if channel.required)

    @cached_property
    def external(self) -> Channel | None:
        """The channel of the body's outline, if the protocol has one."""
        return next((c for c in self.channels if c.role == "external"), None)

    @cached_property
    def mirrored(self) -> tuple[int, ...]:
        """For each input the index of the input that takes its place in a mirrored patient."""
        order = []
        for index, channel in enumerate(self.inputs):
            partner = [i for i, other in enumerate(self.inputs) if _are_a_pair(channel, other)]
            order.append(partner[0] if partner else index)
        return tuple(order)

    def index(self, name: str) -> int:
        """Position of a channel.

        Raises:
            DosePredictionError: the protocol has no such channel.
        """
        if name not in self.names:
            raise DosePredictionError(
                f"Protocol {self.id} has no channel {name!r}; it has {', '.join(self.names)}."
            )
        return self.names.index(name)


def _are_a_pair(one: Channel, other: Channel) -> bool:
    """Whether two channels are the left and the right of one organ."""
    if {one.side, other.side} != {"left", "right"}:
        return False
    left, right = (one, other) if one.side == "left" else (other, one)
    return left.label.replace("Left", "Right") == right.label
