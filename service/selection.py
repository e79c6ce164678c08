"""Which series of a study is scored, and why the others are not."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dicom_node.reader import Series, list_series, read_volume
from models.appearance import appearance
from models.documents import SiteCalibration
from models.errors import NotAssessableError, Reason
from models.predictor import AnyPredictor
from models.scores import Scores
from models.scratch import IN_MEMORY, Scratch
from models.validity import check_acquisition
from models.volume import Volume

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
    scoring_s : float
        Seconds from the voxels of the scored series to its scores; 0 where there are none.
    looks : dict of str to float
        What its images are like (`models.appearance`), where the site has a calibration of its own.
    """

    series: Series | None
    volume: Volume | None
    scores: Scores | None
    reason: Reason | None
    detail: str
    notes: tuple[SeriesNote, ...]
    scoring_s: float = 0.0
    looks: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refusal:
    stage: int  # how far the series came: 0 headers, 1 acquisition, 2 voxels
    series: Series
    reason: Reason
    detail: str


def judge(
    paths: Sequence[Path],
    predictor: AnyPredictor,
    *,
    max_voxels: int,
    reserve: Callable[[int], Scratch] = lambda _: IN_MEMORY,
    calibrated: SiteCalibration | None = None,
) -> Verdict:
    """Score the largest series the model may judge.

    Parameters
    ----------
    paths : sequence of Path
        All instances of the study, any order.
    predictor : AnyPredictor
    max_voxels : int
        Largest volume that is read.
    reserve : callable
        Given the voxels of a series before they are read; returns, when there is room for them, where.
    calibrated : SiteCalibration, optional
        In place of the artefact's own calibration.
    """
    every = sorted(list_series(paths), key=lambda series: (-len(series.paths), series.key))
    refusals: list[_Refusal] = []
    for series in every:
        try:
            volume, scores, scoring_s, looks = _score(series, predictor, max_voxels, reserve, calibrated)
        except _RefusedError as refused:
            refusals.append(refused.refusal)
        else:
            return Verdict(
                series=series,
                volume=volume,
                scores=scores,
                reason=None,
                detail="",
                notes=_notes(every, refusals, scored=series),
                scoring_s=scoring_s,
                looks=looks,
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
    )


class _RefusedError(Exception):
    """A series that is not scored, with the stage it reached."""

    def __init__(self, stage: int, series: Series, reason: Reason, detail: str) -> None:
        super().__init__(reason.value)
        self.refusal = _Refusal(stage=stage, series=series, reason=reason, detail=detail)


def _score(
    series: Series,
    predictor: AnyPredictor,
    max_voxels: int,
    reserve: Callable[[int], Scratch],
    calibrated: SiteCalibration | None,
) -> tuple[Volume, Scores, float, dict[str, float]]:
    if series.reason is not None:
        raise _RefusedError(0, series, series.reason, series.detail)
    try:
        check_acquisition(series.acquisition, predictor.manifest.applicability)
        reference = (
            None
            if calibrated is None
            else calibrated.reference(series.acquisition, predictor.identity.sha256)
        )
    except NotAssessableError as error:
        raise _RefusedError(1, series, error.reason, error.detail) from error
    scratch = reserve(min(series.voxels, max_voxels))
    try:
        volume = read_volume(series, max_voxels=max_voxels, scratch=scratch)
        begun = time.monotonic()
        looks: dict[str, float] = {}
        if reference is not None:
            looks = appearance(volume)
            reference.check_looks(looks)
            predictor = predictor.against(reference)
        return volume, predictor.predict(volume), time.monotonic() - begun, looks
    except NotAssessableError as error:  # of the reader (no volume) or of the model
        raise _RefusedError(2, series, error.reason, error.detail) from error


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
