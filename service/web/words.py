"""Codes in words for people. One table each; a code without words is a failing test."""

from models.errors import Reason
from service.completeness import Trigger
from service.study import (
    CANCELLED,
    COMMITMENT_FAILED,
    COMMITMENT_NOT_OFFERED,
    COMMITMENT_TIMEOUT,
    CONFIRMATION_NOT_OFFERED,
    CONFIRMATION_TIMEOUT,
    MISSING_AT_DESTINATION,
    PARKED,
    PATIENT_CONFLICT,
    SOP_CLASS_REFUSED,
    STUDY_DELETED,
    Band,
    DeliveryStatus,
    State,
    Whereabouts,
)

STATES: dict[State, str] = {
    State.RECEIVED: "receiving",
    State.COMPLETE: "complete",
    State.QUEUED: "queued",
    State.SCORED: "scored",
    State.NOT_ASSESSABLE: "not assessable",
    State.FAILED: "failed",
}

STATE_MEANINGS: dict[State, str] = {
    State.RECEIVED: "Images are still arriving.",
    State.COMPLETE: "All images are here; a job is being made.",
    State.QUEUED: "Waiting for an inference worker, or with one.",
    State.SCORED: "Scored.",
    State.NOT_ASSESSABLE: "The model may not judge this study. A person must look.",
    State.FAILED: "Scoring failed. A person must look, and an operator must find out why.",
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
    "server_refused": "The inference server does not run the model. An operator must give it the model.",
    "superseded": "A newer revision or model took its place.",
}

STATUSES: dict[DeliveryStatus, str] = {
    DeliveryStatus.WAITING: "waiting",
    DeliveryStatus.DELIVERED: "delivered",
    DeliveryStatus.STORED: "stored",
    DeliveryStatus.UNDELIVERED: "not delivered",
}

MARKS: dict[DeliveryStatus, str] = {
    DeliveryStatus.WAITING: "…",
    DeliveryStatus.DELIVERED: "✓",
    DeliveryStatus.STORED: "✓",
    DeliveryStatus.UNDELIVERED: "✗",
}

WHEREABOUTS: dict[Whereabouts, str] = {
    Whereabouts.HERE: "here",
    Whereabouts.DELETING: "are being deleted",
    Whereabouts.DELETED: "deleted",
}

FLAGS: dict[str, str] = {
    PATIENT_CONFLICT: "Its images do not agree on who the patient is. Check them before you use any result.",
}

FALLBACKS: dict[str, str] = {
    SOP_CLASS_REFUSED: "the destination does not take this kind of object",
    COMMITMENT_NOT_OFFERED: "no storage commitment is offered there",
    COMMITMENT_TIMEOUT: "the commitment report did not come in time",
    COMMITMENT_FAILED: "the destination did not commit to it",
    CONFIRMATION_NOT_OFFERED: "the destination cannot be asked what it holds",
    CONFIRMATION_TIMEOUT: "the destination did not answer the question",
    MISSING_AT_DESTINATION: "the destination did not hold it and was sent it again",
}

KINDS: dict[str, str] = {
    "seg": "Segmentation of the anomaly bands",
    "sc": "Heatmap pictures",
    "sr": "Structured report",
    "seg_fractional": "Graded segmentation",
    "seg_labelmap": "Label map",
    "pm": "Parametric map",
    "ko": "Key images",
    "pr": "Outlines over the image",
}

ACTIONS: dict[str, str] = {
    "study.received": "First image received",
    "study.completed": "Complete, to be packed for the workers",
    "study.queued": "Complete, queued for scoring",
    "study.replayed": "Queued again by a person",
    "study.scored": "Scored",
    "study.not_assessable": "Found not assessable",
    "study.failed": "Scoring failed",
    "study.left_node": "Received files left the node; the store has the pack",
    "study.held": "Held by a person: nothing may be deleted",
    "study.released": "Hold released by a person",
    "study.waived": "A person allowed it to go without every result confirmed",
    "study.deleting": "Past its age, to be deleted",
    "study.deleted": "Images, pack and result objects deleted",
    "pack.confirmed": "Pack written and read back",
    "pack.refused": "Pack missing or damaged, to be made again",
    "dicomweb.searched": "Searched over DICOMweb",
    "dicomweb.retrieved": "Fetched over DICOMweb",
    "workitem.retrieved": "Work item read",
    "workitem.changed": "Work item changed its state",
    "workitem.progressed": "Work item progressed",
    "workitem.cancel_requested": "Somebody asked to cancel the work item",
    "workitem.subscribed": "Somebody watches the work item",
    "workitem.unsubscribed": "Somebody watches the work item no more",
    "model.activated": "Another model was put in service",
    "result.delivered": "Result delivered",
    "result.undelivered": "Result not delivered",
}

TRIGGERS: dict[str, str] = {
    Trigger.QUIET_PERIOD: "no new image for a while",
    Trigger.LONGEST_WAIT: "something announced did not come in time",
    Trigger.PERFORMED_STEP: "the modality said that it was done",
    Trigger.AVAILABILITY: "the archive said that it was all there",
    Trigger.COMMITMENT_REQUEST: "the modality asked to commit to all of it",
    Trigger.ARCHIVE_COUNT: "the archive holds as many images as came",
    "model_changed": "the model or its configuration changed",
}

BANDS: dict[Band, str] = {
    Band.UNJUDGED: "Needs a person: not assessable or failed",
    Band.RANKED: "Ranked, most unusual first",
    Band.PENDING: "Pending: not scored yet",
}


def reason(code: str | None) -> str:
    """Return a reason in words; an unknown code is shown as it is rather than hidden."""
    if code is None:
        return "No reason was recorded."
    return REASONS.get(code, f"Reason code: {code}.")


def trigger(code: str) -> str:
    """Return in words why a study was queued."""
    return TRIGGERS.get(code, code.replace("_", " "))
