"""What a picture model sees: the size, the channels and every preparation step, in order.

The contract stands in the method record, in the artefact's manifest and beside every result, so a picture
is prepared in the same way in training, in evaluation and in the service.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Percentile = Annotated[float, Field(ge=0, le=100)]


class StepParameters(BaseModel):
    """Parameters of one preparation step; the step itself is in models/images/steps.py."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Resize(StepParameters):
    """Bring the picture to the contract's size. Done last where a contract does not place it."""

    step: Literal["resize"] = "resize"


class TakeChannels(StepParameters):
    """Keep some of the source's channels, in this order (0 red, 1 green, 2 blue)."""

    step: Literal["take_channels"] = "take_channels"
    channels: tuple[Annotated[int, Field(ge=0, le=3)], ...] = (0, 1)


class CropPadding(StepParameters):
    """Cut off black bars added to make a file square.

    Attributes
    ----------
    level : float
        Rows and columns whose brightest pixel is at or below this are bars, where the size before padding
        is not known.
    """

    step: Literal["crop_padding"] = "crop_padding"
    level: Share = 0.02


class CropContent(StepParameters):
    """Cut to the bounding box of the mask, one box for a whole stack.

    Attributes
    ----------
    margin : float
        Kept around the box, as a share of its longer side.
    """

    step: Literal["crop_content"] = "crop_content"
    margin: Share = 0.05


class AlignMidline(StepParameters):
    """Turn a head upright about its midline and cut to its box.

    Attributes
    ----------
    largest_angle : float
        Degrees; a head that seems to be turned further is left as it is.
    margin : float
        Kept around the box, as a share of its longer side.
    """

    step: Literal["align_midline"] = "align_midline"
    largest_angle: Annotated[float, Field(ge=0, le=45)] = 30.0
    margin: Share = 0.02


class CropDisc(StepParameters):
    """Cut to the lit disc of a fundus photograph and leave everything outside the disc unassessed.

    Attributes
    ----------
    level : float
        Brightness above which a pixel belongs to the disc.
    rim : float
        Outer part of the radius that is not assessed, where the lens throws reflections.
    """

    step: Literal["crop_disc"] = "crop_disc"
    level: Share = 0.06
    rim: Share = 0.05


class MirrorLeftEyes(StepParameters):
    """Mirror pictures of left eyes, so that the optic disc is on the same side in all."""

    step: Literal["mirror_left_eyes"] = "mirror_left_eyes"


class ErodeMask(StepParameters):
    """Take a rim off the mask, where edges are never reconstructed well.

    Attributes
    ----------
    pixels : int
        Width of the rim at the size the picture has when the step runs.
    """

    step: Literal["erode_mask"] = "erode_mask"
    pixels: Annotated[int, Field(ge=1, le=64)] = 1


class InsideSkull(StepParameters):
    """Leave the skull of a head CT and what is outside it unassessed.

    Attributes
    ----------
    rim : float
        Further taken off along the bone, as a share of the inside's diameter.
    """

    step: Literal["inside_skull"] = "inside_skull"
    rim: Share = 0.02


class PercentileScale(StepParameters):
    """Map two percentiles of the mask, taken over the whole stack, to 0 and 1; clip outside."""

    step: Literal["percentile_scale"] = "percentile_scale"
    low: Percentile = 1.0
    high: Percentile = 99.0

    @model_validator(mode="after")
    def _low_is_below_high(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        return self


class WindowNormalise(StepParameters):
    """Undo an unknown display window: the soft tissue's middle and spread go to fixed values.

    Attributes
    ----------
    centre : float
        Where the median of the soft tissue goes.
    spread : float
        What its robust standard deviation (1.4826 median absolute deviations) becomes.
    low, high : float
        Source brightness between which a pixel counts as soft tissue: not air, not saturated bone.
    """

    step: Literal["window_normalise"] = "window_normalise"
    centre: Share = 0.4
    spread: Annotated[float, Field(gt=0, le=1)] = 0.1
    low: Share = 0.1
    high: Share = 0.85

    @model_validator(mode="after")
    def _low_is_below_high(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        return self


class Equalise(StepParameters):
    """Replace every intensity by its rank inside the mask, over the whole stack (histogram equalisation).

    Attributes
    ----------
    bins : int
        Ranks told apart.
    """

    step: Literal["equalise"] = "equalise"
    bins: Annotated[int, Field(ge=2, le=65536)] = 1024


class AppendEqualised(StepParameters):
    """Add a channel in which every intensity is its rank inside the mask, over the whole stack.

    For an ensemble one of whose members is the intensity itself.

    Attributes
    ----------
    bins : int
        Ranks told apart.
    """

    step: Literal["append_equalised"] = "append_equalised"
    bins: Annotated[int, Field(ge=2, le=65536)] = 1024


class ZscoreClip(StepParameters):
    """Standardise inside the mask over the whole stack, clip, and map the clipped range to [0, 1].

    Attributes
    ----------
    limit : float
        Standard deviations at which is clipped on either side.
    """

    step: Literal["zscore_clip"] = "zscore_clip"
    limit: Annotated[float, Field(gt=0, le=10)] = 1.5


class SubtractLocalMean(StepParameters):
    """Take the mean of the surroundings off, which removes uneven light; grey becomes 0.5.

    Attributes
    ----------
    sigma : float
        Standard deviation of the Gaussian surroundings, as a share of the picture's longer side.
    gain : float
        Contrast is multiplied by this.
    """

    step: Literal["subtract_local_mean"] = "subtract_local_mean"
    sigma: Annotated[float, Field(gt=0, le=1)] = 0.05
    gain: Annotated[float, Field(gt=0, le=100)] = 4.0


Step = Annotated[
    Resize
    | TakeChannels
    | CropPadding
    | CropContent
    | AlignMidline
    | CropDisc
    | MirrorLeftEyes
    | ErodeMask
    | InsideSkull
    | PercentileScale
    | WindowNormalise
    | Equalise
    | AppendEqualised
    | ZscoreClip
    | SubtractLocalMean,
    Field(discriminator="step"),
]


class ImageContract(BaseModel):
    """What a picture model is fed. Pixels are float32, about [0, 1], and 0 outside the mask.

    Attributes
    ----------
    size : tuple of int
        Rows and columns the network sees.
    channels : int
        Image channels: 1 grey, 2 to 3 colour.
    context : tuple of int
        Slices of a stack fed as further channels, as offsets in slice order, with 0 for the slice itself;
        (0,) for single images.
    steps : tuple of Step
        Preparation, in order.
    fit : str
        How a picture of another shape comes to ``size``: ``pad`` keeps its proportions and pads, unassessed,
        ``stretch`` does not.
    mask : str
        What is assessed: ``all`` pixels, the ``content`` (everything that is not empty background), the
        ``tissue`` (the largest bright body, holes filled) or the ``brain`` (of axial T1 or FLAIR stacks).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: tuple[Annotated[int, Field(ge=8, le=1024)], Annotated[int, Field(ge=8, le=1024)]]
    channels: Annotated[int, Field(ge=1, le=4)] = 1
    context: Annotated[tuple[Annotated[int, Field(ge=-8, le=8)], ...], Field(min_length=1, max_length=9)] = (
        0,
    )
    steps: tuple[Step, ...] = ()
    fit: Literal["pad", "stretch"] = "pad"
    mask: Literal["all", "content", "tissue", "brain"] = "all"

    @model_validator(mode="after")
    def _context_holds_the_slice_itself(self) -> Self:
        if 0 not in self.context or list(self.context) != sorted(set(self.context)):
            raise ValueError("context must be ascending, without repeats, and hold 0 for the slice itself")
        return self

    @model_validator(mode="after")
    def _resizes_once(self) -> Self:
        if sum(step.step == "resize" for step in self.steps) > 1:
            raise ValueError("steps may hold resize once")
        return self

    @property
    def network_channels(self) -> int:
        """Channels of the network's input: image channels times slices of context."""
        return self.channels * len(self.context)
