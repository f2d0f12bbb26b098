"""The worker, with the tests' tasks beside its own: what `WorkerClient(script=…)` starts."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import dummy_tasks

from DosePredictionLib.worker.__main__ import main

if __name__ == "__main__":
    dummy_tasks.register()
    main()
