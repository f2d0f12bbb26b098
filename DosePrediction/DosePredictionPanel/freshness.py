"""Whether the result shown still belongs to the inputs: none, current, or out of date and why."""

from __future__ import annotations

from dataclasses import dataclass, field

from .i18n import _

__all__ = ["Freshness"]

_NAMES_SHOWN = 3


@dataclass
class Freshness:
    """The state of the result against its inputs.

    A change counts while a result is shown. One that arrives while a prediction runs outlives it:
    the result then belongs to the inputs as they were read.
    """

    has_result: bool = False
    _reasons: dict[str, None] = field(default_factory=dict)
    _since_start: dict[str, None] | None = None

    @property
    def is_outdated(self) -> bool:
        """Whether something changed since the result."""
        return self.has_result and bool(self._reasons)

    @property
    def reasons(self) -> tuple[str, ...]:
        """What changed, in the order in which it did."""
        return tuple(self._reasons)

    def changed(self, what: str) -> bool:
        """Note that a segment or another input changed; true if that is news to the person."""
        if self._since_start is not None:
            self._since_start[what] = None
        if not self.has_result:
            return False
        is_news = what not in self._reasons
        self._reasons[what] = None
        return is_news

    def started(self) -> None:
        """The inputs have been read for a prediction: what changes from here on is not in it."""
        self._since_start = {}

    def completed(self) -> None:
        """The prediction is complete and shown."""
        self._reasons = self._since_start or {}
        self._since_start = None
        self.has_result = True

    def abandoned(self) -> None:
        """The prediction failed or was cancelled: the earlier result stays as it was."""
        self._since_start = None

    def removed(self) -> None:
        """The result is gone."""
        self.has_result = False
        self._reasons = {}

    def notice(self) -> str:
        """What to tell the person; empty when the result is current or there is none."""
        if not self.is_outdated:
            return ""
        names = list(self._reasons)
        text = ", ".join(names[:_NAMES_SHOWN])
        if len(names) > _NAMES_SHOWN:
            count = len(names) - _NAMES_SHOWN
            text = _("{names} and {count} more").format(names=text, count=count)
        return _("Out of date: {names} changed since this prediction.").format(names=text)
