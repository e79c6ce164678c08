"""What is calibrated how, scanner by scanner, and what waits for a person: for the page and for the API."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.orm import Session

from models.documents import CalibrationDocument, SiteCalibration, Stratum
from models.errors import NotAssessableError
from models.groups import ALIKE, Group
from models.scores import ModelIdentity
from service.calibrations import Calibrations
from service.commissioning import by_scanner
from service.store import calibrations, scanners, watch_lists
from service.store.calibrations import Calibration
from service.store.scanners import GroupCount
from service.store.watch_lists import ListedWatch
from service.study import CalibrationState

MOST_WATCHES = 1000
MOST_PROPOSALS = 10  # Shown at once, newest first; each holds every score of its document.


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """Whom studies of a scanner are compared with.

    Attributes
    ----------
    label : str
    n : int
        Reference studies.
    is_fallback : bool
        A wider group than the studies' own.
    is_small : bool
        Fewer studies than a percentile deserves.
    is_own : bool
        The model's own reference, not one of this site.
    """

    label: str
    n: int
    is_fallback: bool
    is_small: bool
    is_own: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanner:
    """One scanner, with what it makes.

    Attributes
    ----------
    group : Group
        Of everybody on it, whatever their age.
    ranked, uncalibrated : int
        Studies with and without a percentile.
    newest_at : datetime
        When the last of them came.
    bases : tuple of Basis
        One for each reference that a study of it is compared with now; empty: it is not calibrated.
    watch : ListedWatch or None
        Whether its images have changed; None before its first study under what is in force.
    """

    group: Group
    ranked: int
    uncalibrated: int
    newest_at: datetime
    bases: tuple[Basis, ...]
    watch: ListedWatch | None = None

    @property
    def is_withdrawn(self) -> bool:
        """Its images have changed: its studies have no percentile."""
        return self.watch is not None and self.watch.alarmed_at is not None

    @property
    def label(self) -> str:
        """The scanner in words."""
        return self.group.label


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A document that waits for a person.

    Attributes
    ----------
    calibration : Calibration
    groups : tuple of (str, int)
        Its groups in words, and their studies.
    label : str
        The scanner that it commissions, or all of it.
    scores : tuple of float
        Reference scores that are new, ascending.
    before : tuple of float
        Scores to look at beside them, ascending; empty: there are none.
    beside : str
        Whose these are, in words.
    """

    calibration: Calibration
    groups: tuple[tuple[str, int], ...]
    label: str
    scores: tuple[float, ...]
    before: tuple[float, ...]
    beside: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """All of it.

    Attributes
    ----------
    in_force : Calibration or None
        None: the model's own calibration serves.
    is_of_another_model : bool
        What is in force is of another model: every study is uncalibrated.
    studies : int
        Reference studies of what is in force.
    scanners : tuple of Scanner
        Those without a calibration first.
    proposals : tuple of Proposal
        Newest first.
    """

    in_force: Calibration | None
    is_of_another_model: bool
    studies: int
    scanners: tuple[Scanner, ...]
    proposals: tuple[Proposal, ...]


def survey(
    session: Session,
    known: Calibrations,
    model: ModelIdentity,
    *,
    since: datetime,
    own_reference: Sequence[float] = (),
) -> Survey:
    """Look at the scanners whose studies came since a time.

    Parameters
    ----------
    known : Calibrations
    model : ModelIdentity
        In service.
    since : datetime
    own_reference : sequence of float, optional
        Scores of the model's own reference, ascending.
    """
    calibrated = known.in_force(session, model.sha256).calibrated
    document = calibrated.document
    found = by_scanner(scanners.count_groups(session, model.sha256, since=since))
    sha256 = document.sha256 if document else None
    watched = {
        one.group_key: one for one in watch_lists.under(session, model.sha256, sha256, limit=MOST_WATCHES)
    }
    made = [
        replace(_scanner(group, counts, calibrated, model), watch=watched.get(group.key))
        for group, counts in found.items()
    ]
    accepted = calibrations.listed(session, state=CalibrationState.ACCEPTED)
    proposed = calibrations.listed(session, state=CalibrationState.PROPOSED)[:MOST_PROPOSALS]
    return Survey(
        in_force=next((one for one in accepted if document and one.sha256 == document.sha256), None),
        is_of_another_model=document is not None and document.model_sha256 != model.sha256,
        studies=model.n if document is None else document.n,
        scanners=tuple(sorted(made, key=lambda one: (bool(one.bases) and not one.is_withdrawn, one.label))),
        proposals=tuple(
            _proposal(one, calibrations.read(session, one.sha256), calibrated, own_reference)
            for one in proposed
        ),
    )


def _scanner(
    group: Group, counts: Sequence[GroupCount], calibrated: SiteCalibration, model: ModelIdentity
) -> Scanner:
    bases = {basis for count in counts for basis in _bases(count.group, calibrated, model)}
    return Scanner(
        group=group,
        ranked=sum(count.ranked for count in counts),
        uncalibrated=sum(count.uncalibrated for count in counts),
        newest_at=max(count.newest_at for count in counts),
        bases=tuple(sorted(bases, key=lambda basis: basis.label)),
    )


def _bases(group: Group, calibrated: SiteCalibration, model: ModelIdentity) -> Sequence[Basis]:
    try:
        reference = calibrated.reference(group, model.sha256)
    except NotAssessableError:
        return ()
    if reference is None:
        return (Basis(label=model.group, n=model.n, is_fallback=False, is_small=False, is_own=True),)
    return (
        Basis(
            label=reference.group.label,
            n=reference.n,
            is_fallback=reference.is_fallback,
            is_small=reference.is_small,
            is_own=False,
        ),
    )


def _proposal(
    one: Calibration,
    document: CalibrationDocument,
    calibrated: SiteCalibration,
    own_reference: Sequence[float],
) -> Proposal:
    scanner = None if one.scanner is None else Group.model_validate_json(one.scanner)
    strata = [stratum for stratum in document.strata if scanner in (None, stratum.group.scanner)]
    before, beside = _before(scanner, calibrated.document, own_reference)
    return Proposal(
        calibration=one,
        groups=tuple((stratum.group.label, len(stratum.scores)) for stratum in document.strata),
        label="all of it" if scanner is None else scanner.label,
        scores=_scores(strata),
        before=before,
        beside=beside,
    )


def _before(
    scanner: Group | None, document: CalibrationDocument | None, own_reference: Sequence[float]
) -> tuple[tuple[float, ...], str]:
    """Scores to look at beside those of a proposal, and whose they are."""
    if document is None:
        return tuple(own_reference), "of the model's own reference"
    if scanner is None:
        return _scores(document.strata), "in force"
    found = document.reference(scanner)
    if found is not None:
        return found.scores, "they are compared with now"
    alike = [
        one
        for one in document.strata
        if all(getattr(one.group, name) == getattr(scanner, name) for name in ALIKE)
    ]
    return _scores(alike), "of other scanners"


def _scores(strata: Sequence[Stratum]) -> tuple[float, ...]:
    return tuple(sorted(score for stratum in strata for score in stratum.scores))
