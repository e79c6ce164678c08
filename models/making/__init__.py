"""How an artefact is made: a record trained, chosen, exported and calibrated. The only home of torch."""

from models.making.brain.build import train_artefact
from models.making.record import is_volume_record
from models.making.workshop import train_pictures

__all__ = ["is_volume_record", "train_artefact", "train_pictures"]
