"""In whatever order people, senders and workers act: one set of results, legal states, no lower priority."""

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, select, text

from service import engine, orders, urgency
from service.engine import Pool
from service.reaper import Reaper
from service.replay import replay
from service.store import Store, audit, deliveries, jobs, studies
from service.store.jobs import InferenceJob, Outcome
from service.store.results import StoredResult
from service.store.tables import DeliveryRow, ResultRow, RevisionRow, ScoreRow, StudyRow
from service.store.worklist import worklist
from service.study import DELIVERY_MOVES, MOVES, SCORE_MOVES, Band, DeliveryStatus, Priority, State
from tests.conftest import empty
from tests.ordered import ordered
from tests.service.test_studies import KEY, arrival

pytestmark = pytest.mark.postgres

MODELS = ("m", "n")
STALLED_S = 30.0


def _reachable(moves: dict, start: object) -> set[object]:  # type: ignore[type-arg]
    """States that one operation may lead to, in however many legal moves."""
    found, ahead = {start}, [start]
    while ahead:
        for state in moves.get(ahead.pop(), ()):
            if state not in found:
                found.add(state)
                ahead.append(state)
    return found


class Walk(RuleBasedStateMachine):
    """The model: what was sent, who holds a job, who recorded first, what was asked for."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        empty(store)
        self.store = store
        self.held: list[InferenceJob] = []
        self.first: dict[int, str] = {}  # score: who stored its results
        self.asked = Priority.ROUTINE
        self.is_parked = False
        self.attempts = 0
        self.before: dict[str, dict[int, object]] = {"study": {}, "score": {}, "delivery": {}}

    @rule(name=st.sampled_from("abc"))
    def an_instance_arrives(self, name: str) -> None:
        with self.store.transaction() as session:
            studies.register(session, KEY, [arrival(name)])

    @rule(model=st.sampled_from(MODELS), is_twice=st.booleans())
    def the_study_is_complete(self, model: str, is_twice: bool) -> None:
        now = datetime.now(UTC)
        with self.store.transaction() as session:
            revision = studies.complete(session, KEY, completed_by="quiet_period", now=now)
            if revision is None:
                return
            for _ in range(1 + is_twice):
                score_id = jobs.queue(session, revision.id, model_hash=model, config_digest="c", run_at=now)
                if score_id is not None:
                    engine.enqueue(session, Pool.INFER, score_id, priority=revision.priority)

    @initialize()
    def a_study_waits(self) -> None:
        self.an_instance_arrives("a")
        self.the_study_is_complete("m", is_twice=False)

    @rule(data=st.data())
    def a_worker_begins(self, data: st.DataObject) -> None:
        with self.store.transaction() as session:
            scores = session.scalars(select(ScoreRow.id).order_by(ScoreRow.id)).all()
            job = jobs.begin(session, data.draw(st.sampled_from(scores)))
        if job is not None:
            assert not self.is_parked
            self.held.append(job)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), state=st.sampled_from([State.SCORED, State.NOT_ASSESSABLE, State.FAILED]))
    def a_worker_records(self, data: st.DataObject, state: State) -> None:
        """Held jobs stay held: a duplicate run, or a zombie, records again later."""
        job = data.draw(st.sampled_from(self.held))
        self.attempts += 1
        by = f"attempt {self.attempts}"
        results = [
            StoredResult(
                kind=kind,
                sop_class_uid="1.2",
                sop_instance_uid=f"2.25.{job.score_id}{number}",
                path=by,
                sha256=by,
                bytes=1,
            )
            for number, kind in enumerate(("seg", "sr"))
        ]
        outcome = Outcome(
            state=state,
            reason=None if state is State.SCORED else "attempts_used_up",
            values={"p_value": 0.5, "study_score": 1.0} if state is State.SCORED else {},
            results=[] if state is State.FAILED else results,
        )
        with self.store.transaction() as session:
            made = jobs.record(session, job, outcome, lambda _: ["pacs"])
            for delivery_id in made or []:
                engine.enqueue(session, Pool.DELIVER, delivery_id, priority=job.priority)
        if made is not None:
            assert not self.is_parked
            assert job.score_id not in self.first, "results were stored twice"
            if state is not State.FAILED:
                self.first[job.score_id] = by

    @precondition(lambda self: self.held)
    @rule(data=st.data(), model=st.sampled_from(MODELS))
    def the_model_changes(self, data: st.DataObject, model: str) -> None:
        job = data.draw(st.sampled_from(self.held))
        with self.store.transaction() as session:
            jobs.rename(session, job, model_hash=model, config_digest="c")

    @rule(delivery_id=st.integers(1, 6), status=st.sampled_from(list(DeliveryStatus)), is_over=st.booleans())
    def a_delivery_takes_a_step(self, delivery_id: int, status: DeliveryStatus, is_over: bool) -> None:
        with self.store.transaction() as session:
            job = deliveries.find(session, delivery_id)
            if job is None:
                return
            if job.status is DeliveryStatus.DELIVERED:
                deliveries.confirm(session, delivery_id, status=status, error="missing")
            elif status is not DeliveryStatus.STORED and deliveries.begin(session, delivery_id):
                is_refused = status is DeliveryStatus.UNDELIVERED
                deliveries.record(
                    session,
                    delivery_id,
                    status=status,
                    error="no" if is_refused else "",
                    is_over=is_over or is_refused,
                )

    @rule(order=st.sampled_from([orders.cancel, replay, orders.park, orders.unpark]))
    def a_person_orders(self, order: object) -> None:
        ordered(self.store, order, KEY)  # type: ignore[arg-type]
        ordered(self.store, order, KEY)  # type: ignore[arg-type]
        self.is_parked = {orders.park: True, orders.unpark: False}.get(order, self.is_parked)  # type: ignore[call-overload]

    @rule(priority=st.sampled_from(list(Priority)))
    def a_person_prioritises(self, priority: Priority) -> None:
        ordered(self.store, orders.prioritise, KEY, priority)
        self.asked = max(self.asked, priority)

    @rule(longest_s=st.sampled_from([1e-6, 1e9]))
    def the_engine_forgets_and_the_reaper_looks(self, longest_s: float) -> None:
        with self.store.transaction() as session:
            session.execute(text("DELETE FROM procrastinate_jobs WHERE id % 2 = 0"))
            session.execute(text("UPDATE procrastinate_jobs SET status = 'doing' WHERE id % 3 = 0"))
        Reaper(store=self.store, stalled_s=STALLED_S, longest_queue_s=longest_s).step()
        with self.store.transaction() as session:
            for pool, open_rows in (
                (Pool.INFER, list(jobs.waiting_scores(session))),
                (Pool.DELIVER, list(deliveries.waiting(session))),
            ):
                assert engine.without_live_job(session, pool, open_rows, stalled_s=STALLED_S) == []

    @invariant()
    def nobody_has_two_sets_of_results(self) -> None:
        with self.store.transaction() as session:
            stored = session.execute(select(ResultRow.score_id, ResultRow.kind, ResultRow.sha256)).all()
            keys = session.execute(
                select(ScoreRow.revision_id, ScoreRow.model_hash, ScoreRow.config_digest)
            ).all()
            places = session.execute(select(DeliveryRow.result_id, DeliveryRow.destination)).all()
        assert len(set(keys)) == len(keys)
        assert len(set(places)) == len(places)
        assert sorted(stored) == sorted(
            (score_id, kind, by) for score_id, by in self.first.items() for kind in ("seg", "sr")
        )

    @invariant()
    def every_state_is_legal(self) -> None:
        with self.store.transaction() as session:
            now = {
                "study": dict(session.execute(select(StudyRow.id, StudyRow.state)).all()),
                "score": dict(session.execute(select(ScoreRow.id, ScoreRow.state)).all()),
                "delivery": dict(session.execute(select(DeliveryRow.id, DeliveryRow.status)).all()),
            }
            newest = session.scalars(
                select(ScoreRow.state)
                .join(RevisionRow)
                .order_by(RevisionRow.number.desc(), ScoreRow.id.desc())
                .limit(1)
            ).first()
        for table, moves in (("study", MOVES), ("score", SCORE_MOVES), ("delivery", DELIVERY_MOVES)):
            for row, state in self.before[table].items():
                assert now[table][row] in _reachable(moves, state)
        for state in now["study"].values():
            if state not in {State.RECEIVED, State.COMPLETE}:
                assert state is newest, "the study says something else than the score that counts"
        self.before = now

    @invariant()
    def nothing_is_less_urgent_than_asked(self) -> None:
        with self.store.transaction() as session:
            for priority in session.scalars(select(StudyRow.priority)):
                assert priority == self.asked
            urgency.age(session, longest_s=1e9)
            lowest = session.scalar(
                text(
                    "SELECT min(priority) FROM procrastinate_jobs"
                    " WHERE queue_name = 'infer' AND status = 'todo'"
                    " AND (args->>'row_id')::bigint = ANY(:rows)"
                ),
                {"rows": list(jobs.waiting_scores(session))},
            )
            assert lowest is None or lowest >= self.asked

    @invariant()
    def what_is_not_scored_never_looks_normal(self) -> None:
        with self.store.transaction() as session:
            for row in worklist(session).rows:
                assert (row.band is Band.RANKED) == (row.state is State.SCORED) == (row.rank is not None)
                if self.is_parked and row.state is not State.SCORED:
                    assert row.band is Band.UNJUDGED

    def teardown(self) -> None:
        with self.store.transaction() as session:
            audit.verify(session)
            assert session.scalar(select(func.count()).select_from(StudyRow)) == 1


def test_no_order_of_events_breaks_an_invariant(store: Store) -> None:
    run_state_machine_as_test(
        lambda: Walk(store),
        settings=settings(
            max_examples=8,
            stateful_step_count=25,
            deadline=None,
            phases=[Phase.generate],  # shrinking against a database takes minutes; the walk is printed whole
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
