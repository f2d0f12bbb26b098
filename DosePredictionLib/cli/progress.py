"""Progress on stderr, a bar for each case in turn."""

from __future__ import annotations

from tqdm import tqdm

__all__ = ["Bars"]


class Bars:
    """A progress bar on stderr for each case in turn."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._case = ""

    def __call__(self, case: str, share: float, stage: str) -> None:
        """Show a case's share and stage."""
        if self._bar is None or case != self._case:
            self.close()
            self._case = case
            self._bar = tqdm(total=100, desc=case, unit="%", leave=False, disable=None)
        self._bar.set_postfix_str(stage, refresh=False)
        self._bar.update(int(100 * share) - self._bar.n)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
