"""What must hold after every fault, checked by looking at everything. An empty answer is the goal."""

import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

import httpx

from tests.faults import processes
from tests.faults.site import ROLES, Site
from tests.faults.traffic import PATIENT, data_set_digest

# A worker's death is noticed after STALLED_S, its job queued again a third of that later; a delivery waits
# at most eight seconds between its first attempts; a role that died often rests for thirty. The rest is for
# the backlog of a load, on a machine that has other things to do.
SETTLE_S = 150.0
# What a process may have more than before: pools fill as they are used, a worker's by a thread for each slot.
ROOM = {"descriptors": 6, "threads": 17}
EXPECTED_KINDS = {  # a picture of words is due where a revision before had pictures
    "scored": ({"sc", "seg", "sr"},),
    "not_assessable": ({"sr"}, {"sc", "sr"}),
}


class Harm(StrEnum):
    """What a fault did that it must not."""

    LOST = "lost"
    TWICE = "twice"
    STRANDED = "stranded"
    FAILED = "failed"
    BROKEN = "broken"
    LEFT = "left over"
    LEAKED = "leaked"
    TOLD = "told"  # identity in a log


@dataclass(frozen=True, slots=True)
class Finding:
    """One harm, in words without identity."""

    harm: Harm
    what: str


@dataclass(slots=True)
class Auditor:
    """Looks at a site again and again.

    Attributes
    ----------
    site : Site
    """

    site: Site
    _held: dict[tuple[int, str], int] = field(default_factory=dict)

    def audit(self, *, settle_s: float = SETTLE_S) -> list[Finding]:
        """Wait until all work is done, then check everything.

        Parameters
        ----------
        settle_s : float
            Work that is not done by then is stranded.
        """
        return [
            *self._settle(settle_s),
            *self._instances(),
            *self._runs(),
            *self._destinations(),
            *self._trail(),
            *self._left_over(),
            *self._leaks(),
            *self._log(),
        ]

    def _settle(self, settle_s: float) -> list[Finding]:
        deadline = time.monotonic() + settle_s
        while True:
            try:
                open_work = self._open_work()
            except httpx.HTTPError as error:
                open_work = [f"the API does not answer: {type(error).__name__}"]
            if not open_work:
                return []
            if time.monotonic() > deadline:
                return [Finding(Harm.STRANDED, what) for what in open_work]
            time.sleep(0.5)

    def _open_work(self) -> list[str]:
        rows = {row["key"]: row for row in self.site.machine.worklist()}
        found = [
            f"study {key} is not known"
            for key in map(self.site.inside.key, self.site.ledger.studies)
            if key not in rows
        ]
        for key, row in rows.items():
            if row["is_receiving"] or row["state"] not in {"scored", "not_assessable", "failed"}:
                found.append(f"study {key} is {row['state']}")
            found += [
                f"{result['kind']} of study {key} is {result['status']} at {result['destination']}"
                for result in row["results"]
                if result["status"] not in {"delivered", "stored", "undelivered"}
            ]
        jobs = self.site.waiting_jobs()
        if jobs:
            found.append(f"{jobs:.0f} jobs wait or run")
        if not self.site.inside.is_log_empty():
            found.append("the log holds instances")
        return found

    def _instances(self) -> list[Finding]:
        missing = set(self.site.ledger.instances) - self.site.inside.kept_digests()
        return [
            *(Finding(Harm.LOST, "an acknowledged instance is nowhere, or changed") for _ in missing),
            *(Finding(Harm.BROKEN, f"{path} is no instance") for path in self.site.inside.unreadable),
        ]

    def _runs(self) -> list[Finding]:
        found = []
        rows = self.site.machine.worklist()
        runs = self.site.inside.runs()
        newest = Counter(run.study_key for run in runs if run.is_newest and run.state in EXPECTED_KINDS)
        told = Counter((run.study_key, run.revision, run.model) for run in runs if run.kinds)
        for row in rows:
            if row["state"] == "failed":
                found.append(Finding(Harm.FAILED, f"study {row['key']}: {row['reason']}, {row['detail']}"))
            elif newest[row["key"]] != 1:
                found.append(Finding(Harm.TWICE, f"study {row['key']} has {newest[row['key']]} scores"))
            found += [
                Finding(Harm.FAILED, f"{result['kind']} of study {row['key']} is undelivered")
                for result in row["results"]
                if result["status"] == "undelivered"
            ]
        found += [
            Finding(Harm.TWICE, f"revision {revision} of study {key} has {count} sets of results")
            for (key, revision, _), count in told.items()
            if count > 1
        ]
        found += [
            Finding(Harm.LOST, f"study {run.study_key} is {run.state} with results {run.kinds}")
            for run in runs
            if run.is_newest
            and run.state in EXPECTED_KINDS
            and set(run.kinds) not in EXPECTED_KINDS[run.state]
        ]
        return found

    def _destinations(self) -> list[Finding]:
        results = self.site.inside.results()
        found = [
            Finding(Harm.LOST, "the file of a result is gone") for result in results if result.digest is None
        ]
        for name, held in (("counting", self.site.counting.digests()), ("pacs", self._archived())):
            wanted = {
                result.sop_instance_uid: result.digest for result in results if name in result.destinations
            }
            withdrawn = {result.sop_instance_uid for result in results if name in result.withdrawn}
            for missing in wanted.keys() - withdrawn - held.keys():
                del missing  # its UID is nobody's business
                found.append(Finding(Harm.LOST, f"{name} lacks a result"))
            for sop_instance_uid, digests in held.items():
                if sop_instance_uid not in wanted:
                    found.append(Finding(Harm.TWICE, f"{name} has an object that is no result of ours"))
                elif set(digests) != {wanted[sop_instance_uid]}:
                    found.append(Finding(Harm.TWICE, f"{name} was sent different bytes under one UID"))
        copies = Counter(instance for instances in self._archived_names().values() for instance in instances)
        found += [
            Finding(Harm.TWICE, "pacs has one result under two names")
            for count in copies.values()
            if count > 1
        ]
        return found

    def _archived_names(self) -> dict[str, list[str]]:
        """Orthanc's own name of each object to its SOP Instance UID."""
        listed = self.site.archive.get("/instances?expand")
        return {entry["ID"]: [entry["MainDicomTags"]["SOPInstanceUID"]] for entry in listed}

    def _archived(self) -> dict[str, list[str]]:
        """UID to digests of what Orthanc holds, fetched once for each object."""
        found: dict[str, list[str]] = {}
        for name, (sop_instance_uid,) in self._archived_names().items():
            if name not in self._fetched:
                self._fetched[name] = data_set_digest(self.site.archive.file(name))
            found.setdefault(sop_instance_uid, []).append(self._fetched[name])
        return found

    _fetched: dict[str, str] = field(default_factory=dict)

    def _trail(self) -> list[Finding]:
        done = subprocess.run(
            [sys.executable, "-m", "service.cli", "audit", "verify", "--json"],
            env=self.site.environment | {"VIGIL_DATABASE_URL": self.site.inside.database_url},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode == 0 and json.loads(done.stdout)["intact"]:
            return []
        return [Finding(Harm.BROKEN, f"the audit trail: {done.stderr.strip()[-300:]}")]

    def _left_over(self) -> list[Finding]:
        inside = self.site.inside
        return [
            *(Finding(Harm.LEFT, path) for path in inside.left_over()),
            *(Finding(Harm.LEFT, f"results/{path}") for path in inside.results_without_row()),
        ]

    def _leaks(self) -> list[Finding]:
        """Compare what each process holds, at rest, with what it held the first time we saw it at rest."""
        found = []
        for role in ROLES:
            for pid in self.site.pids(role):
                for kind, count in (
                    ("descriptors", processes.descriptors(pid)),
                    ("threads", processes.threads(pid)),
                ):
                    first = self._held.setdefault((pid, kind), count)
                    if count > first + ROOM[kind]:
                        found.append(Finding(Harm.LEAKED, f"{role}: {kind} rose from {first} to {count}"))
        return found

    def _log(self) -> list[Finding]:
        text = self.site.log.read_text(errors="replace")
        named = [word for word in (PATIENT, "PH-load", *self.site.ledger.studies) if word in text]
        return [Finding(Harm.TOLD, "the log names a patient or a UID") for _ in named]
