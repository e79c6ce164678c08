"""Whether work goes on, nothing is given up, the trail is what it was, and the site secret fits."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from dicom_node.identity import SHORTEST_SECRET, study_key
from service import engine, witness
from service.doctor.answers import Check, failed, failure, ok, unused, warning
from service.settings import Settings
from service.store import Store, audit, census, identities, outbox
from service.store.audit import AuditBrokenError
from service.store.census import Census
from service.study import DeliveryStatus, MessageStatus, Pool, State, Whereabouts

BACKUP_AGE = timedelta(days=8)
LOOPS_S = 60.0  # without a look of the reaper, or a word of the node or the API
LONG_RUN_S = 3600.0  # of one job


def examine(settings: Settings, store: Store) -> Iterator[Check]:
    """Node, API, workers, queue, dead letters, audit trail, site secret."""
    with store.transaction() as session:
        told_s = census.beats(session)
        yield _node(told_s)
        yield _api(told_s)
        yield _workers(session, settings, told_s.get("reaper"))
        yield from _queue(session, settings)
        counted = census.take_census(session)
        yield _dead_letters(session, counted)
        yield _retractions(counted)
        yield _deletions(counted)
        yield _backup(session)
        yield _trail(session, settings)
        yield _secret(session, settings)


def _node(told_s: Mapping[str, float]) -> Check:
    """Whether a node lives, on whatever machine: all else may be well without one, and nothing comes."""
    return _role(
        told_s, census.NODE, "no node lives: nothing is received, and what was received is not registered"
    )


def _api(told_s: Mapping[str, float]) -> Check:
    """Whether an API lives, on whatever machine: without one nobody sees what was ranked."""
    return _role(told_s, census.API, "no API lives: studies are scored, and nobody sees the list")


def _role(told_s: Mapping[str, float], name: str, missing: str) -> Check:
    ago_s = told_s.get(name)
    if ago_s is not None and ago_s <= LOOPS_S:
        return ok("queue", name, f"lives, told {ago_s:.0f} s ago")
    last = "" if ago_s is None else f"; the last one told {ago_s / 60:.0f} min ago that it lives"
    return failed(
        "queue",
        name,
        missing + last,
        f"Start Vigil (`vigil up`), or `vigil {name}`; its log says why the last one ended or waits.",
    )


def _workers(session: Session, settings: Settings, looked_s: float | None) -> Check:
    workers = census.live_workers(session, stalled_s=settings.stalled_s)
    alive = ", ".join(f"{count} {pool}" for pool, count in workers.by_pool.items() if count)
    if not workers.processes:
        return failed(
            "queue",
            "workers",
            "no worker process lives: nothing is scored, sent or told",
            "Start Vigil (`vigil up`), or `vigil worker --pool infer` and `vigil worker --pool deliver`.",
        )
    if not workers.of(Pool.INFER):
        return failed(
            "queue",
            "workers",
            f"no worker process scores ({alive} live): studies are received and wait",
            "Start `vigil worker --pool infer`; its log says why the last one ended.",
        )
    if not workers.of(Pool.DELIVER):
        return warning(
            "queue",
            "workers",
            f"no worker process delivers ({alive} live): studies are scored, and nothing is sent or told",
            "Start `vigil worker --pool deliver`; its log says why the last one ended.",
        )
    if looked_s is None or looked_s > LOOPS_S:
        return warning(
            "queue",
            "workers",
            f"{alive} live, but none has looked after the work of the dead",
            "Look into the workers' logs for `reaper failed`; start them again.",
        )
    return ok("queue", "workers", f"{alive} live")


def _queue(session: Session, settings: Settings) -> Iterator[Check]:
    stalled = engine.stalled(session, stalled_s=settings.stalled_s)
    if stalled:
        yield warning(
            "queue",
            "stalled",
            f"{stalled} jobs are with workers that are gone",
            "A living worker takes them back by itself; start one if none does, and look why they died.",
        )
    else:
        yield ok("queue", "stalled", "no job is with a dead worker")
    for pool, depth in engine.depth(session).items():
        told = f"{depth.waiting} waiting, {depth.running} running"
        if depth.longest_run_s > LONG_RUN_S:
            yield warning(
                "queue",
                pool.value,
                f"{told}; one runs for {depth.longest_run_s / 3600:.1f} h",
                "Stop its worker: the job comes back to another one.",
            )
        elif depth.oldest_s > settings.longest_queue_s:
            yield warning(
                "queue",
                pool.value,
                f"{told}; the oldest waits for {depth.oldest_s / 3600:.1f} h",
                f"Run more workers of the pool {pool.value}.",
            )
        else:
            yield ok("queue", pool.value, told)


def _dead_letters(session: Session, counted: Census) -> Check:
    failed_studies = counted.studies[State.FAILED]
    undelivered = counted.deliveries[DeliveryStatus.UNDELIVERED]
    untold = sum(n for (_, status), n in outbox.count(session).items() if status is MessageStatus.DEAD)
    told = f"{failed_studies} studies failed, {undelivered} results undelivered, {untold} messages dead"
    if failed_studies or undelivered or untold:
        return warning(
            "queue",
            "given up",
            told,
            "See `vigil studies list --failed` and `vigil messages list`; mend the cause, then `vigil studies"
            " replay KEY` or `vigil messages replay`.",
        )
    return ok("queue", "given up", told)


def _retractions(counted: Census) -> Check:
    if counted.not_retracted:
        return failed(
            "queue",
            "taken back",
            f"results of {counted.not_retracted} studies that failed since could not be taken back",
            "Tell the archive that they are void; the audit trail names them: `result.retraction_failed`."
            " `vigil studies waive KEY` says that it was told.",
        )
    return ok("queue", "taken back", "no archive keeps results that hold no longer")


def _deletions(counted: Census) -> Check:
    begun = counted.bytes_are[Whereabouts.DELETING]
    if begun:
        return warning(
            "retention",
            "deletions",
            f"{begun} deletions were begun and not ended",
            "The node ends them within minutes; `vigil retention run` on its machine says what stops it.",
        )
    return ok("retention", "deletions", "none is half done")


def _backup(session: Session) -> Check:
    made_at = audit.newest_at(session, actor="operator", action="backup.made")
    if made_at is None:
        return unused("backup", "newest", "none was made by `vigil backup`")
    age = datetime.now(UTC) - made_at
    told = f"{made_at:%Y-%m-%d %H:%M}"
    if age > BACKUP_AGE:
        return warning(
            "backup", "newest", f"{told}, {age.days} days ago", "Run `vigil backup`, best by a timer."
        )
    return ok("backup", "newest", told)


def _trail(session: Session, settings: Settings) -> Check:
    head = audit.head(session)
    try:
        kept = witness.read(settings.data)
    except AuditBrokenError as error:
        return failure("audit", "witness", error)
    if kept is None:
        return unused("audit", "witness", f"{head.number} rows; no head is kept on this machine")
    if not audit.holds(session, kept):
        return failed(
            "audit",
            "witness",
            f"the trail no longer has row {kept.number} as it was",
            "Keep the database as it is, run `vigil audit verify`, and tell the security officer.",
        )
    return ok("audit", "witness", f"{head.number} rows, row {kept.number} as it was")


def _secret(session: Session, settings: Settings) -> Check:
    """Whether the site secret gives a study the key it has."""
    newest = identities.newest(session)
    if newest is None:
        return unused("secrets", "site key fits", "no study is known yet")
    key, study_uid = newest
    try:
        secret = settings.key_path.read_bytes().strip()
    except OSError:
        secret = b""
    if len(secret) < SHORTEST_SECRET or study_key(secret, study_uid) != key:
        return failed(
            "secrets",
            "site key fits",
            "the site key is missing, or another than the database was filled with",
            "Put the site's own key back (VIGIL_KEY_FILE, from the backup): with another one every study that"
            " comes again is a new one.",
        )
    return ok("secrets", "site key fits", "studies have the keys it gives")
