"""Whether the result shown still belongs to the inputs, and what has changed since."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from .i18n import _

__all__ = ["Freshness", "RunSettings"]

_NAMES_SHOWN = 3
_PLACE_OF, _REMOVED = "place of ", " (removed)"  # as `scene.what_changed` names it


@dataclass(frozen=True)
class RunSettings:
    """What a prediction rests on beside the voxels.

    Args:
        values: name for people → value (model, prescription, precision …).
        mapping: channel → structure.
    """

    values: Mapping[str, str] = field(default_factory=dict)
    mapping: Mapping[str, str | None] = field(default_factory=dict)

    def differences(self, other: RunSettings) -> list[str]:
        """Names of what the two do not share, for people.

        Without a mapping in one of them its segmentation is another one, which says it all.
        """
        unlike = _unlike(self.mapping, other.mapping) if self.mapping and other.mapping else []
        channels = [_("channel {name}").format(name=name) for name in unlike]
        return [*_unlike(self.values, other.values), *channels]

    def uses(self, structure: str) -> bool:
        """Whether a structure fills a channel: one in none does not reach the network."""
        return structure in self.mapping.values()


@dataclass(frozen=True)
class Freshness:
    """The inputs and settings as they are now against those of the result.

    Args:
        result, now: settings of each; None without a result, or while nothing is known.
        inputs: names of inputs that differ from the result's.
    """

    result: RunSettings | None = None
    now: RunSettings | None = None
    inputs: tuple[str, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        """What changed since the result; empty when nothing did or there is no result."""
        if self.result is None:
            return ()
        settings = [] if self.now is None else self.result.differences(self.now)
        return tuple(_each_once([*self.inputs, *settings]))

    @property
    def is_outdated(self) -> bool:
        """Whether something changed since the result."""
        return bool(self.reasons)

    def edited(self, names: Sequence[str], structures: Sequence[str]) -> Freshness:
        """Compared with the result's inputs, this differs; an edit undone is in it no more.

        Args:
            names: of segments, or of other inputs ("CT").
            structures: all segments' names; of those, only what fills a channel counts.
        """
        used = self.result
        inputs = (name for name in names if name not in structures or (used and used.uses(name)))
        return replace(self, inputs=tuple(inputs))

    def notice(self) -> str:
        """What to say; empty when the result is current or there is none."""
        names = self.reasons
        if not names:
            return ""
        text = ", ".join(names[:_NAMES_SHOWN])
        if len(names) > _NAMES_SHOWN:
            count = len(names) - _NAMES_SHOWN
            text = _("{names} and {count} more").format(names=text, count=count)
        return _("Out of date, changed since this prediction: {names}.").format(names=text)


def _each_once(names: Sequence[str]) -> list[str]:
    """Each thing once: a CT that is another one lies at another place, too."""
    things = dict.fromkeys(names)
    return [name for name in things if not _names_place_of(name, things)]


def _names_place_of(name: str, others: Collection[str]) -> bool:
    what = name.removeprefix(_PLACE_OF).removesuffix(_REMOVED)
    return what != name and what in others


def _unlike(one: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """Keys whose values differ, in order."""
    missing = object()
    keys = dict.fromkeys([*one, *other])
    return [key for key in keys if one.get(key, missing) != other.get(key, missing)]
