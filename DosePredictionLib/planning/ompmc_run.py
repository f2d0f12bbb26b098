"""One run of ompMC, alone in a process: from the arrays of a file to those of another.

    python ompmc_run.py JOB.npz DOSE.npz

Imports nothing of this package, and is imported by nothing: ompMC is GPL-3. Says its progress as
lines of "share 0.5".
"""

from __future__ import annotations

import sys

__all__ = ["main"]

_MEDIUM = "H2O700ICRU"
_RUNS = 10


def main(job: str, done: str) -> None:
    """Simulate a job: the mean of independent runs, and how far they lie apart."""
    import numpy as np
    import ompmc

    given = dict(np.load(job))
    density = np.asfortranarray(given["density"].T)  # (z, y, x) to (x, y, z)
    medium = np.asfortranarray((density > 0).astype(np.int32))  # 0: vacuum
    bounds = (given[f"bounds_{axis}"] for axis in "xyz")
    patient = ompmc.Geometry(*bounds, [_MEDIUM], density, medium)
    weights, seed = given["weights"], int(given["seed"])
    random = np.random.default_rng(seed)
    histories = max(2, int(given["histories"]) // _RUNS)
    doses = []
    for run in range(_RUNS):
        # ompMC goes through its elements in order, each batch alike: with fewer histories than
        # elements some never have their turn. So each run gets elements drawn at random.
        drawn = random.choice(weights.size, (histories + 1) // 2, p=weights / weights.sum())
        parts = (given[name][drawn] for name in ("corner", "side1", "side2"))
        dose, _ = ompmc.calc_forward(
            patient,
            ompmc.BeamletSource(given["beam"][drawn], given["focus"], *parts),
            np.full(drawn.size, weights.sum() / drawn.size),
            physics=ompmc.Physics(seeds=(seed + run, 33)),
            n_histories=histories,
            n_batches=2,
            gaussian_source=True,
            source_width=float(given["width_cm"]),
        )
        doses.append(dose.T)
        sys.stdout.write(f"\nshare {(run + 1) / _RUNS:.4f}\n")
        sys.stdout.flush()
    mean = np.mean(doses, axis=0)
    error = np.std(doses, axis=0, ddof=1) / np.sqrt(_RUNS)
    noise = np.divide(error, mean, out=np.ones_like(mean), where=mean > 0)
    np.savez(done, dose=mean, noise=noise)


if __name__ == "__main__":
    main(*sys.argv[1:])
