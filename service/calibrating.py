"""A folder of studies to a calibration document: score each, one a person, and sort by group."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dicom_node.errors import UnreadableInstanceError
from dicom_node.header import read_instance
from models.documents import ReferenceStudy, SiteCalibration
from models.errors import Reason
from models.predictor import AnyPredictor
from service.selection import Verdict, judge


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
