"""Which faults there are, how often each strikes, and the table of what they did."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tests.faults import conditions, injections, releases
from tests.faults.auditor import Auditor, Finding, Harm
from tests.faults.injections import Fault, StrandedRoleError
from tests.faults.places import Place, on_a_small_disk, ordinary, under_another_clock
from tests.faults.site import ROLES, Site

BETWEEN_AUDITS = 14  # strikes


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One line of the table.

    Attributes
    ----------
    fault : callable
    short, long : int
        Repetitions in either form.
    among_tests : bool
        Whether every run of the tests has it, too; the others are left to the command, for their time.
    place : callable
        From a folder to the site it strikes; cases of one place share a site.
    """

    name: str
    fault: Fault
    short: int
    long: int
    among_tests: bool = True
    place: Place = ordinary


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one fault did: instances and studies are those that were acknowledged while it struck."""

    name: str
    repetitions: int
    studies: int
    instances: int
    findings: tuple[Finding, ...]
    seconds: float

    def count(self, *harms: Harm) -> int:
        return sum(finding.harm in harms for finding in self.findings)

    @property
    def others(self) -> int:
        return len(self.findings) - self.count(Harm.LOST, Harm.TWICE, Harm.STRANDED)


def _for(seconds: float, fault: Callable[..., int]) -> Fault:
    def lasting(site: Site, chance: random.Random, repetitions: int) -> int:
        return fault(site, chance, repetitions, seconds=seconds)

    return lasting


CASES = (
    Case(name="kill -9 of every role in turn", fault=injections.kill_roles, short=len(ROLES), long=700),
    Case(name="kill -9 of PostgreSQL", fault=injections.kill_postgres, short=1, long=100),
    Case(
        name="database refuses 8 s",
        fault=_for(8, injections.refuse_database),
        short=1,
        long=3,
        among_tests=False,
    ),
    Case(
        name="database hangs 8 s", fault=_for(8, injections.hang_database), short=1, long=3, among_tests=False
    ),
    Case(name="database refuses 60 s", fault=_for(60, injections.refuse_database), short=0, long=2),
    Case(name="database hangs 60 s", fault=_for(60, injections.hang_database), short=0, long=2),
    Case(
        name="destination refuses, resets, is silent, slow",
        fault=_for(3, injections.hurt_destinations),
        short=4,
        long=100,
    ),
    Case(
        name="kill between C-STORE and commit",
        fault=injections.kill_between_acceptance_and_commit,
        short=1,
        long=100,
    ),
    Case(name="two workers on one job", fault=injections.freeze_workers, short=1, long=50, among_tests=False),
    Case(
        name="storm of duplicates",
        fault=injections.storm_of_duplicates,
        short=1,
        long=100,
        among_tests=False,
    ),
    Case(name="SIGTERM in mid work", fault=injections.stop_in_mid_work, short=1, long=50, among_tests=False),
    Case(
        name="worker of the previous release",
        fault=releases.work_beside_the_previous,
        short=1,
        long=5,
        among_tests=False,
    ),
    Case(name="disk full", fault=conditions.fill_the_disk, short=1, long=20, place=on_a_small_disk),
    Case(
        name="clock jumps",
        fault=conditions.move_the_clock,
        short=2,
        long=20,
        among_tests=False,
        place=under_another_clock,
    ),
)


def run_case(case: Case, site: Site, auditor: Auditor, *, seed: int, repetitions: int) -> Outcome:
    """Let a fault strike, let the site come to rest, look at everything; in the long form again and again."""
    begun = time.monotonic()
    studies, instances = len(site.ledger.studies), len(site.ledger.instances)
    chance = random.Random(f"{seed} {case.name}")  # noqa: S311 - must be repeatable
    findings: list[Finding] = []
    done = 0
    while done < repetitions and not findings:
        strikes = min(repetitions - done, BETWEEN_AUDITS)
        try:
            done += case.fault(site, chance, strikes)
        except (StrandedRoleError, TimeoutError, RuntimeError) as error:
            findings.append(Finding(Harm.STRANDED, f"after {done} strikes: {error}"))
        findings += auditor.audit()
    return Outcome(
        name=case.name,
        repetitions=done,
        studies=len(site.ledger.studies) - studies,
        instances=len(site.ledger.instances) - instances,
        findings=tuple(findings),
        seconds=time.monotonic() - begun,
    )


def table(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Lines of the report; what is not zero is told below it."""
    listed = list(outcomes)
    yield "| fault | repetitions | studies | instances | lost | twice | stranded | other | seconds |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for outcome in listed:
        counts = [outcome.count(harm) for harm in (Harm.LOST, Harm.TWICE, Harm.STRANDED)]
        cells = [
            outcome.name, outcome.repetitions, outcome.studies, outcome.instances,
            *counts, outcome.others, f"{outcome.seconds:.0f}",
        ]  # fmt: skip
        yield "| " + " | ".join(map(str, cells)) + " |"
    for outcome in listed:
        for finding, count in Counter(outcome.findings).items():
            yield f"{outcome.name}: {finding.harm}, {count} times: {finding.what}"
