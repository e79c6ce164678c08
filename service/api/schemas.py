"""Bodies of the answers. They mirror the values of `service.store`; numbers come with their basis (I10)."""

from datetime import date, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.study import Band, DeliveryStatus, Priority, ReferralState, State, Whereabouts


def _name(code: Band | Priority) -> str:
    return code.name.lower()


class Body(BaseModel):
    """A body of a request or an answer: read from our own values, nothing unknown taken."""

    model_config = ConfigDict(from_attributes=True, frozen=True, extra="forbid")


class Model(Body):
    """The model a study was given to."""

    name: str = Field(description="Empty until a worker has said so.")
    version: str
    sha256: str


class Assessment(Body):
    """How unusual a study is, with all that is needed to read the number."""

    percentile: float = Field(
        gt=0,
        le=100,
        description="Normality percentile, 100 p, against the reference group. Low is unusual.",
    )
    p_value: float = Field(gt=0, le=1)
    study_score: float = Field(description="Raw score, higher is more abnormal; orders equal percentiles.")
    model: Model
    calibration_sha256: str
    reference_group: str
    reference_n: int = Field(description="Studies in the reference group.")
    run_at: datetime


class ResultStatus(Body):
    """One result and one destination."""

    kind: str
    destination: str | None
    status: DeliveryStatus | None


class Why(Body):
    """One reason for a place on the list."""

    code: str
    text: str


class Identity(Body):
    """What the caller may see of who a study is about; what is masked is null."""

    label: str = Field(description="For a list: the name, the initials, or empty.")
    age_years: int | None
    sex: str | None
    patient_id: str | None
    accession_number: str | None
    birth_date: date | None


class OpenReferral(Body):
    """The open referral of a study that is due first."""

    number: int
    state: ReferralState
    due: date


class StudyRow(Body):
    """One study on the list."""

    rank: int | None = Field(description="From 1, most unusual first; null unless scored.")
    band: Annotated[str, BeforeValidator(_name)] = Field(
        description="unjudged (a person must look), uncalibrated (a raw score alone), ranked or pending."
    )
    key: str
    state: State
    reason: str | None = Field(description="Code of why there is no score.")
    detail: str
    assessment: Assessment | None = Field(description="Null unless scored.")
    raw_score: float | None = Field(
        description="In the uncalibrated band alone: higher is more abnormal; nothing says how usual it is."
    )
    model: Model | None
    modality: str
    description: str
    scored_series: str = Field(description="Description of the series that was scored.")
    sender: str
    received_at: datetime
    waiting_since: datetime | None
    ended_at: datetime | None
    is_receiving: bool = Field(description="Instances have come that no revision holds yet.")
    flag: str | None = Field(description="Code of what a person must look at, whatever the state.")
    is_parked: bool = Field(description="A person put it aside; nobody scores it.")
    revision: int | None = Field(description="Whose score it is; name it when you say what you saw.")
    score: str = Field(
        description="Names what the row says, and nothing else; give it back when you say what you saw."
    )
    bytes_are: Whereabouts = Field(description="Images and result objects; the row stays without them.")
    results: list[ResultStatus]
    priority: Annotated[str, BeforeValidator(_name)] = Field(
        description="stat, urgent, routine or screening. One that was given is never lowered."
    )
    why: list[Why] = Field(description="Why it stands where it stands.")
    is_overdue: bool = Field(description="It waits longer than the limit and no reader has seen it.")
    identity: Identity
    seen_at: datetime | None = Field(description="When a reader saw it as it stands.")
    seen_by: str | None
    assigned_to: str | None = Field(description="Account that has claimed it.")
    feedback: str | None = Field(description="Newest verdict of a reader.")
    referral: OpenReferral | None = Field(None, description="The open referral that is due first.")


class Worklist(Body):
    """A page of the list, in the order a person should look: unjudged, uncalibrated, ranked, pending."""

    disclaimer: str
    at: datetime = Field(description="Time by which who is overdue was decided, for all pages of one cursor.")
    event: int = Field(description="Newest change notice before this page; give it to /api/v1/events.")
    total: int = Field(description="Studies that the filters let through, when the first page was read.")
    is_total_exact: bool = Field(description="False: there are more than the total.")
    limit: int
    next: str | None = Field(description="Cursor of the page after this one.")
    previous: str | None = Field(description="Cursor of the page before this one.")
    counts: dict[State, int] = Field(description="All studies by state, whatever the filters.")
    rows: list[StudyRow]


class Harm(Body):
    """Whether the order of the list delayed a study past its first-come turn plus the age limit."""

    at: datetime
    since: datetime = Field(description="Studies that came since then are compared.")
    longest_unread_s: float = Field(description="The age limit, in seconds.")
    studies: int
    seen: int = Field(description="Those that a reader has seen.")
    overdue: int = Field(description="Seen by nobody, and waiting longer than the limit.")
    delayed: int = Field(description="Waited longer than the limit while a later one was seen first.")
    behind_orders: int = Field(description="The same, where every later one was ordered as more urgent.")
    longest_delayed_s: float


class Region(Body):
    """One connected part of the map above the lowest band."""

    volume_mm3: float
    peak: float = Field(description="Of the map, 0 to 1.")
    mean: float = Field(description="Of the map, 0 to 1.")
    centre_mm: tuple[float, float, float] = Field(description="Patient coordinates, LPS.")
    slice_index: int


class Series(Body):
    """One series: scored, or why not."""

    key: str
    modality: str
    description: str
    instances: int
    is_scored: bool
    reason: str | None
    detail: str


class Delivery(Body):
    """One result on its way to one destination."""

    destination: str
    status: DeliveryStatus
    attempts: int
    next_attempt_at: datetime
    answer: int | None = Field(description="DIMSE or HTTP status of the last attempt.")
    error: str
    ended_at: datetime | None
    confirmed_by: str | None = Field(description="What made it stored: commitment or query.")
    fallback: str | None = Field(description="Code of why another way than the wanted one was taken.")


class Result(Body):
    """One DICOM object Vigil made."""

    kind: str
    sha256: str
    bytes: int
    deliveries: list[Delivery]


class Score(Body):
    """One model on one revision."""

    state: State
    reason: str | None
    detail: str
    attempts: int
    run_at: datetime
    ended_at: datetime | None
    model: Model
    assessment: Assessment | None
    heads: dict[str, float] = Field(description="Raw score of each member, higher is more abnormal.")
    regions: list[Region]
    series: list[Series]
    pictures: int = Field(description="Frames at /api/v1/studies/{key}/pictures/{index}.png.")
    results: list[Result]


class Revision(Body):
    """A study with a given set of instances; scores newest first."""

    number: int
    completed_by: str
    created_at: datetime
    scores: list[Score]


class Event(Body):
    """One row of the audit trail."""

    number: int
    at: datetime
    actor: str
    action: str
    detail: dict[str, Any]


class Stage(Body):
    """One stage of the way, when it ended and what it cost."""

    name: str
    of: str
    at: datetime
    seconds: float = Field(ge=0)


class Study(Body):
    """One study with all that happened to it."""

    disclaimer: str
    at: datetime
    row: StudyRow
    ranked: int = Field(description="Studies in the ranked band.")
    completed_at: datetime | None
    completed_by: str | None
    instances: int
    bytes: int
    bytes_are: Whereabouts = Field(description="Images, pack and result objects; the rows stay.")
    deleted_at: datetime | None = Field(description="When it was last decided that they go.")
    hold: str | None = Field(description="Why nothing of it may be deleted.")
    waived: str | None = Field(description="Why it may go without every result confirmed.")
    revisions: list[Revision] = Field(description="Newest first; the first is the one that counts.")
    timeline: list[Event]
    stages: list[Stage] = Field(description="Where the time of the current revision went, in order.")


class Health(Body):
    """The process is alive."""

    status: str
    version: str


class Readiness(Body):
    """The process can do its work."""

    status: str
    version: str
    workers: int = Field(
        description="Worker processes with a fresh heartbeat; the list is served without any."
    )
