"""Why there is no score, and why a study stands where it stands on the list: codes, and their words.

Codes are for programs and stay; words are for people and free of identity. Here is the one place of both.
"""

from dataclasses import dataclass

from models.errors import Reason
from service.study import (
    CANCELLED,
    CONTENT_CONFLICT,
    PARKED,
    PATIENT_CONFLICT,
    STUDY_DELETED,
    Band,
    State,
    Tier,
)

FLAGS: dict[str, str] = {
    PATIENT_CONFLICT: "Its images do not agree on who the patient is. Check them before you use any result.",
    CONTENT_CONFLICT: "An image came twice with different content: the first is used, the other is in "
    "quarantine. Check both before you use any result.",
}

REASONS: dict[str, str] = {
    Reason.NO_IMAGES: "It holds no images that can be scored.",
    Reason.UNREADABLE: "Its files cannot be read.",
    Reason.WRONG_MODALITY: "No model here serves this modality.",
    Reason.WRONG_BODY_PART: "The model is not made for this body part.",
    Reason.WRONG_SEQUENCE: "The model is not made for this MR sequence.",
    Reason.LOCALISER: "It holds localiser (scout) images only.",
    Reason.DERIVED: "It holds only derived images, such as reformats or projections.",
    Reason.COLOUR: "The images are in colour where intensities are expected.",
    Reason.BURNED_IN: "Text is burned into the pixels.",
    Reason.LOSSY: "The images were compressed with loss.",
    Reason.MULTIFRAME: "The multi-frame object is not one regular stack.",
    Reason.NO_GEOMETRY: "Position, orientation or spacing is missing.",
    Reason.MIXED_GEOMETRY: "The images of the series do not share one orientation, size and spacing.",
    Reason.DUPLICATE_POSITIONS: "Several images lie at one position.",
    Reason.MISSING_SLICES: "Slices are missing.",
    Reason.TOO_FEW_SLICES: "There are too few slices for a volume.",
    Reason.TOO_LARGE: "The volume is larger than the configured limit.",
    Reason.UNDECODABLE: "The pixels cannot be decoded.",
    Reason.CONSTANT_PIXELS: "The pixels are all the same: there is no image.",
    Reason.WRONG_EXTENT: "The field of view or the size of the organ is outside the model's range.",
    Reason.NOT_SKULL_STRIPPED: "The model expects the brain alone; the skull is present.",
    Reason.WRONG_AGE: "The age is outside the model's range.",
    Reason.MIXED_PATIENTS: "The images of one series name different patients.",
    Reason.OUT_OF_RANGE: "The pixels hold values beyond the bits that the header declares.",
    Reason.CLIPPED: "Too much of the image is at the highest value: what was there is lost.",
    Reason.BLANK_SLICES: "Slices without an image lie between slices with one.",
    Reason.UNLIKE_TRAINING: "The images are not of the kind that the model knows.",
    Reason.UNCALIBRATED: "Not calibrated for this scanner.",
    Reason.DRIFTED: "Not calibrated for this scanner: its images have changed.",
    "attempts_used_up": "Every attempt to score it failed.",
    "instances_missing": "Received files are gone or damaged. Have the study sent again.",
    "pack_missing": "Its pack is gone from the store, and so are the received files. Have it sent again.",
    "pack_damaged": "Its pack is damaged, and cannot be made again. Have the study sent again.",
    "pack_newer": "Its pack was written by a later release. Update the worker, then replay the study.",
    "scratch_full": "It does not fit into the worker's scratch space.",
    "storage_away": "The store of the studies does not answer.",
    STUDY_DELETED: "Its images were deleted before it was scored. Have the study sent again.",
    "device_memory": "Not even one picture of it fits the memory of the device that scores.",
    CANCELLED: "A person cancelled it.",
    PARKED: "A person put it aside. Nobody scores it until it is let go.",
    "no_number": "The model gave no number for it. An operator must verify the model and its device.",
    "server_refused": "The inference server does not run the model. An operator must give it the model.",
    "superseded": "A newer revision or model took its place.",
}

# Codes of a place on the list, besides the states of what could not be judged.
STAT = "stat"
OVERDUE = "overdue"
URGENT = "urgent"
SCREENING = "screening"
SEEN = "seen"
PERCENTILE = "percentile"
RAW_SCORE = "raw_score"
SCORE_MISSING = "score_missing"
UNCALIBRATED = "uncalibrated"
PENDING = "pending"
SORTED = "sorted"

# What a list is sorted by where it is not in the order of triage.
SORTS = {
    "triage": "triage",
    "percentile": "percentile, whatever the priority",
    "received": "time of arrival, first come first",
    "-received": "time of arrival, newest first",
}

HOUR_S, DAY_S = 3600, 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """One reason for a place on the list.

    Attributes
    ----------
    code : str
        Stable, for programs.
    text : str
        A sentence for people, free of identity.
    """

    code: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What decides where a study stands.

    Attributes
    ----------
    band : Band
    tier : Tier or None
        None where the list is not in the order of triage.
    state : State
    reason : str or None
        Code of why there is no score.
    is_parked : bool
    waited_s, longest_s : float
        Seconds since it came, and those after which an unseen study is overdue.
    percentile : float or None
        With its reference group, among the ranked.
    reference_group : str
    reference_n : int
    has_equals : bool
        Another study of its tier has the same percentile.
    seen_by : str or None
        Account of the reader who saw it.
    sorted_by : str
        What the list is sorted by in its place, in words.
    """

    band: Band
    tier: Tier | None
    state: State
    reason: str | None
    is_parked: bool
    waited_s: float
    longest_s: float
    percentile: float | None
    reference_group: str
    reference_n: int
    has_equals: bool
    seen_by: str | None
    sorted_by: str = ""


def explain(standing: Standing) -> tuple[Why, ...]:
    """Why a study stands where it stands; what weighs most first."""
    return (*_of_band(standing), *_of_tier(standing), *_of_numbers(standing))


def _of_band(standing: Standing) -> tuple[Why, ...]:
    if standing.band is Band.PENDING:
        return (Why(code=PENDING, text="Not scored yet: it stands below what was ranked."),)
    if standing.band is Band.RANKED:
        return ()
    if standing.band is Band.UNCALIBRATED:
        text = f"{reason(standing.reason)} It has a raw score and no percentile: highest score first."
        return (Why(code=UNCALIBRATED, text=text),)
    if standing.state is State.SCORED:
        return (Why(code=SCORE_MISSING, text="No score stands behind it. A person must look."),)
    if standing.state in {State.NOT_ASSESSABLE, State.FAILED}:
        said = "Not assessable" if standing.state is State.NOT_ASSESSABLE else "Failed"
        return (Why(code=standing.state.value, text=f"{said}: {reason(standing.reason)}"),)
    return (Why(code=PARKED, text=reason(PARKED)),)


def _of_tier(standing: Standing) -> tuple[Why, ...]:
    tier = standing.tier
    if tier is None:
        return (Why(code=SORTED, text=f"The list is sorted by {standing.sorted_by}."),)
    reasons = []
    if tier in {Tier.STAT, Tier.STAT_OVERDUE}:
        reasons.append(Why(code=STAT, text="Ordered STAT."))
    if tier in {Tier.OVERDUE, Tier.STAT_OVERDUE}:
        waited, longest = span(standing.waited_s), span(standing.longest_s)
        reasons.append(
            Why(code=OVERDUE, text=f"Overdue: no reader has seen it for {waited}; the limit is {longest}.")
        )
    if tier is Tier.URGENT:
        reasons.append(Why(code=URGENT, text="Ordered urgent."))
    if tier is Tier.SCREENING:
        reasons.append(Why(code=SCREENING, text="Screening: it stands below what is routine."))
    if tier is Tier.SEEN:
        text = f"{standing.seen_by or 'A reader'} has seen it: it stands below what nobody has seen."
        reasons.append(Why(code=SEEN, text=text))
    return tuple(reasons)


def _of_numbers(standing: Standing) -> tuple[Why, ...]:
    """Why among its equals: only where the percentile decides."""
    if standing.percentile is None or standing.tier in {Tier.OVERDUE, Tier.STAT_OVERDUE, Tier.SEEN, None}:
        return ()
    against = f"{standing.reference_group} (n = {standing.reference_n})"
    reasons = [Why(code=PERCENTILE, text=f"Percentile {percentile(standing.percentile)} against {against}.")]
    if standing.has_equals:
        reasons.append(Why(code=RAW_SCORE, text="Equal percentiles stand in the order of their raw scores."))
    return tuple(reasons)


def percentile(value: float) -> str:
    """Percentile with the digits it deserves: 42.9, and below one 0.25."""
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def span(seconds: float) -> str:
    """Length of time, coarsely: 45 min, 26 h, 3 d."""
    for unit, length in (("d", DAY_S), ("h", HOUR_S)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds // 60:.0f} min"


def reason(code: str | None) -> str:
    """Return a reason in words; an unknown code is shown as it is rather than hidden."""
    if code is None:
        return "No reason was recorded."
    return REASONS.get(code, f"Reason code: {code}.")
