"""What result objects are made from, and the UIDs that follow from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydicom.dataset import Dataset

from dicom_node.identity import derive_uid, result_series_uid
from dicom_node.kinds import DEFAULT_KINDS, ResultKind
from models.errors import Reason
from models.scores import ModelIdentity, Scores
from models.volume import Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultContext:
    """One scored series, or one that could not be scored, and everything its results depend on (I4).

    Attributes
    ----------
    sources : sequence of Dataset
        Headers of the series, without pixels. Where there are scores: in the geometric order of the volume,
        or the one object of an enhanced series. They are never altered.
    volume : Volume or None
        There exactly where scores are.
    scores : Scores or None
    reason : Reason or None
        Why there are no scores; None exactly where there are some.
    detail : str
        The reason in words.
    model : ModelIdentity
    config_digest : str
        Of everything besides the model that a result depends on.
    content_hash : str
        Of the study revision.
    run_at : datetime
        With time zone. Every date and time in the results is this one.
    software_version : str
        Of Vigil.
    predecessor_sr : tuple of str or None
        SOP Class and Instance UID of the newest report on the study before this one.
    kinds : frozenset of ResultKind
        Which results are wanted. The report refers to those alone, so they are part of every UID.
    shown_as : str or None
        SOP Class of the pictures that an earlier score of the study left. Without scores a picture of words
        says that they hold no longer, whatever kinds are wanted, in the class that an archive took before.

    Raises
    ------
    ValueError
        If these contradict one another.
    """

    sources: Sequence[Dataset]
    volume: Volume | None
    scores: Scores | None
    reason: Reason | None
    detail: str
    model: ModelIdentity
    config_digest: str
    content_hash: str
    run_at: datetime
    software_version: str
    predecessor_sr: tuple[str, str] | None
    kinds: frozenset[ResultKind] = DEFAULT_KINDS
    shown_as: str | None = None

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("results need at least one source header")
        if not self.sources[0].get("StudyInstanceUID"):
            raise ValueError("the sources name no study")
        if ResultKind.REPORT not in self.kinds:
            raise ValueError("the report is never left out: it alone says why a study has no score")
        if self.run_at.tzinfo is None:
            raise ValueError("run_at has no time zone")
        if (self.scores is None) == (self.reason is None):
            raise ValueError("either scores or a reason, never both or neither")
        if (self.scores is None) != (self.volume is None):
            raise ValueError("scores and their volume come together")
        if self.scores is not None and self.volume is not None:
            if self.scores.map.shape != self.volume.voxels.shape:
                raise ValueError("the map is not on the grid of the volume")
            if len(self.sources) not in {1, len(self.volume.voxels)}:
                raise ValueError("sources and slices differ in number")

    @property
    def study_uid(self) -> str:
        """Study Instance UID of the sources."""
        return str(self.sources[0].StudyInstanceUID)

    @property
    def is_multiframe(self) -> bool:
        """Whether one object holds all slices."""
        return len(self.sources) == 1 and self.volume is not None and len(self.volume.voxels) > 1

    def uid(self, kind: str) -> str:
        """UID of something in the results, a pure function of the context and ``kind``.

        Parameters
        ----------
        kind : str
            What the UID is for.
        """
        return derive_uid(
            kind,
            self.study_uid,
            str(self.sources[0].get("SeriesInstanceUID") or ""),
            self.content_hash,
            self.model.sha256,
            self.config_digest,
            self.run_at.astimezone(UTC).isoformat(),
            ",".join(sorted(self.kinds)),
        )


def series_uid(sop_instance_uid: str) -> str:
    """Series of a result object, which is alone in it.

    A function of the instance alone, so that a later report can name the series of the one before.
    """
    return result_series_uid(sop_instance_uid)
