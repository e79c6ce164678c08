"""Studies of one scanner, as it was or after an upgrade, to be sent to a running Vigil.

``python -m tests.benchmarks.scanner --data FOLDER/brain-mri-t1 --out DIR [--studies 60] [--upgraded]``

Each study is one of the people held apart in the open T1 set, a little changed (contrast, noise), as another
person with an invented name: enough to see how a scanner is calibrated, watched and commissioned again, and
no statement about people.
"""

import argparse
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from dicom_node.writer import Patient, Protocol, Study, as_acquired, write_series
from models.evaluation.dataset import read_data_record, read_nifti
from models.evaluation.upgrade import upgraded
from models.volume import Volume

FIRST_AT = datetime(2026, 3, 2, 8, tzinfo=UTC)
PAUSE = timedelta(minutes=20)
CONTRAST = 0.03  # Standard deviation of the exponent of the intensities.
NOISE = 0.01  # Of the highest intensity.
TOP = 4000.0  # Of what a scanner stores.


def varied(volume: Volume, rng: np.random.Generator) -> Volume:
    """Another person, nearly: what lies outside of the stripped brain stays empty."""
    top = float(volume.voxels.max())
    shares = np.power(volume.voxels / top, 1 + CONTRAST * rng.normal())
    noisy = shares + NOISE * rng.normal(size=shares.shape)
    voxels = np.where(volume.voxels > 0, np.clip(noisy, 1 / TOP, 1), 0).astype(np.float32)
    return replace(volume, voxels=voxels)


def main() -> None:
    """Write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="The folder brain-mri-t1.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--studies", type=int, default=60)
    parser.add_argument("--first", type=int, default=1, help="Number of the first study.")
    parser.add_argument("--upgraded", action="store_true", help="As the scanner makes them afterwards.")
    parser.add_argument("--strength", type=float, default=1.0, help="Of the upgrade.")
    given = parser.parse_args()
    described = read_data_record(given.data)
    people = [*described.of_role("calibration"), *described.of_role("test")]
    for number in range(given.first, given.first + given.studies):
        volume = varied(
            read_nifti(given.data / people[number % len(people)].file), np.random.default_rng(number)
        )
        if given.upgraded:
            volume = upgraded(volume, given.strength)
        stored = np.clip(volume.voxels * TOP, 0, 2 * TOP).round().astype(np.float32)
        started_at = FIRST_AT + number * PAUSE
        write_series(
            as_acquired(replace(volume, voxels=stored), "axial"),
            given.out / f"study-{number:05d}",
            patient=Patient(name=f"Walk^Number{number}", patient_id=f"WALK-{number:05d}"),
            study=Study(
                name=f"walk {number} {given.upgraded}", started_at=started_at, description="Brain MRI"
            ),
            protocol=Protocol(
                description="T1 3D",
                image_type=("DERIVED", "PRIMARY", "OTHER"),
                derivation="Open data, skull-stripped by the publisher, varied",
                manufacturer="Open data",
                model_name="Walkthrough",
            ),
        )
    print(f"{given.studies} studies in {given.out}")


if __name__ == "__main__":
    main()
