"""The parser of arguments that every program of this project uses."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from .errors import CallError

__all__ = ["Parser"]


class Parser(argparse.ArgumentParser):
    """Raises instead of printing usage: a wrong call gets one line, or one JSON object."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the call, and whose help says how it is right."""
        raise CallError(f"{message} (see {self.prog} --help)")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse has it; but what a subcommand does not know is the subcommand's error."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown
