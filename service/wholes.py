"""Studies of a cohort that are whole when the intake first sees them: many in one transaction.

Only what is plain goes this way. A study with a damaged file, with results of ours, with two patients, with
an order that was waiting for it, or too large for one look is left to the way of all others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from dicom_node.spool import Spool
from service import arriving
from service.admission import Admission
from service.arriving import Found
from service.completeness import Trigger
from service.meters import NodeMeters
from service.ordering import marks_of
from service.store import Store, awaited, cohorts, flags, identities, studies
from service.store.newcomers import Newcomer
from service.study import Priority

MOST_INSTANCES = 200  # of a study that goes this way


@dataclass(frozen=True, slots=True, kw_only=True)
class Wholes:
    """Takes whole studies in.

    Attributes
    ----------
    store : Store
    spool : Spool
    admission : Admission
    meters : NodeMeters, optional
    """

    store: Store
    spool: Spool
    admission: Admission
    meters: NodeMeters | None = None

    def take(self, expected: Mapping[str, int]) -> frozenset[str]:
        """Register and queue the plain ones among studies nobody knows.

        Parameters
        ----------
        expected : mapping of str to int
            Study key to the instances it is whole with.

        Returns
        -------
        frozenset of str
            Keys of those that were queued.
        """
        found: dict[str, list[Found]] = {}
        for key, count in expected.items():
            if count <= MOST_INSTANCES:
                here = self.spool.instances(key)
                if len(here) == count:
                    found[key] = [arriving.read(instance) for instance in here]
        if not found:
            return frozenset()
        now = datetime.now(UTC)
        with self.store.transaction() as session:
            every = [one for files in found.values() for one in files]
            ours = arriving.ours_among(session, every, self.admission.model_hash())
            known = studies.known(session, list(found))
            plain = [
                newcomer
                for key, files in found.items()
                if key not in known and (newcomer := self._plain(key, files, ours)) is not None
            ]
            ordered = awaited.among_marks(session, {mark for one in plain for mark in self._marks(one)})
            queued = self.admission.admit_all(
                session,
                [one for one in plain if ordered.isdisjoint(self._marks(one))],
                priority=Priority.SCREENING,
                completed_by=Trigger.COHORT,
                now=now,
            )
            cohorts.taken(session, sorted(queued))
        self._count([one for one in plain if one.key in queued])
        return queued

    def _count(self, queued: Sequence[Newcomer]) -> None:
        if self.meters is not None:
            for one in queued:
                self.meters.registered(len(one.arrivals), sum(arrival.bytes for arrival in one.arrivals))
                self.meters.completed(Trigger.COHORT.value)

    def _marks(self, newcomer: Newcomer) -> list[str]:
        accession = newcomer.identity.accession_number
        return marks_of(self.spool.key_of, accession_number=accession, key=newcomer.key)

    def _plain(self, key: str, files: list[Found], ours: arriving.Ours) -> Newcomer | None:
        headers = [one.header for one in files if one.header is not None]
        if len(headers) < len(files):
            return None
        arrivals = arriving.arrivals_of(files, ours, self.spool.key_of)
        if any(arrival.is_own for arrival in arrivals) or flags.are_two_patients(
            arrival.patient for arrival in arrivals
        ):
            return None
        return Newcomer(
            key=key,
            arrivals=arrivals,
            identity=identities.stated(headers[0]),
            listings={one.instance.file_name: one.listing for one in files if one.listing},
        )
