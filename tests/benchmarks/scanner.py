"""Studies of an invented scanner, written from real T1 normals: for a rehearsal of commissioning and drift.

``python -m tests.benchmarks.scanner --data FOLDER --out DIR --scanner "SIEMENS Skyra" --studies 40``

The people are those of the set on whom the shipped model was not trained, taken in turn. Nobody comes twice
as he was: each study has noise and a slope of its own, and an invented patient. They are still few people,
so what is calibrated on them is a rehearsal and no reference. ``--upgrade 1`` is the scanner after a change.
"""

import argparse
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np

from dicom_node.writer import Patient, Protocol, Study, as_acquired, write_series
from models.evaluation.dataset import read_data_record, read_nifti
from models.evaluation.upgrade import upgraded
from models.volume import Volume

ROLES = ("selection", "calibration", "test")
STORED_PER_UNIT = 8  # the set holds 8 bits; a scanner stores 12
NOISE = 0.02  # of the brightest tissue
SLOPE = 0.05  # from one side of the head to the other
FIRST_AT = datetime(2026, 2, 2, 8, 0, tzinfo=UTC)
PAUSE = timedelta(minutes=30)


def main() -> None:
    """Write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="The folder brain-mri-t1.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scanner", default="SIEMENS Skyra", help="Manufacturer and model.")
    parser.add_argument("--studies", type=int, default=40)
    parser.add_argument("--upgrade", type=float, default=0.0, help="Strength of a change of the scanner.")
    given = parser.parse_args()
    described = read_data_record(given.data)
    files = [given.data / entry.file for role in ROLES for entry in described.of_role(role)]
    manufacturer, _, model_name = given.scanner.partition(" ")
    protocol = Protocol(description="T1 3D", manufacturer=manufacturer, model_name=model_name)
    for number in range(given.studies):
        volume = varied(read_nifti(files[number % len(files)]), seed=number)
        if given.upgrade:
            volume = upgraded(volume, given.upgrade)
        name = f"{given.scanner} {given.upgrade:g} {number}"
        started_at = FIRST_AT + number * PAUSE
        write_series(
            as_acquired(replace(volume, voxels=np.rint(volume.voxels * STORED_PER_UNIT)), "axial"),
            given.out / f"{number:04d}",
            patient=Patient(
                name=f"Rehearsal^{number}", patient_id=name, birth_date=date(1980 - number % 10, 5, 1)
            ),
            study=Study(name=name, started_at=started_at, description="Brain MRI, rehearsal"),
            protocol=protocol,
        )
    print(f"{given.studies} studies of {given.scanner} in {given.out}")


def varied(volume: Volume, *, seed: int) -> Volume:
    """The same head on another day: noise of its own, and a little brighter on one side; air stays air."""
    rng = np.random.default_rng(seed)
    tissue = volume.voxels > 0
    slope = np.linspace(1 - SLOPE / 2, 1 + SLOPE / 2, volume.voxels.shape[2]) ** rng.choice((-1, 1))
    noise = rng.normal(scale=NOISE * float(volume.voxels.max()), size=volume.voxels.shape)
    voxels = np.clip(volume.voxels * slope + noise, 1, None) * tissue
    return replace(volume, voxels=voxels.astype(np.float32))


if __name__ == "__main__":
    main()
