"""One run of ompMC, alone in a process: from the arrays of a file to those of another.

    python ompmc_run.py JOB.npz DOSE.npz RUN MOST_SECONDS

Imports nothing of this package, and is imported by nothing: ompMC is GPL-3.
"""

from __future__ import annotations

import sys
import time

__all__ = ["main"]

_MEDIUM = "H2O700ICRU"


def main(job: str, done: str, run: str, most_seconds: str) -> None:
    """Simulate one of a job's runs, which differ in their random numbers alone.

    A run that takes more CPU seconds than it may is ended by the system: now and then a photon of
    ompMC 0.4.0 never ends. Windows knows no such limit.
    """
    import numpy as np
    import ompmc

    _limit(int(most_seconds))
    given = dict(np.load(job))
    density = np.asfortranarray(given["density"].T)  # (z, y, x) to (x, y, z)
    medium = np.asfortranarray((density > 0).astype(np.int32))  # 0: vacuum
    bounds = (given[f"bounds_{axis}"] for axis in "xyz")
    patient = ompmc.Geometry(*bounds, [_MEDIUM], density, medium)
    weights, histories = given["weights"], int(given["histories"])
    seed, number = int(given["seed"]), int(run)
    # ompMC goes through its elements in order, each batch alike: with fewer histories than
    # elements some never have their turn. So each run gets elements drawn at random.
    random = np.random.default_rng([seed, number])
    drawn = random.choice(weights.size, (histories + 1) // 2, p=weights / weights.sum())
    parts = (given[name][drawn] for name in ("corner", "side1", "side2"))
    dose, _ = ompmc.calc_forward(
        patient,
        ompmc.BeamletSource(given["beam"][drawn], given["focus"], *parts),
        np.full(drawn.size, weights.sum() / drawn.size),
        physics=ompmc.Physics(seeds=(seed + number, 33)),
        n_histories=histories,
        n_batches=2,
        gaussian_source=True,
        source_width=float(given["width_cm"]),
    )
    np.savez(done, dose=dose.T, seconds=time.process_time())


def _limit(seconds: int) -> None:
    """Have the system end this process after so many seconds of its CPU time."""
    try:
        import resource
    except ImportError:
        return
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    if most != resource.RLIM_INFINITY:
        seconds = min(seconds, most)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, most))


if __name__ == "__main__":
    main(*sys.argv[1:])
