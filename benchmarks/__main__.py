"""`python -m benchmarks`: every benchmark, one after the other."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import benchmarks

if __name__ == "__main__":
    sys.argv = sys.argv[:1]
    names = [each.name for each in pkgutil.iter_modules(benchmarks.__path__)]
    for name in [name for name in names if name != "__main__"]:
        module = importlib.import_module(f"benchmarks.{name}")
        if hasattr(module, "main"):
            sys.stdout.write(f"\n== {name}\n")
            sys.stdout.flush()
            module.main()
