"""How an artefact is made: a record trained, chosen, exported and calibrated. The only home of torch."""

from models.making.brain.build import train_artefact
from models.making.record import is_volume_record, record_path
from models.making.workshop import export_run, train_pictures

__all__ = ["export_run", "is_volume_record", "record_path", "train_artefact", "train_pictures"]
