"""Reference studies of a calibration document: of a folder, of an archive, or received and scored already.

Each is one a person; what is left out is counted by why.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import islice
from pathlib import Path

from sqlalchemy.orm import Session

from dicom_node.errors import DeliveryError, MalformedMessageError, UnreadableInstanceError
from dicom_node.header import read_instance
from dicom_node.line import line_to
from dicom_node.peer import Peer, Pull
from dicom_node.services.dicomweb import WebPeer
from dicom_node.services.query import studies_between
from dicom_node.spool import Spool
from models.documents import ReferenceStudy, SiteCalibration
from models.errors import Reason
from models.predictor import AnyPredictor
from service.pull import fetch_study
from service.reception import MB
from service.selection import Verdict, judge
from service.settings import Settings
from service.store import scanners


@dataclass(slots=True, kw_only=True)
class Gathered:
    """What became of the studies of a folder.

    Attributes
    ----------
    studies : list of ReferenceStudy
    left_out : Counter
        Why studies are no part of the reference: a code, or that their person is in it already.
    """

    studies: list[ReferenceStudy] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


SAME_PERSON = "same_person"  # One study a person: two of one are no two witnesses.
FINDING = "finding"  # A reader confirmed it.


def gather(
    folder: Path,
    predictor: AnyPredictor,
    *,
    site: str,
    max_voxels: int,
    told: Callable[[int], None] = lambda _: None,
) -> Gathered:
    """Score every study of a folder of DICOM files.

    Parameters
    ----------
    folder : Path
        Files at any depth, of studies without a finding the model is asked for.
    predictor : AnyPredictor
    site : str
        What the site calls itself.
    max_voxels : int
        Largest volume that is read.
    told : callable, optional
        Given the number of studies done, after each.
    """
    found, persons = Gathered(), set[str]()
    for number, (person, paths) in enumerate(_studies(folder), start=1):
        if person in persons:
            found.left_out[SAME_PERSON] += 1
        else:
            verdict = judge(paths, predictor, max_voxels=max_voxels, calibrated=SiteCalibration(site=site))
            study = _study(verdict)
            if study is None:
                found.left_out[str(verdict.reason)] += 1
            else:
                found.studies.append(study)
                persons.add(person)
        told(number)
    return found


def received(
    session: Session,
    model_sha256: str,
    *,
    most: int,
    received_from: datetime | None = None,
    received_to: datetime | None = None,
) -> Gathered:
    """Take the first studies that a model scored as they came; nothing is scored again.

    Parameters
    ----------
    model_sha256 : str
    most : int
        Studies that are wanted, of all groups together.
    received_from, received_to : datetime, optional
        From the first, before the second.
    """
    chosen = scanners.choose(
        session,
        model_sha256,
        most=most,
        bands=scanners.SCORED,
        received_from=received_from,
        received_to=received_to,
    )
    left_out = {SAME_PERSON: chosen.same_person, FINDING: chosen.findings}
    return Gathered(studies=list(chosen.studies), left_out=+Counter(left_out))


def fetch(
    archive: Peer,
    spool: Spool,
    settings: Settings,
    *,
    first: date,
    last: date,
    modality: str,
    most: int,
    told: Callable[[int], None] = lambda _: None,
) -> int:
    """Fetch studies of a time from an archive, by C-FIND and C-GET, or QIDO-RS and WADO-RS.

    Parameters
    ----------
    archive : Peer
    spool : Spool
        Where they are kept; not that of the node, which would take them in.
    settings : Settings
    first, last : date
        Of the study, both included.
    modality : str
    most : int
        Studies that are fetched, as the archive lists them.
    told : callable, optional
        Given the number of studies fetched, after each.

    Returns
    -------
    int
        Studies of which something did not come: their gaps are found when they are read.

    Raises
    ------
    DeliveryError
        If the archive does not answer the query.
    """
    if archive.protocol == "dicomweb":
        days = {"StudyDate": f"{first:%Y%m%d}-{last:%Y%m%d}", "ModalitiesInStudy": modality}
        listed = WebPeer.of(archive).search_studies(days)
    else:
        listed = studies_between(line_to(archive, calling_aet=settings.aet), first, last, modality)
    failed = 0
    for number, study_uid in enumerate(list(islice(listed, most)), start=1):
        try:
            pulled = fetch_study(
                archive,
                study_uid,
                spool,
                way=Pull.GET,
                aet=settings.aet,
                max_instance_bytes=settings.max_instance_mb * MB,
            )
            failed += bool(pulled.failed or not pulled.completed)
        except (DeliveryError, MalformedMessageError):
            failed += 1
        told(number)
    return failed


def _study(verdict: Verdict) -> ReferenceStudy | None:
    if verdict.measured is None:
        return None
    return ReferenceStudy(
        group=verdict.measured.group,
        score=verdict.measured.study_score,
        peak=verdict.measured.peak,
        looks=dict(verdict.measured.looks),
    )


def _studies(folder: Path) -> Iterator[tuple[str, Sequence[Path]]]:
    """Person and files of each study, in an order that depends on the files' names alone.

    Who states no id is a person of their own; files that cannot be read are one study of nobody's.
    """
    studies: dict[str, list[Path]] = defaultdict(list)
    persons: dict[str, str] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            dataset = read_instance(path).dataset
        except UnreadableInstanceError:
            studies[Reason.UNREADABLE].append(path)
            continue
        study = str(dataset.get("StudyInstanceUID") or "")
        studies[study].append(path)
        persons.setdefault(study, str(dataset.get("PatientID") or "").strip() or study)
    for study, paths in studies.items():
        yield persons.get(study, study), paths
