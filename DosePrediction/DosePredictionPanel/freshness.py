"""Whether the result shown still belongs to the inputs, and what has changed since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .i18n import _

__all__ = ["Freshness", "InputsSignature"]

_NAMES_SHOWN = 3


@dataclass(frozen=True)
class InputsSignature:
    """What a prediction rests on, short enough to be compared.

    Args:
        nodes: what a node is for → its identity and time stamp.
        masks: structure → checksum of its voxels.
        settings: name for people → value (model, prescription, precision …).
        mapping: channel → structure.
    """

    nodes: Mapping[str, str] = field(default_factory=dict)
    masks: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    mapping: Mapping[str, str | None] = field(default_factory=dict)

    def differences(self, other: InputsSignature) -> tuple[str, ...]:
        """Names of what the two do not share, for people."""
        # A structure in no channel does not reach the network.
        used = {name for name in (*self.mapping.values(), *other.mapping.values()) if name}
        masks = [name for name in _unlike(self.masks, other.masks) if name in used]
        parts = (self.nodes, other.nodes), (self.settings, other.settings)
        rest = [name for one, two in parts for name in _unlike(one, two)]
        channels = [
            _("channel {name}").format(name=name) for name in _unlike(self.mapping, other.mapping)
        ]
        return tuple(dict.fromkeys([*masks, *rest, *channels]))


@dataclass
class Freshness:
    """The inputs as they are now against those of the result.

    A change is first only known to have happened (`changed`); once the inputs have been read again
    (`read`) it is known what differs, or that nothing does: an edit that was undone counts as none.
    """

    result: InputsSignature | None = None
    now: InputsSignature | None = None
    _unread: dict[str, None] = field(default_factory=dict)

    @property
    def reasons(self) -> tuple[str, ...]:
        """What changed since the result; empty when nothing did or there is no result."""
        if self.result is None:
            return ()
        known = () if self.now is None else self.result.differences(self.now)
        return tuple(dict.fromkeys([*known, *self._unread]))

    @property
    def is_outdated(self) -> bool:
        """Whether something changed since the result."""
        return bool(self.reasons)

    def changed(self, what: str) -> None:
        """Something was edited; its content has not been read again yet."""
        self._unread[what] = None

    def read(self, signature: InputsSignature) -> None:
        """The inputs have been read."""
        self.now = signature
        self._unread = {}

    def completed(self, signature: InputsSignature) -> None:
        """A prediction from these inputs is complete and shown."""
        self.result = signature

    def removed(self) -> None:
        """The result is gone."""
        self.result = None

    def notice(self) -> str:
        """What to tell the person; empty when the result is current or there is none."""
        names = self.reasons
        if not names:
            return ""
        text = ", ".join(names[:_NAMES_SHOWN])
        if len(names) > _NAMES_SHOWN:
            count = len(names) - _NAMES_SHOWN
            text = _("{names} and {count} more").format(names=text, count=count)
        return _("Out of date, changed since this prediction: {names}.").format(names=text)


def _unlike(one: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """Keys whose values differ, in order."""
    missing = object()
    keys = dict.fromkeys([*one, *other])
    return [key for key in keys if one.get(key, missing) != other.get(key, missing)]
