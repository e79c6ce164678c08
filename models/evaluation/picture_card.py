"""The model card of a model of pictures, from what is known without labels."""

import textwrap

from models.artefact import PictureManifest
from models.calibration import Calibration
from models.images.description import ImageData

WIDTH = 100


def card_text(manifest: PictureManifest, calibration: Calibration, data: ImageData) -> str:
    """The whole of ``MODEL_CARD.md``.

    Parameters
    ----------
    manifest : PictureManifest
    calibration : Calibration
    data : ImageData
        Training data.
    """
    trained, given = manifest.training, manifest.input
    counts = ", ".join(f"{count} {role}" for role, count in trained.subjects.items())
    software = ", ".join(f"{name} {number}" for name, number in trained.software.items())
    steps = ", ".join(step.step for step in given.steps) or "none"
    size = "a small group; the percentile is coarse" if calibration.is_small else "a group of usual size"
    place = "and shows where" if "pixel_score" in manifest.outputs else "and shows no place"
    text = f"""# {manifest.title} {manifest.version}

**{manifest.disclaimer}** A high percentile is not a clean bill of health: it bounds false alarms on
normals, and says nothing about findings the model cannot see.

## What it does

Scores pictures of modality {data.modality} for how unusual they are {place}. Method record
`{manifest.method}`. Slices become a study by: {manifest.study}. Preparation: {steps};
{given.size[0]} by {given.size[1]} pixels, assessed: {given.mask}.

## Data

{data.description}. {data.source}. Licence: {trained.data_licence}. Cite: {data.citation or "the source"}.

People: {counts}; nobody is in two parts. {data.remarks}

## Reference group

{calibration.group}; n = {calibration.n}, {size}. The lowest percentile it can give is
{100 / (calibration.n + 1):.1f}. Pixel bands: {calibration.band_rule}.

## Limits

Another source, device, age or preparation is not calibrated: expect higher scores of normals there.
Nothing was chosen or calibrated on pictures with a finding. Results on labelled data are in the
release's models/RESULTS.md.

Record {trained.record_sha256[:16]}, seed {trained.seed}; made with {software}.
Weights: {manifest.licence}."""
    blocks = text.split("\n\n")
    filled = (b if b.startswith("#") else textwrap.fill(" ".join(b.split()), WIDTH) for b in blocks)
    return "\n\n".join(filled) + "\n"
