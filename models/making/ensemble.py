"""Several methods as one: each member's scores are ranked against held-apart normals, then averaged.

Members of different families err in different places; ranks make their scores comparable without assuming
a distribution. The whole is one graph.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.making.head import Scoring
from models.making.record import EnsembleRecord, Member
from models.making.scorers.scoring import Normals, Smoothing

KNOTS = 33  # Of a table of quantiles.
TAIL = 1.0  # Ranks a score gains for each spread (last minus middle knot) beyond the last knot.


class Ensemble(Scoring):
    """Members' heads joined.

    Parameters
    ----------
    record : EnsembleRecord
    heads : sequence of (Member, Scoring)
        In the order of the record, each seed for itself.
    """

    knots: Tensor
    spread: Tensor

    def __init__(self, record: EnsembleRecord, heads: Sequence[tuple[Member, Scoring]]) -> None:
        super().__init__()
        self.record = record
        self.shape = heads[0][1].shape
        self.members = [member for member, _ in heads]
        self.heads = nn.ModuleList(head for _, head in heads)
        self.smoothing = Smoothing(record.smooth)
        self.top = max(1, round(record.share * self.shape.rows * self.shape.columns))
        self.register_buffer("knots", torch.linspace(0, 1, KNOTS).repeat(len(heads), 1))
        self.register_buffer("spread", torch.ones(len(heads)))

    @torch.no_grad()
    def fit(self, normals: Normals) -> None:
        """Set quantiles of image scores and spreads of maps on normals no member was trained on."""
        self.eval()
        for i, head in enumerate(self._scorings()):
            images, squares, counts = [], 0.0, 0.0
            for batch in normals():
                found = dict(zip(head.outputs(), head(batch.x, batch.mask, batch.position), strict=True))
                images.append(found["image_score"])
                if "pixel_score" in found:
                    squares += float((found["pixel_score"] ** 2 * batch.mask).sum())
                    counts += float(batch.mask.sum())
            share = torch.linspace(0, 1, KNOTS)
            self.knots[i] = torch.quantile(torch.cat(images).float(), share)
            self.spread[i] = max((squares / max(counts, 1.0)) ** 0.5, 1e-12)

    def outputs(self) -> tuple[str, ...]:
        """``image_score``, and ``pixel_score`` where a member that is heard on its map has one."""
        has_map = any(
            member.on != "image" and "pixel_score" in head.outputs()
            for member, head in zip(self.members, self._scorings(), strict=True)
        )
        return ("image_score", "pixel_score") if has_map else ("image_score",)

    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> tuple[Tensor, ...]:
        """Raw pixels, mask and position → the ``outputs``; a map is 0 outside the mask."""
        ranks, maps = [], []
        for i, (member, head) in enumerate(zip(self.members, self._scorings(), strict=True)):
            found = dict(zip(head.outputs(), head(x, mask, position), strict=True))
            if member.on != "map":
                ranks.append((member.weight, self._rank(found["image_score"], self.knots[i])))
            if member.on != "image" and "pixel_score" in found:
                maps.append((member.weight, found["pixel_score"] / self.spread[i]))
        plane = self._joint(maps, mask) if maps else None
        if self.record.image == "top":
            if plane is None:
                raise TypeError("image: top needs a member with a map")
            image = plane.flatten(1).topk(self.top, dim=1).values.mean(1)
        else:
            image = torch.stack([weight * rank for weight, rank in ranks]).sum(0)
            image = image / sum(weight for weight, _ in ranks)
        return (image,) if plane is None else (image, plane)

    def _joint(self, maps: list[tuple[float, Tensor]], mask: Tensor) -> Tensor:
        total = sum(weight for weight, _ in maps)
        if self.record.pixel == "mean":
            plane = torch.stack([weight * plane for weight, plane in maps]).sum(0) / total
        else:
            logs = [weight * plane.clamp(min=1e-6).log() for weight, plane in maps]
            plane = (torch.stack(logs).sum(0) / total).exp()
        smoothed: Tensor = self.smoothing(plane * mask)
        return smoothed * mask

    def _rank(self, score: Tensor, knots: Tensor) -> Tensor:
        """Share of normals below, linear between the knots; beyond the last, in spreads of the upper half."""
        step = (knots[1:] - knots[:-1]).clamp(min=1e-12)
        inside = ((score[:, None] - knots[None, :-1]) / step).clamp(0, 1).mean(dim=1)
        upper = (knots[-1] - knots[KNOTS // 2]).clamp(min=1e-12)
        return inside + TAIL * ((score - knots[-1]) / upper).clamp(min=0)

    def _scorings(self) -> list[Scoring]:
        return [head for head in self.heads if isinstance(head, Scoring)]
