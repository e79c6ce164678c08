"""A score made again now, from what is on record, and compared with it. Only that it was done is stored.

The same instances, model, calibration and software give the same bytes on the same provider (I4). Another
provider or library may move the last digits: a score within `TOLERANCE` of its own size is the same, and
on another provider one within `PARITY`, by which providers are held to each other when a model is loaded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import UnreadableInstanceError
from dicom_node.spool import SpooledInstance
from models.artefact import Artefact, PictureArtefact
from models.documents import SiteCalibration
from models.errors import Reason
from models.groups import Group
from models.predictor import AnyPredictor
from models.runtime import PARITY
from service.errors import StorageError
from service.provision import Provision
from service.selection import Verdict, judge
from service.store import Store, audit, jobs, keeping, records, watches
from service.store.jobs import InferenceJob
from service.store.records import ScoreRecord

TOLERANCE = 1e-6  # Relative.


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that is not as it was.

    Attributes
    ----------
    what : str
        Code: instances, model, calibration, preprocessing, provider, software, series, reason, score,
        percentile.
    text : str
        In words, with both values; free of identity.
    """

    what: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduced:
    """What came of it.

    Attributes
    ----------
    study_key : str
    recorded, found : float or None
        Raw scores; None where there is none.
    reason : str or None
        Code of why there is no percentile, now.
    tolerance : float
        Relative, as it applied.
    is_same : bool
        Instances, reason, score and percentile are those on record.
    differences : tuple of Difference
        Also those that made no difference to the score.
    """

    study_key: str
    recorded: float | None
    found: float | None
    reason: str | None
    tolerance: float
    is_same: bool
    differences: tuple[Difference, ...]


WITHHELD = frozenset({Reason.UNCALIBRATED, Reason.DRIFTED})  # a raw score without a percentile
DECISIVE = frozenset({"instances", "model", "calibration", "series", "reason", "score", "percentile"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """Makes scores again.

    Attributes
    ----------
    store : Store
    provision : Provision
    artefacts : callable
        The artefact of a hash, or None where it is not here.
    load : callable
        An artefact to a model that scores, as the worker loads it.
    site : str
        What the site calls itself.
    max_voxels : int
    software : mapping of str to str
        Versions, of now.
    """

    store: Store
    provision: Provision
    artefacts: Callable[[str], Artefact | PictureArtefact | None]
    load: Callable[[Artefact | PictureArtefact], AnyPredictor]
    site: str
    max_voxels: int
    software: Mapping[str, str]

    def again(self, key: str, *, actor: str) -> Reproduced:
        """Score a study again as it was scored, and say what differs.

        Raises
        ------
        UnknownStudyError, NoScoreError
            If there is nothing to make again.
        StudyDeletedError
            If its bytes are gone.
        """
        with self.store.transaction() as session:
            record = records.record_of(session, key)
            keeping.present(session, key)
            job = jobs.as_read(session, record.score_id)
            document = watches.document_of(session, record.calibration_sha256)
        artefact = self.artefacts(record.model.sha256)
        if artefact is None:
            text = f"The model {record.model.sha256[:16]} is not here. Name its folder with --artefact."
            found = _unscored(record, Difference(what="model", text=text))
        else:
            calibrated = SiteCalibration(document=document, site=self.site)
            found = self._compared(record, job, self.load(artefact), calibrated)
        with self.store.transaction() as session:
            audit.append(
                session,
                "study.replayed",
                actor=actor,
                study_key=key,
                revision=record.revision,
                same=found.is_same,
                differences=[one.what for one in found.differences],
                recorded=found.recorded,
                found=found.found,
            )
        return found

    def _compared(
        self, record: ScoreRecord, job: InferenceJob, predictor: AnyPredictor, calibrated: SiteCalibration
    ) -> Reproduced:
        own = predictor.identity.calibration_sha256
        if record.calibration_sha256 not in {"", own} and calibrated.document is None:
            text = f"The calibration {record.calibration_sha256[:16]} is not here."
            return _unscored(record, Difference(what="calibration", text=text))
        is_withheld = record.reason in WITHHELD

        def is_withdrawn(_: Group) -> bool:
            return is_withheld

        try:
            with self.provision.of(job, is_checked=False) as paths:  # what changed is named, not refused
                changed = tuple(_changed(record, job, paths))
                verdict = judge(
                    paths,
                    predictor,
                    max_voxels=self.max_voxels,
                    calibrated=calibrated,
                    is_withdrawn=is_withdrawn,
                    series_of=job.series,
                )
        except StorageError as error:
            return _unscored(record, Difference(what="instances", text=str(error)))
        return self._judged(record, verdict, changed)

    def _judged(self, record: ScoreRecord, verdict: Verdict, changed: tuple[Difference, ...]) -> Reproduced:
        measured, scores = verdict.measured, verdict.scores
        found = measured.study_score if measured else None
        provider = measured.provider if measured else record.provider
        tolerance = TOLERANCE if provider == record.provider else PARITY
        reason = None if verdict.reason is None else verdict.reason.value
        if reason == Reason.DRIFTED:  # as asked for: a raw score, and no percentile
            reason = record.reason
        pairs: list[tuple[str, object, object]] = [
            ("provider", record.provider, provider),
            (
                "preprocessing",
                record.preprocessing,
                measured.preprocessing if measured else record.preprocessing,
            ),
            ("reason", record.reason, reason),
        ]
        if scores is not None and verdict.series is not None:
            pairs.append(("series", record.scored_series, verdict.series.key))
        names = sorted(set(record.software) | set(self.software)) if record.software else []
        differences = [
            *changed,
            *(
                Difference(what=what, text=f"{what}: {before}, now {now}")
                for what, before, now in pairs
                if before != now
            ),
            *(
                Difference(what="software", text=f"{name}: {record.software.get(name)}, now {now}")
                for name in names
                if record.software.get(name) != (now := self.software.get(name))
            ),
        ]
        if not _is_near(record.study_score, found, tolerance):
            text = f"score: {record.study_score}, now {found}"
            differences.append(Difference(what="score", text=text))
        p_value = scores.p_value if scores else None
        if not _is_near(record.p_value, p_value, tolerance):
            text = f"p-value: {record.p_value}, now {p_value}"
            differences.append(Difference(what="percentile", text=text))
        return Reproduced(
            study_key=record.study_key,
            recorded=record.study_score,
            found=found,
            reason=reason,
            tolerance=tolerance,
            is_same=not any(one.what in DECISIVE for one in differences),
            differences=tuple(differences),
        )


def _changed(record: ScoreRecord, job: InferenceJob, paths: list[Path]) -> list[Difference]:
    """Instances whose bytes are not those that were received."""
    kept = {path.name: path for path in paths}
    found = []
    for one, (name, sha256) in zip(record.instances, sorted(job.hashes.items()), strict=False):
        if not sha256:
            continue
        try:
            now = SpooledInstance(path=kept[name], size_bytes=0, mtime_ns=0).sha256()
        except UnreadableInstanceError:
            now = "unreadable"
        if now != sha256:
            text = f"instance {one.number} of {len(record.instances)}: {sha256[:16]}, now {now[:16]}"
            found.append(Difference(what="instances", text=text))
    return found


def _is_near(before: float | None, now: float | None, tolerance: float) -> bool:
    if before is None or now is None:
        return before is now
    return abs(now - before) <= tolerance * max(abs(before), 1.0)


def _unscored(record: ScoreRecord, why: Difference) -> Reproduced:
    return Reproduced(
        study_key=record.study_key,
        recorded=record.study_score,
        found=None,
        reason=None,
        tolerance=TOLERANCE,
        is_same=False,
        differences=(why,),
    )
