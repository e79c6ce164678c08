"""Which series of a study is scored, and why the others are not."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.reader import Series, list_series, read_volume
from models.appearance import appearance
from models.documents import SiteCalibration
from models.errors import NotAssessableError, Reason
from models.groups import Group
from models.predictor import AnyPredictor
from models.references import Reference
from models.scores import Scores
from models.scratch import IN_MEMORY, Scratch
from models.validity import check_acquisition
from models.volume import Volume
from service.members import refuse_partial

UNDOCUMENTED = SiteCalibration()
UNRECORDED: Mapping[str, str] = {}  # no file has a row
ANOTHER_SERIES = "another series of the study was scored"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesNote:
    """What became of one series, for the record. Free of identity."""

    key: str
    modality: str
    description: str
    instances: int
    is_scored: bool
    reason: str | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the model said of one series, whether or not anything says how usual that is.

    Attributes
    ----------
    group : Group
        The narrowest of the series.
    study_score : float
        Raw, higher is more abnormal.
    heads : dict of str to float
        Raw score of each member of the model.
    peak : float or None
        Highest value of the map before it was scaled for display; None for a method without one.
    tail : float or None
        Estimated share of normals that score higher; None without a percentile.
    looks : dict of str to float
        What its images are like (`models.appearance`).
    provider, preprocessing : str
        What ran the network, and the version of what was done before.
    scoring_s : float
        Seconds from the voxels to the score.
    """

    group: Group
    study_score: float
    heads: Mapping[str, float]
    peak: float | None
    tail: float | None
    looks: Mapping[str, float]
    provider: str
    preprocessing: str
    scoring_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a series is like whose images are far from those of its reference: it was not scored.

    Attributes
    ----------
    group : Group
        The narrowest of the series.
    looks : dict of str to float
        What its images are like (`models.appearance`).
    """

    group: Group
    looks: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A study's scores, or the coded reason why it has none.

    Attributes
    ----------
    series : Series or None
        The scored series; without scores the one that came furthest, which the report then speaks of.
        None where no file can be read.
    volume : Volume or None
    scores : Scores or None
    reason : Reason or None
        None exactly where there are scores.
    detail : str
    notes : tuple of SeriesNote
        One per series of the study.
    measured : Measured or None
        With scores, and of a series that was refused for want of a reference alone: then there is a raw score
        and no percentile.
    look : Look or None
        Of a series that was refused because its images are far from those of its reference.
    """

    series: Series | None
    volume: Volume | None
    scores: Scores | None
    reason: Reason | None
    detail: str
    notes: tuple[SeriesNote, ...]
    measured: Measured | None = None
    look: Look | None = None

    @property
    def scoring_s(self) -> float:
        """Seconds from the voxels of the scored series to its scores; 0 where there are none."""
        return self.measured.scoring_s if self.measured else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refusal:
    stage: int  # how far the series came: 0 headers, 1 acquisition, 2 voxels, 3 a score
    series: Series
    reason: Reason
    detail: str
    measured: Measured | None = None
    look: Look | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scored:
    volume: Volume
    scores: Scores
    measured: Measured


def judge(
    paths: Sequence[Path],
    predictor: AnyPredictor,
    *,
    max_voxels: int,
    reserve: Callable[[int], Scratch] = lambda _: IN_MEMORY,
    calibrated: SiteCalibration = UNDOCUMENTED,
    is_withdrawn: Callable[[Group], bool] = lambda _: False,
    series_of: Mapping[str, str] = UNRECORDED,
) -> Verdict:
    """Score the largest series the model may judge.

    Where none of them has a reference, the largest is scored all the same: the verdict then says that it is
    not calibrated, and what was measured.

    Parameters
    ----------
    paths : sequence of Path
        All instances of the study, any order.
    predictor : AnyPredictor
    max_voxels : int
        Largest volume that is read.
    reserve : callable
        Given the voxels of a series before they are read; returns, when there is room for them, where.
    calibrated : SiteCalibration
        In place of the artefact's own calibration, where it has a document.
    is_withdrawn : callable
        Whether studies of a group have no percentile now, for its scanner has changed.
    series_of : mapping of str to str
        File name to the pseudonym of its series, as received. A series that lacks one of them is refused.
    """
    every = sorted(
        refuse_partial(list_series(paths), series_of), key=lambda series: (-len(series.paths), series.key)
    )
    refusals: list[_Refusal] = []
    for series in every:
        try:
            found = _score(
                series,
                predictor,
                max_voxels,
                reserve,
                calibrated,
                is_withdrawn,
                is_measured=any(refusal.measured for refusal in refusals),
            )
        except _RefusedError as refused:
            refusals.append(refused.refusal)
        else:
            return Verdict(
                series=series,
                volume=found.volume,
                scores=found.scores,
                reason=None,
                detail="",
                notes=_notes(every, refusals, scored=series),
                measured=found.measured,
            )
    if not refusals:
        return Verdict(
            series=None,
            volume=None,
            scores=None,
            reason=Reason.NO_IMAGES,
            detail="the study holds no instance",
            notes=(),
        )
    furthest = max(
        refusals, key=lambda refusal: (refusal.stage, refusal.series.is_image, len(refusal.series.paths))
    )
    return Verdict(
        series=furthest.series,
        volume=None,
        scores=None,
        reason=furthest.reason,
        detail=furthest.detail,
        notes=_notes(every, refusals, scored=None),
        measured=furthest.measured,
        look=furthest.look,
    )


class _RefusedError(Exception):
    """A series that is not scored, with the stage it reached."""

    def __init__(
        self,
        stage: int,
        series: Series,
        error: NotAssessableError,
        measured: Measured | None = None,
        look: Look | None = None,
    ) -> None:
        super().__init__(error.reason.value)
        self.refusal = _Refusal(
            stage=stage, series=series, reason=error.reason, detail=error.detail, measured=measured, look=look
        )


def _score(
    series: Series,
    predictor: AnyPredictor,
    max_voxels: int,
    reserve: Callable[[int], Scratch],
    calibrated: SiteCalibration,
    is_withdrawn: Callable[[Group], bool],
    *,
    is_measured: bool,
) -> _Scored:
    """Score a series; where it lacks a reference alone, refuse it with what was measured, once a study."""
    if series.reason is not None:
        raise _RefusedError(0, series, NotAssessableError(series.reason, series.detail))
    group = Group.of(series.acquisition, calibrated.site)
    reference, withheld = None, None
    try:
        check_acquisition(series.acquisition, predictor.manifest.applicability)
    except NotAssessableError as error:
        raise _RefusedError(1, series, error) from error
    try:
        reference = _reference(group, predictor.identity.sha256, calibrated, is_withdrawn)
    except NotAssessableError as error:
        if is_measured:
            raise _RefusedError(1, series, error) from error
        withheld = error
    scratch = reserve(min(series.voxels, max_voxels))
    try:
        volume = read_volume(series, max_voxels=max_voxels, scratch=scratch)
        begun = time.monotonic()
        looks = appearance(volume)
        if reference is not None:
            _check_looks(series, Look(group=group, looks=looks), reference)
            predictor = predictor.against(reference)
        scores = predictor.predict(volume)
    except NotAssessableError as error:  # of the reader (no volume) or of the model
        raise _RefusedError(2, series, error) from error
    measured = Measured(
        group=group,
        study_score=scores.study_score,
        heads=scores.heads,
        peak=scores.peak,
        tail=scores.tail,
        looks=looks,
        provider=predictor.runner.provider,
        preprocessing=predictor.preprocessing,
        scoring_s=time.monotonic() - begun,
    )
    if withheld is not None:
        raise _RefusedError(3, series, withheld, measured)
    return _Scored(volume=volume, scores=scores, measured=measured)


def _reference(
    group: Group, model_sha256: str, calibrated: SiteCalibration, is_withdrawn: Callable[[Group], bool]
) -> Reference | None:
    """Whom a series is compared with; raise NotAssessableError where nobody may be."""
    if is_withdrawn(group):
        raise NotAssessableError(Reason.DRIFTED, f"The images of {group.label} have changed.")
    return calibrated.reference(group, model_sha256)


def _check_looks(series: Series, look: Look, reference: Reference) -> None:
    """Refuse images that are far from those of the reference, and say what they are like: it may be drift."""
    try:
        reference.check_looks(dict(look.looks))
    except NotAssessableError as error:
        raise _RefusedError(2, series, error, look=look) from error


def _notes(
    every: Sequence[Series], refusals: Sequence[_Refusal], scored: Series | None
) -> tuple[SeriesNote, ...]:
    refused = {refusal.series.key: refusal for refusal in refusals}
    notes = []
    for series in every:
        refusal = refused.get(series.key)
        notes.append(
            SeriesNote(
                key=series.key,
                modality=series.acquisition.modality,
                description=series.acquisition.description,
                instances=len(series.paths),
                is_scored=series is scored,
                reason=refusal.reason.value if refusal else None,
                detail=refusal.detail if refusal else "" if series is scored else ANOTHER_SERIES,
            )
        )
    return tuple(notes)
