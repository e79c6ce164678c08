"""Pictures chosen for the heatmap sheet: best, median and worst cases beside their maps."""

import base64
import io
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.evaluation.scoring import Scored

BYTE = 255
SHOWN_PERCENTILE = 99.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One picture and its map on the prepared grid.

    Attributes
    ----------
    artefact, split : str
    title : str
        Which case it is; names nobody.
    image, map, lesion : str
        8-bit PNG, base64; ``lesion`` is empty where none is known. Maps share one scale: 0 is the
        median of the chosen cases, 255 their 99.5th percentile, so that a single pixel dims no sheet.
    """

    artefact: str
    split: str
    title: str
    image: str
    map: str
    lesion: str

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)


def cases_of(artefact: str, split: str, scored: Scored) -> list[Case]:
    """Abnormal pictures with the highest, middle and lowest score, and the normal with the highest.

    Nothing where the method has no map.
    """
    if scored.maps is None:
        return []
    order = np.argsort(scored.scores, kind="stable")
    abnormal = [int(i) for i in order if scored.pictures[i].label == 1]
    normal = [int(i) for i in order if scored.pictures[i].label == 0]
    chosen: dict[str, int] = {}
    if abnormal:
        chosen["best: highest abnormal"] = abnormal[-1]
        chosen["median abnormal"] = abnormal[len(abnormal) // 2]
        chosen["worst: lowest abnormal"] = abnormal[0]
    if normal:
        chosen["median normal"] = normal[len(normal) // 2]
        chosen["worst: highest normal"] = normal[-1]
    shown = [scored.maps[i][scored.pictures[i].mask] for i in chosen.values()]
    values = np.concatenate([values for values in shown if values.size] or [np.zeros(1, dtype=np.float32)])
    low, high = float(np.median(values)), float(np.percentile(values, SHOWN_PERCENTILE))
    cases = []
    for title, i in chosen.items():
        picture = scored.pictures[i]
        finding = f", {picture.finding}" if picture.finding else ""
        plane = np.where(picture.mask, scored.maps[i], np.float32(low))
        cases.append(
            Case(
                artefact=artefact,
                split=split,
                title=f"{title}{finding}",
                image=encode_plane(picture.to_native(picture.pixels.mean(axis=0)), 0, 1),
                map=encode_plane(picture.to_native(plane), low, high),
                lesion=""
                if picture.lesion is None
                else encode_plane(picture.lesion.astype(np.float32), 0, 1),
            )
        )
    return cases


def encode_plane(plane: NDArray[np.float32], low: float, high: float) -> str:
    """A plane as base64 of an 8-bit PNG; ``low`` and below is 0, ``high`` and above 255."""
    shares = np.clip((plane - low) / max(high - low, 1e-9), 0, 1)
    file = io.BytesIO()
    Image.fromarray(np.round(shares * BYTE).astype(np.uint8)).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")


def decode_plane(text: str) -> NDArray[np.uint8]:
    """The 8-bit plane of `encode_plane`."""
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        return np.asarray(image, dtype=np.uint8)
