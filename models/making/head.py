"""The module that is exported: normalisation, networks, score, smoothing and aggregation in one graph."""

import torch
from torch import Tensor, nn

from models.making.passes import Batch, Shape
from models.making.record import MethodRecord
from models.making.scorers.scoring import Normals, Scored, Smoothing

INPUTS = ("x", "mask", "position")
FLOOR = 0.25  # Share of the mean deviation below which a place's own deviation is not believed.


class Scoring(nn.Module):
    """What is exported: raw pixels, mask and position → scores by the names of ``outputs``."""

    shape: Shape

    def outputs(self) -> tuple[str, ...]:
        """Names of what ``forward`` gives, in its order."""
        raise NotImplementedError


class Head(Scoring):
    """A method from raw pixels to scores.

    Parameters
    ----------
    record : MethodRecord
    networks : nn.ModuleDict
        Trained.
    shape : Shape
        Of a raw picture.
    """

    place_mean: Tensor
    place_deviation: Tensor

    def __init__(self, record: MethodRecord, networks: nn.ModuleDict, shape: Shape) -> None:
        super().__init__()
        self.record = record
        self.shape = shape
        self.scorer = record.score.by.build(networks)
        self.smoothing = Smoothing(record.score.smooth)
        self.top = max(1, round(record.score.image.share * shape.rows * shape.columns))
        self.register_buffer("place_mean", torch.zeros(1, 1, shape.rows, shape.columns))
        self.register_buffer("place_deviation", torch.ones(1, 1, shape.rows, shape.columns))

    @torch.no_grad()
    def fit(self, normals: Normals) -> None:
        """Set every constant that depends on normals: the scorer's own, then those of each place.

        Parameters
        ----------
        normals : callable
            Raw batches of training normals.
        """
        self.eval()
        with torch.enable_grad():
            self.scorer.fit(lambda: (self._normalised_batch(batch) for batch in normals()))
        if self.record.score.place == "none":
            return
        count = torch.zeros_like(self.place_mean)
        first, second = torch.zeros_like(count), torch.zeros_like(count)
        for batch in normals():
            plane, _ = self._map(batch.x, batch.mask, batch.position)
            if plane is None:
                raise TypeError("place needs a scorer with a pixel map")
            count += batch.mask.sum(0, keepdim=True)
            first += plane.sum(0, keepdim=True)
            second += (plane**2).sum(0, keepdim=True)
        mean = first / count.clamp(min=1)
        deviation = (second / count.clamp(min=1) - mean**2).clamp(min=0).sqrt()
        typical = deviation[count > 0].mean().clamp(min=1e-9)
        self.place_mean.copy_(mean)
        self.place_deviation.copy_(torch.where(count > 1, deviation, typical).clamp(min=FLOOR * typical))

    def outputs(self) -> tuple[str, ...]:
        """Names of what ``forward`` gives, in its order."""
        with torch.no_grad():
            x = torch.zeros(1, *self.shape)
            plane, scored = self._map(x, torch.ones(1, 1, *self.shape[1:]), torch.zeros(1))
        has = (True, plane is not None, scored.reconstruction is not None)
        return tuple(
            name
            for name, is_there in zip(("image_score", "pixel_score", "reconstruction"), has, strict=True)
            if is_there
        )

    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> tuple[Tensor, ...]:
        """Raw pixels, mask and position → the ``outputs``.

        Returns
        -------
        image_score : (batch,)
        pixel_score : (batch, 1, rows, columns)
            0 outside the mask.
        reconstruction : (batch, channels, rows, columns)
            In raw pixel units.
        """
        plane, scored = self._map(x, mask, position)
        if plane is not None and self.record.score.place != "none":
            plane = (plane - self.place_mean) / self.place_deviation * mask
            plane = plane.abs() if self.record.score.place == "deviation" else plane
        found = [self._image(plane, scored, mask)]
        if plane is not None:
            found.append(plane)
        if scored.reconstruction is not None:
            given = self.record.input
            found.append(scored.reconstruction * given.scale + given.shift)
        return tuple(found)

    def _map(self, x: Tensor, mask: Tensor, position: Tensor) -> tuple[Tensor | None, Scored]:
        scored: Scored = self.scorer(self.record.input.normalise(x), mask, position)
        if scored.pixel is None:
            return None, scored
        return self.smoothing(scored.pixel * mask) * mask, scored

    def _image(self, plane: Tensor | None, scored: Scored, mask: Tensor) -> Tensor:
        how = self.record.score.image
        if how.type == "own":
            if scored.image is None:
                raise TypeError("score.image: the scorer has no score of its own; aggregate its map")
            return scored.image
        if plane is None:
            raise TypeError("score.image: the scorer has no map to aggregate")
        flat = plane.flatten(1)
        if how.type == "mean":
            return flat.sum(1) / mask.flatten(1).sum(1).clamp(min=1)
        return flat.topk(self.top if how.type == "top" else 1, dim=1).values.mean(1)

    def _normalised_batch(self, batch: Batch) -> Batch:
        return Batch(x=self.record.input.normalise(batch.x), mask=batch.mask, position=batch.position)
