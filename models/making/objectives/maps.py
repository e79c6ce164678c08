"""Terms of networks that answer with a map of what is not normal, as logits."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from models.making.objectives.term import Term
from models.making.passes import Output, Pass, network_of


def logits_of(output: Output) -> Tensor:
    """The map, (batch, 1, rows, columns).

    Raises
    ------
    TypeError
        If the network answers with no image.
    """
    if output.image is None:
        raise TypeError("a map term needs a network that answers with an image")
    return output.image.float()


class MapCrossEntropy(Term):
    """Binary cross entropy of the map against the strength of the change at each pixel (Tan et al. 2020)."""

    type: Literal["map_bce"] = "map_bce"

    def loss(self, p: Pass) -> Tensor:
        """Scalar, mean over pixels."""
        return functional.binary_cross_entropy_with_logits(logits_of(p.output), p.target.float()[:, :1])


class ImageCrossEntropy(Term):
    """Binary cross entropy of an image's logit against whether it was changed anywhere."""

    type: Literal["image_bce"] = "image_bce"

    def loss(self, p: Pass) -> Tensor:
        """Scalar."""
        if p.output.logit is None:
            raise TypeError("image_bce needs a network with a logit")
        changed = (p.target.flatten(1).amax(dim=1) > 0).float()
        return functional.binary_cross_entropy_with_logits(p.output.logit.float(), changed)


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """One minus the soft Dice overlap of the batch; scalar."""
    chance = logits.sigmoid()
    overlap = 2 * (chance * target).sum() + 1
    return 1 - overlap / (chance.sum() + target.sum() + 1)


class Marked(Term):
    """Dice and cross entropy against findings that are marked, such as pseudo-labels readers confirmed."""

    type: Literal["marked"] = "marked"

    def loss(self, p: Pass) -> Tensor:
        """Scalar."""
        if p.batch.lesion is None:
            raise TypeError("marked needs a stage that draws marked images; set its share `marked`")
        target = p.batch.lesion.float() * p.batch.mask
        logits = logits_of(p.output)
        return functional.binary_cross_entropy_with_logits(logits, target) + dice_loss(logits, target)


class SelfTaught(Term):
    """Dice and cross entropy against the thresholded residual of an unsupervised teacher.

    The threshold is the teacher's residual that a given share of pixels of normal images exceeds, so the
    pseudo-labels have a budget of false positives (Baur, dissertation, section 3.5.2).

    Attributes
    ----------
    teacher : str
        A trained network that reconstructs.
    budget : float
        Share of normal pixels labelled as abnormal.
    """

    type: Literal["self_taught"] = "self_taught"
    teacher: str
    budget: Annotated[float, Field(gt=0, lt=1)] = 0.01

    def names(self) -> frozenset[str]:
        """The teacher."""
        return frozenset({self.teacher})

    def loss(self, p: Pass) -> Tensor:
        """Scalar."""
        teacher = network_of(p.networks, self.teacher)
        with torch.no_grad():
            was_training = teacher.training
            teacher.eval()
            normal, given = (self._residual(p, x) for x in (p.batch.x, p.given))
            teacher.train(was_training)
            inside = normal[p.batch.mask > 0]
            rank = min(inside.numel() - 1, int((1 - self.budget) * inside.numel()))
            target = (given > inside.kthvalue(rank + 1).values).float() * p.batch.mask
        logits = logits_of(p.output)
        return functional.binary_cross_entropy_with_logits(logits, target) + dice_loss(logits, target)

    def _residual(self, p: Pass, x: Tensor) -> Tensor:
        found = network_of(p.networks, self.teacher).run(x, p.batch.position, sample=False).image
        if found is None:
            raise TypeError("self_taught needs a teacher that reconstructs")
        return (x - found).abs().mean(dim=1, keepdim=True).float()
