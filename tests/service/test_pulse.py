from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from service.node import Alive
from service.store import Store, census
from service.store.pulse import Pulse, take_pulse
from service.study import State
from tests.seeds import MORNING, Seed, plant

pytestmark = pytest.mark.postgres


def test_a_service_that_never_worked_has_no_times(store: Store) -> None:
    with store.transaction() as session:
        assert take_pulse(session, stalled_s=30) == Pulse(
            workers=0, queued=0, oldest_at=None, received_at=None
        )


def test_the_pulse_names_the_longest_waiting_and_the_newest_study(store: Store) -> None:
    later = MORNING + timedelta(hours=1)
    with store.transaction() as session:
        plant(
            session,
            Seed(name="first", state=State.QUEUED),
            Seed(name="second", state=State.QUEUED, received_at=later),
            Seed(name="done", received_at=later),
        )
        session.execute(text("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now())"))
        found = take_pulse(session, stalled_s=30)
    assert (found.workers, found.queued, found.received_at) == (1, 2, later)
    assert found.oldest_at == MORNING + timedelta(minutes=1)  # when its job was made


def test_a_node_that_looks_tells_that_it_lives(store: Store) -> None:
    with store.transaction() as session:
        before = census.beats(session)

    Alive(store).step(datetime.now(UTC))

    with store.transaction() as session:
        assert before == {}
        assert census.beats(session)[census.NODE] < 60
