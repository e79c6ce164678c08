"""Codes in words for people. One table each; a code without words is a failing test."""

from service.completeness import Trigger
from service.store.order import Sort
from service.study import (
    COMMITMENT_FAILED,
    COMMITMENT_NOT_OFFERED,
    COMMITMENT_TIMEOUT,
    CONFIRMATION_NOT_OFFERED,
    CONFIRMATION_TIMEOUT,
    MISSING_AT_DESTINATION,
    SOP_CLASS_REFUSED,
    Band,
    Conspicuity,
    DeliveryStatus,
    Priority,
    ReferralState,
    State,
    Verdict,
    Whereabouts,
)
from service.why import FLAGS, PERCENTILE, RAW_SCORE, REASONS, reason

__all__ = ["FLAGS", "REASONS", "reason"]

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

STATUSES: dict[DeliveryStatus, str] = {
    DeliveryStatus.WAITING: "waiting",
    DeliveryStatus.DELIVERED: "delivered",
    DeliveryStatus.STORED: "stored",
    DeliveryStatus.UNDELIVERED: "not delivered",
    DeliveryStatus.WITHDRAWN: "withdrawn",
}

MARKS: dict[DeliveryStatus, str] = {
    DeliveryStatus.WAITING: "…",
    DeliveryStatus.DELIVERED: "✓",
    DeliveryStatus.STORED: "✓",
    DeliveryStatus.UNDELIVERED: "✗",
    DeliveryStatus.WITHDRAWN: "↷",
}

WHEREABOUTS: dict[Whereabouts, str] = {
    Whereabouts.HERE: "here",
    Whereabouts.DELETING: "are being deleted",
    Whereabouts.DELETED: "deleted",
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
    "sc_retraction": "Picture that takes earlier results back",
    "sr_retraction": "Report that takes earlier results back",
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
    "study.replayed": "Replayed by a person",
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
    "model.shadowed": "A model watches beside the one in service",
    "model.shadow_ended": "The model that watched watches no more",
    "model.promoted": "The model that watched was put in service",
    "model.rolled_back": "The model before was put in service again",
    "calibration.proposed": "Calibration proposed",
    "calibration.accepted": "Calibration put in force",
    "calibration.refused": "Calibration refused",
    "calibration.retired": "Calibration taken back",
    "study.seen": "Seen by a reader",
    "study.unseen": "Mark of having been seen taken back",
    "study.assigned": "Given to a reader, or to nobody",
    "feedback.given": "Judged by a reader",
    "feedback.corrected": "Judgement corrected",
    "feedback.exported": "What readers said was written to files",
    "identity.revealed": "Identity revealed to a reader",
    "result.delivered": "Result delivered",
    "result.undelivered": "Result not delivered",
    "result.withdrawn": "Result not sent any more: a newer one takes its place",
    "result.retracted": "Earlier results taken back at the archives",
    "result.retraction_failed": "Earlier results could not be taken back: tell the archive",
    "result.taken_up": "Results that had been withdrawn count again",
    "study.viewed": "Shown",
    "list.queried": "List asked for",
    "person.invited": "One-time link made",
    "person.added": "Account made",
    "person.password_changed": "Password changed",
    "person.role_changed": "Role changed",
    "person.ended": "Account ended",
    "person.signed_in": "Signed in",
    "person.sign_in_failed": "Sign-in failed",
    "person.signed_out": "Signed out",
    "token.made": "Token made",
    "token.revoked": "Token revoked",
    "service.started": "Role of the service began",
    "service.stopped": "Role of the service ended",
    "configuration.changed": "Settings are not as they were",
}

STAGES: dict[str, str] = {
    "received": "Receiving",
    "complete": "Waiting for more images",
    "queued": "Making the job",
    "claimed": "Waiting for a worker",
    "fetch": "Fetching the images",
    "read": "Reading and checking them",
    "score": "Scoring",
    "build": "Building the results",
    "keep": "Keeping the results",
    "scored": "Scored, all of the attempt",
    "not_assessable": "Found not assessable, all of the attempt",
    "failed": "Failed, all of the attempt",
    "sent": "Sending",
    "confirmed": "Waiting for confirmation",
}

LOOKS: dict[str, str] = {
    "study.viewed": "opened it",
    "study.seen": "marked it as seen",
    "study.unseen": "took back that it was seen",
    "identity.revealed": "revealed whose it is",
    "feedback.given": "gave feedback",
    "feedback.corrected": "corrected feedback",
}

VERDICTS: dict[str, str] = {  # in the order of their keys, from 1
    Verdict.CONFIRMED_FINDING: "Confirmed finding",
    Verdict.FALSE_ALARM: "False alarm",
    Verdict.ARTEFACT: "Artefact",
    Verdict.NOT_RELEVANT: "Not relevant",
    Verdict.WRONG_STUDY: "Wrong study",
    Verdict.EXTRACTION_FAILURE: "Extraction failure",
    Verdict.OTHER_CONDITION: "Other condition",
}

CONSPICUITIES: dict[Conspicuity, tuple[str, str]] = {  # the key, and the words
    Conspicuity.C1: ("8", "C1: clearly noticeable"),
    Conspicuity.C2: ("9", "C2: partly noticeable"),
    Conspicuity.C3: ("0", "C3: unobtrusive"),
}

REFERRALS: dict[str, str] = {
    ReferralState.REPORTED: "Reported",
    ReferralState.REVIEWED: "Reviewed",
    ReferralState.REFERRED: "Referred",
    ReferralState.CLOSED: "Closed",
}

TRIGGERS: dict[str, str] = {
    Trigger.QUIET_PERIOD: "no new image for a while",
    Trigger.COHORT: "all of it was copied for a cohort",
    Trigger.LONGEST_WAIT: "something announced did not come in time",
    Trigger.PERFORMED_STEP: "the modality said that it was done",
    Trigger.AVAILABILITY: "the archive said that it was all there",
    Trigger.COMMITMENT_REQUEST: "the modality asked to commit to all of it",
    Trigger.ARCHIVE_COUNT: "the archive holds as many images as came",
    "model_changed": "the model or its configuration changed",
}

# On a list, where the percentile and what it stands on are said beside it.
SHORT_WHY: dict[str, str] = {PERCENTILE: "By its percentile.", RAW_SCORE: "Among equals by raw score."}

PRIORITIES: dict[Priority, str] = {
    Priority.STAT: "STAT",
    Priority.URGENT: "urgent",
    Priority.ROUTINE: "routine",
    Priority.SCREENING: "screening",
}

SORTS: dict[Sort, str] = {
    Sort.TRIAGE: "Triage order",
    Sort.PERCENTILE: "Most unusual first",
    Sort.OLDEST: "Oldest first",
    Sort.NEWEST: "Newest first",
}

BANDS: dict[Band, str] = {
    Band.UNJUDGED: "Needs a person: not assessable or failed",
    Band.UNCALIBRATED: "Not calibrated for this scanner: a raw score, no percentile",
    Band.RANKED: "Ranked: read from the top",
    Band.PENDING: "Pending: not scored yet",
}


def trigger(code: str) -> str:
    """Return in words why a study was queued."""
    return TRIGGERS.get(code, code.replace("_", " "))
