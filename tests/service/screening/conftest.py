from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from service.store import Store, cohorts
from service.store.cohorts import Cohort
from service.store.objects import Unchecked
from service.study import CohortState, MemberState, State
from tests.seeds import REGIONS, Seed, plant

P_VALUES = (0.002, 0.004, 0.3, 0.7)
NAMES = ("odd", "odder", "usual", "calm")


@dataclass(frozen=True, slots=True)
class Screened:
    """A cohort that has ended, as rows."""

    store: Store
    cohort: Cohort
    objects: Unchecked
    keys: dict[str, str]


@pytest.fixture
def screened(store: Store, tmp_path: Path) -> Screened:
    """Four scored studies, one not assessable, one failed, one that could not be had."""
    seeds = [
        Seed(name=name, p_value=p, study_score=1 - p, regions=REGIONS if p < 0.1 else (), pictures=8)
        for name, p in zip(NAMES, P_VALUES, strict=True)
    ]
    seeds += [
        Seed(name="scout", state=State.NOT_ASSESSABLE),
        Seed(name="broken", state=State.FAILED, modality="=cmd()"),
    ]
    with store.transaction() as session:
        plant(session, *seeds)
        cohort = cohorts.begin(session, name="Spring <b>2026</b>", source="s", q=0.1, actor="me")
        cohorts.have(session, cohort.id, {seed.key: 1 for seed in seeds}, state=MemberState.TAKEN)
        cohorts.leave_out(session, cohort.id, {"a" * 20: "not_found"})
        cohorts.move(
            session, cohort.id, CohortState.ENDED, files={"stored": 6, "not_an_image": 2}, actor="me"
        )
        found = replace(cohorts.one(session, cohort.id), created_at=seeds[0].received_at)
    return Screened(store, found, Unchecked(tmp_path / "results"), {seed.name: seed.key for seed in seeds})
