"""Identities put into studies before they are sent, which nothing that runs may tell (I9)."""

from collections.abc import Iterable
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

# What a modality or a hospital system may write into a study besides name, id and UIDs.
PLANTED = {
    "AccessionNumber": "PLANTEDACC7731",
    "InstitutionName": "Plantedhospital",
    "InstitutionAddress": "Plantedstreet 12",
    "OperatorsName": "Plantedoperator^Ola",
    "OtherPatientNames": "Plantedalias^Kim",
    "PatientAddress": "Plantedhome 3",
    "PatientBirthName": "Plantedbirth",
    "PatientComments": "Plantedcomment",
    "PatientTelephoneNumbers": "555PLANTED01",
    "PerformingPhysicianName": "Plantedperformer^Pia",
    "ReferringPhysicianName": "Plantedreferrer^Rex",
    "RequestingPhysician": "Plantedrequester^Ron",
}
NAMED = ("PatientName", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


def plant_identities(paths: Iterable[Path]) -> None:
    """Write every planted value into files, in place."""
    for path in paths:
        dataset = pydicom.dcmread(path)
        for keyword, value in PLANTED.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path, enforce_file_format=True)


def identities_of(path: Path) -> set[str]:
    """Values in a file that say who somebody is, and the family names that were planted."""
    header: Dataset = pydicom.dcmread(path, stop_before_pixels=True)
    found: set[str] = set()
    for keyword in (*NAMED, *PLANTED):
        value = header.get(keyword)
        found.add(str(value))
        if isinstance(value, PersonName) and keyword in PLANTED:
            found.add(value.family_name)
    return found
