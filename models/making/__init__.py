"""How an artefact is made: a record trained, chosen, exported and calibrated. The only home of torch."""

from models.making.brain.build import train_artefact

__all__ = ["train_artefact"]
