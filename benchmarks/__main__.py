"""`python -m benchmarks`: every benchmark, one after the other."""

from __future__ import annotations

import importlib
import sys

NAMES = ("inference", "encoding", "command", "evaluation")

if __name__ == "__main__":
    sys.argv = sys.argv[:1]
    for name in NAMES:
        sys.stdout.write(f"\n== {name}\n")
        sys.stdout.flush()
        importlib.import_module(f"benchmarks.{name}").main()
