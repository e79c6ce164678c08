"""Study, score, delivery: the states Vigil keeps and the moves it allows. Read this first.

A study is *received* while instances arrive, *complete* when its completeness trigger fired, *queued* with a
job, and ends *scored*, *not_assessable* (with a coded reason) or *failed*. A late instance makes a new
revision, so an ended study may become *complete* again. Nothing else moves (design §2), and PostgreSQL
refuses it too, whoever writes. A person may *park* a study in any state: nobody scores it until it is let go.
"""

from enum import IntEnum, StrEnum


class State(StrEnum):
    """Where a study stands."""

    RECEIVED = "received"  # instances arrive; the quiet period runs
    COMPLETE = "complete"  # a completeness trigger fired; the revision is fixed
    QUEUED = "queued"  # a job waits for, or is with, an inference worker
    SCORED = "scored"  # scores and results are stored
    NOT_ASSESSABLE = "not_assessable"  # no model may judge it; the coded reason says why
    FAILED = "failed"  # retries are used up; a person decides


class Pool(StrEnum):
    """Queues with workers of their own, so that delivery never waits behind inference."""

    INFER = "infer"
    DELIVER = "deliver"
    SHADOW = "shadow"  # studies that a model only watches, behind all else
    MESSAGE = "message"  # what is told besides DICOM; the process of deliveries works on it too


class DeliveryStatus(StrEnum):
    """Where one result stands with one destination."""

    WAITING = "waiting"  # to be sent, or to be sent again
    DELIVERED = "delivered"  # the destination answered success
    STORED = "stored"  # the destination committed to keep it
    UNDELIVERED = "undelivered"  # retries are used up or the destination refused; a person decides
    WITHDRAWN = "withdrawn"  # a newer score took its place before it was there: it is sent no more


class MessageStatus(StrEnum):
    """Where one message stands with its channel."""

    WAITING = "waiting"  # to be sent, or to be sent again
    SENT = "sent"  # the receiver acknowledged it
    DEAD = "dead"  # retries are used up or the receiver refused; a person decides
    STALE = "stale"  # not to be sent: a newer one of its study went out before, or a person waived it


class PackState(StrEnum):
    """Where the pack of a revision stands, at a site that keeps studies in a store of their own."""

    WANTED = "wanted"  # to be made of the received files; no worker takes the study before
    CONFIRMED = "confirmed"  # written, and read back
    LOST = "lost"  # it cannot be made: received files are gone or damaged
    DELETED = "deleted"  # by retention, or for the pack of a newer revision


class RetractionState(StrEnum):
    """Where the word stands that earlier results hold no longer, of a score that has none itself."""

    WANTED = "wanted"  # to be made by an inference worker
    MADE = "made"  # its objects are on their way
    FAILED = "failed"  # nothing is left to make it of; a person must tell the archive


class CalibrationState(StrEnum):
    """What was decided about a calibration document."""

    PROPOSED = "proposed"  # waits for a person
    ACCEPTED = "accepted"  # in force for its model; at most one
    RETIRED = "retired"  # another took its place, or a person took it back
    REFUSED = "refused"


class Origin(StrEnum):
    """How the studies of a calibration document were chosen."""

    FOLDER = "folder"  # a person put them there
    FILE = "file"  # not known here: a document from elsewhere
    COMMISSIONING = "commissioning"  # consecutive studies of a scanner
    ARCHIVE = "archive"  # a person asked an archive for them
    RECEIVED = "received"  # studies that had been scored


class Whereabouts(StrEnum):
    """Where the bytes of a study are; its rows stay in any case."""

    HERE = "here"
    DELETING = "deleting"  # decided, written down and begun; gone on with after a kill
    DELETED = "deleted"


class Priority(IntEnum):
    """Urgency of a job; the engine runs higher first."""

    SCREENING = 0
    ROUTINE = 10
    URGENT = 20
    STAT = 30


class Verdict(StrEnum):
    """What a reader says of a study that Vigil judged.

    The categories of a population study (Zimmerer, dissertation, table 4.5), and the wrong study.
    """

    CONFIRMED_FINDING = "confirmed_finding"  # there is something, and a person looked at it
    FALSE_ALARM = "false_alarm"  # nothing there
    ARTEFACT = "artefact"  # of the imaging, not of the patient
    NOT_RELEVANT = "not_relevant"  # unusual, and of no use to know
    WRONG_STUDY = "wrong_study"  # the model should not have been given it
    EXTRACTION_FAILURE = "extraction_failure"  # the organ was cut out wrongly: preparation, not patient
    OTHER_CONDITION = "other_condition"  # medical, and not what needs anybody to act


class Conspicuity(IntEnum):
    """How easily a finding is seen (Zimmerer, dissertation, section 4.2.2)."""

    C1 = 1  # clearly noticeable: should definitely be found
    C2 = 2  # partially noticeable: could be found
    C3 = 3  # unobtrusive: hard without context or expert knowledge


class CohortState(StrEnum):
    """Where the screening of a cohort stands."""

    GATHERING = "gathering"  # its studies are being found, copied and queued
    GATHERED = "gathered"  # all are here or left out; some have not ended
    ENDED = "ended"  # all have ended, and the report was written


class MemberState(StrEnum):
    """Where one study of a cohort stands before it is a study like any other."""

    WANTED = "wanted"  # it is being copied or fetched; the intake leaves it for a while
    COPIED = "copied"  # the spool holds all of it; the intake may take it at once
    TAKEN = "taken"  # the intake has taken it, or it was known before
    LEFT_OUT = "left_out"  # it could not be had; the reason says why


class ReferralState(StrEnum):
    """Where an incidental finding stands on its way to somebody who takes care of it."""

    REPORTED = "reported"  # somebody wrote down that there is something to look into
    REVIEWED = "reviewed"  # a radiologist looked at it, and it stands
    REFERRED = "referred"  # whoever takes care of the person has been told
    CLOSED = "closed"  # taken care of, or nothing to take care of


# What waited too long passes all but STAT: a backlog of overdue studies must not hold up an emergency.
OVERDUE = Priority.STAT - 1

# Seconds after which a study that no reader has seen leads its band, after STAT; the setting's default.
LONGEST_UNREAD_S = 86_400.0


class Band(IntEnum):
    """Groups of the worklist, top first. What Vigil could not judge stands above what it ranked (I7).

    Their order is the order here; the numbers are codes of the database and say nothing.
    """

    UNJUDGED = 0  # failed or not assessable: a person must look
    UNCALIBRATED = 3  # a raw score, and nothing that says how usual it is at this scanner: no percentile
    RANKED = 1
    PENDING = 2  # not scored yet


class Tier(IntEnum):
    """Parts of a band in the order of triage, top first (`service.store.order`)."""

    STAT_OVERDUE = 0
    STAT = 1
    OVERDUE = 2  # passes all but STAT, as in the queue
    URGENT = 3
    ROUTINE = 4
    SCREENING = 5
    SEEN = 6  # a reader has seen it as it stands


MOVES: dict[State, frozenset[State]] = {
    State.RECEIVED: frozenset({State.COMPLETE}),
    State.COMPLETE: frozenset({State.QUEUED}),
    State.QUEUED: frozenset({State.SCORED, State.NOT_ASSESSABLE, State.FAILED, State.COMPLETE}),
    State.SCORED: frozenset({State.COMPLETE}),
    State.NOT_ASSESSABLE: frozenset({State.COMPLETE}),
    State.FAILED: frozenset({State.COMPLETE, State.QUEUED}),
}

# A score is made with its job, so it is born queued.
SCORE_MOVES: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.SCORED, State.NOT_ASSESSABLE, State.FAILED}),
    State.FAILED: frozenset({State.QUEUED}),
}

DELIVERY_MOVES: dict[DeliveryStatus, frozenset[DeliveryStatus]] = {
    DeliveryStatus.WAITING: frozenset(
        {DeliveryStatus.DELIVERED, DeliveryStatus.UNDELIVERED, DeliveryStatus.WITHDRAWN}
    ),
    DeliveryStatus.DELIVERED: frozenset(
        {DeliveryStatus.STORED, DeliveryStatus.WAITING, DeliveryStatus.UNDELIVERED}
    ),
    DeliveryStatus.STORED: frozenset({DeliveryStatus.WAITING}),  # a person has it sent again
    DeliveryStatus.UNDELIVERED: frozenset({DeliveryStatus.WAITING, DeliveryStatus.WITHDRAWN}),
    DeliveryStatus.WITHDRAWN: frozenset({DeliveryStatus.WAITING}),  # its score counts again
}

MESSAGE_MOVES: dict[MessageStatus, frozenset[MessageStatus]] = {
    MessageStatus.WAITING: frozenset({MessageStatus.SENT, MessageStatus.DEAD, MessageStatus.STALE}),
    MessageStatus.DEAD: frozenset({MessageStatus.WAITING, MessageStatus.STALE}),
    MessageStatus.SENT: frozenset({MessageStatus.WAITING}),  # a person wants it sent again
}

REFERRAL_MOVES: dict[ReferralState, frozenset[ReferralState]] = {
    ReferralState.REPORTED: frozenset({ReferralState.REVIEWED, ReferralState.REFERRED, ReferralState.CLOSED}),
    ReferralState.REVIEWED: frozenset({ReferralState.REFERRED, ReferralState.CLOSED}),
    ReferralState.REFERRED: frozenset({ReferralState.CLOSED}),
    ReferralState.CLOSED: frozenset({ReferralState.REVIEWED}),  # it was closed too early
}

ENDED = frozenset({State.SCORED, State.NOT_ASSESSABLE, State.FAILED})


class IllegalMoveError(ValueError):
    """A study cannot move like that. This is a defect: report it with the log line above."""


def move(current: State, to: State) -> State:
    """Return the new state.

    Raises
    ------
    IllegalMoveError
        If `MOVES` does not allow it.
    """
    if to not in MOVES[current]:
        raise IllegalMoveError(f"a study cannot go from {current} to {to}")
    return to


def band(state: State, *, has_raw_score: bool = False) -> Band:
    """Worklist band of a state; a raw score without a percentile has its own."""
    if state is State.NOT_ASSESSABLE and has_raw_score:
        return Band.UNCALIBRATED
    if state in {State.NOT_ASSESSABLE, State.FAILED}:
        return Band.UNJUDGED
    return Band.RANKED if state is State.SCORED else Band.PENDING


# Codes of a fallback: why a delivery took another way than its destination's profile wants.
SOP_CLASS_REFUSED = "sop_class_refused"
COMMITMENT_NOT_OFFERED = "commitment_not_offered"
COMMITMENT_TIMEOUT = "commitment_timeout"
COMMITMENT_FAILED = "commitment_failed"
CONFIRMATION_NOT_OFFERED = "confirmation_not_offered"
CONFIRMATION_TIMEOUT = "confirmation_timeout"
MISSING_AT_DESTINATION = "missing_at_destination"

# Reason of a study whose job found its bytes deleted.
STUDY_DELETED = "study_deleted"
# Reasons that a person gives.
CANCELLED = "cancelled"
PARKED = "parked"

# Flag of a study whose instances do not agree on who the patient is.
PATIENT_CONFLICT = "patient_conflict"
# Flag of a study of which an instance came with two contents under one UID.
CONTENT_CONFLICT = "content_conflict"

# Deliveries that count as "the destination has it".
ARRIVED = frozenset({DeliveryStatus.DELIVERED, DeliveryStatus.STORED})

# Stands in everything with numbers that leaves Vigil.
DISCLAIMER = "Anomaly ranking, not a diagnosis."
