"""A simulated scanner upgrade on real T1 normals: delay until the alarm, and false alarms a year.

``python -m tests.benchmarks.drift --data FOLDER [--years 20] [--strength 1.0] [--scores-only]``
"""

import argparse
from pathlib import Path

import numpy as np

from models.appearance import NAMES, appearance
from models.catalogue import active_artefact
from models.evaluation.dataset import read_data_record, read_nifti
from models.evaluation.metrics import wilson_interval
from models.evaluation.upgrade import A_DAY, DAYS, Population, simulate_years, upgraded
from models.predictor import Predictor

SOON = 200  # Studies within which an upgrade is to be seen.
VARYING = tuple(name for name in NAMES if not name.endswith("_mm"))  # Of this set all spacings are equal.


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="The folder brain-mri-t1.")
    parser.add_argument("--years", type=int, default=20)
    parser.add_argument("--reference", type=int, default=200)
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--scores-only", action="store_true", help="Watch no image statistics.")
    given = parser.parse_args()
    described, predictor = read_data_record(given.data), Predictor.load(active_artefact())
    rows: list[list[list[float]]] = [[], []]
    for entry in [*described.of_role("calibration"), *described.of_role("test")]:
        volume = read_nifti(given.data / entry.file)
        for place, seen in enumerate((volume, upgraded(volume, given.strength))):
            looks = appearance(seen)
            rows[place].append([predictor.score(seen).study_score, *(looks[name] for name in VARYING)])
    before, after = np.array(rows[0]), np.array(rows[1])
    moved = (after.mean(axis=0) - before.mean(axis=0)) / before.std(axis=0, ddof=1)
    print(f"{len(before)} normals, upgrade of strength {given.strength:g}; moved, in standard deviations:")
    print("  " + ", ".join(f"{name} {by:+.2f}" for name, by in zip(("score", *VARYING), moved, strict=True)))
    kept = slice(0, 1) if given.scores_only else slice(None)
    found = simulate_years(
        Population(rows=before[:, kept]),
        Population(rows=after[:, kept]),
        years=given.years,
        reference=given.reference,
    )
    low, high = wilson_interval(found.alarms, found.years)
    print(f"false alarms: {found.alarms} in {found.years} years of {A_DAY * DAYS} studies", end=" ")
    print(f"({found.alarms / found.years:.3f} a year, 95 % {low:.3f} to {high:.3f})")
    delays = np.array(found.delays)
    print(f"upgrade seen after {np.median(delays):.0f} studies (median), {delays.max()} (worst);", end=" ")
    print(f"{100 * found.share_within(SOON):.0f} % within {SOON}")


if __name__ == "__main__":
    main()
