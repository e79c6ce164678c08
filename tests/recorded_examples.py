"""Writes down what the shipped networks make of their examples: ``python -m tests.recorded_examples``."""

import json
import sys

from models.artefact import load_artefact
from models.catalogue import list_artefacts
from models.predictor import load_predictor
from models.providers import CPU
from service.doctor.model import RECORDED, measure, network_sha256


def recorded() -> str:
    """Return the record of all shipped networks, on the CPU."""
    marks = {}
    for path in list_artefacts():
        artefact = load_artefact(path)
        marks[network_sha256(artefact)] = measure(load_predictor(artefact, providers=(CPU,)))
    return json.dumps(marks, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    RECORDED.write_text(recorded(), encoding="ascii")
    sys.stdout.write(f"written: {RECORDED.name}\n")
