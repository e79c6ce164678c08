"""The tables of parts: what a record may name. A new part is added to one union here."""

from typing import Annotated

from pydantic import Field

from models.making.networks.autoencoder import AutoencoderPlan
from models.making.scorers.gradient import VariationalGradient
from models.making.scorers.residual import Residual
from models.making.trainers.single import SingleTrainer

AnyNetwork = Annotated[AutoencoderPlan, Field()]
AnyTrainer = Annotated[SingleTrainer, Field()]
AnyScorer = Annotated[Residual | VariationalGradient, Field(discriminator="type")]
