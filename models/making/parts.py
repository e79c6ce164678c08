"""The tables of parts: what a record may name. A new part is added to one union here."""

from typing import Annotated

from pydantic import Field

from models.making.networks.adversarial import (
    CodeCriticPlan,
    CriticPlan,
    EncoderPlan,
    GeneratorPlan,
    PairCriticPlan,
)
from models.making.networks.autoencoder import AutoencoderPlan
from models.making.networks.embedder import ClassifierPlan, EmbedderPlan
from models.making.networks.flow import FlowPlan
from models.making.networks.hierarchical import HierarchicalPlan
from models.making.networks.pixelcnn import PixelCnnPlan
from models.making.networks.progressive import ProgressiveCriticPlan, ProgressiveGeneratorPlan
from models.making.networks.pyramid import PyramidPlan
from models.making.networks.quantised import TwoLevelPlan
from models.making.networks.unet import UNetPlan
from models.making.scorers.adversarial import Generated, Recoding, Search, Verdict
from models.making.scorers.bands import BandDensity
from models.making.scorers.density import Density, OneClass
from models.making.scorers.features import (
    ClassActivation,
    FeatureResidual,
    PrincipalComponents,
    ScaleSpace,
    Segmentation,
)
from models.making.scorers.gradient import VariationalGradient
from models.making.scorers.monte_carlo import MonteCarlo
from models.making.scorers.patches import PatchDensity
from models.making.scorers.plain import Asymmetry, Constant, Intensity
from models.making.scorers.quantised import AutoregressiveRestoration, Commitment
from models.making.scorers.residual import Residual
from models.making.scorers.restoration import Restoration
from models.making.scorers.sampling import Sampling
from models.making.trainers.adversarial import AdversarialTrainer
from models.making.trainers.progressive import ProgressiveTrainer
from models.making.trainers.single import SingleTrainer

AnyNetwork = Annotated[
    AutoencoderPlan
    | ClassifierPlan
    | CodeCriticPlan
    | CriticPlan
    | EmbedderPlan
    | EncoderPlan
    | GeneratorPlan
    | PairCriticPlan
    | ProgressiveCriticPlan
    | ProgressiveGeneratorPlan
    | FlowPlan
    | HierarchicalPlan
    | PixelCnnPlan
    | PyramidPlan
    | TwoLevelPlan
    | UNetPlan,
    Field(discriminator="type"),
]
AnyTrainer = Annotated[
    AdversarialTrainer | ProgressiveTrainer | SingleTrainer, Field(discriminator="trainer")
]
AnyScorer = Annotated[
    Asymmetry
    | AutoregressiveRestoration
    | BandDensity
    | ClassActivation
    | Commitment
    | Constant
    | Density
    | FeatureResidual
    | Generated
    | Intensity
    | MonteCarlo
    | OneClass
    | PatchDensity
    | PrincipalComponents
    | Recoding
    | Residual
    | Restoration
    | Sampling
    | ScaleSpace
    | Search
    | Segmentation
    | VariationalGradient
    | Verdict,
    Field(discriminator="type"),
]
