"""``vigil studies record | replay``: on what a score rests, and the same score once more."""

from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from service.orders_cli import ACTOR
from service.reproduction import Reproduced
from service.store.records import ScoreRecord
from service.terminal import AsJson, Data, begin, out, out_json

EXIT_DIFFERS = 1

Folder = Annotated[
    Path | None, typer.Option("--artefact", help="Folder of the model, where it is no longer in service.")
]


def show_record(key: str, data: Data = None, as_json: AsJson = False) -> None:
    """Print on what a study's score rests: instances, model, calibration, software."""
    from service import wiring
    from service.store.records import record_of

    with closing(wiring.open_store(begin(data=data))) as store, store.transaction() as session:
        found = record_of(session, key)
    if as_json:
        out_json(asdict(found))
    else:
        _print_record(found)


def replay_study(
    key: str,
    data: Data = None,
    artefact: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Queue again what failed of a study; score again what was scored, and say whether it is the same.

    The second stores nothing but that it was done. The exit code is 1 where something differs.
    """
    from service import wiring
    from service.replay import replay
    from service.store.records import NoScoreError, record_of
    from service.study import ENDED, State

    settings = begin(data=data)
    with closing(wiring.open_store(settings)) as store:
        with store.transaction() as session:
            replayed = replay(session, key, actor=ACTOR)
        if not replayed.scores and not replayed.deliveries:
            state = None
            with suppress(NoScoreError), store.transaction() as session:
                state = record_of(session, key).state
            if state in ENDED - {State.FAILED}:
                found = wiring.open_reproduction(settings, store, artefact).again(key, actor=ACTOR)
                _print_reproduced(found, as_json=as_json)
                raise typer.Exit(0 if found.is_same else EXIT_DIFFERS)
    if as_json:
        out_json(asdict(replayed))
    else:
        out(f"queued again: {replayed.scores} scores, {replayed.deliveries} deliveries")


def _print_reproduced(found: Reproduced, *, as_json: bool) -> None:
    if as_json:
        out_json(asdict(found))
        return
    number = "no score" if found.recorded is None else f"{found.recorded:.6g}"
    if found.is_same:
        reason = f" ({found.reason})" if found.reason else ""
        out(f"the same: {number}{reason}, within {found.tolerance:g}")
    else:
        out(f"not the same: {number} is on record")
    for one in found.differences:
        out(f"  {one.text}")


def _print_record(found: ScoreRecord) -> None:
    score = "none" if found.study_score is None else f"{found.study_score:.6g}"
    percentile = "none" if found.p_value is None else f"{100 * found.p_value:.3g}"
    out(
        f"{found.study_key}, revision {found.revision}: {found.state}, score {score}, percentile {percentile}"
    )
    for name, value in (
        ("reason", found.reason),
        ("model", f"{found.model.name} {found.model.version} {found.model.sha256}"),
        ("calibration", found.calibration_sha256),
        ("reference", f"{found.reference_group}, n = {found.reference_n}" if found.reference_n else None),
        ("preprocessing", found.preprocessing),
        ("provider", found.provider),
        ("software", ", ".join(f"{name} {version}" for name, version in sorted(found.software.items()))),
        ("configuration", found.config_digest),
        ("run at", found.run_at.isoformat(sep=" ", timespec="seconds")),
        ("instances", f"{len(found.instances)}, together {found.content_hash}"),
    ):
        if value:
            out(f"  {name}: {value}")
    for one in found.instances:
        out(f"    {one.number}: {one.sha256 or 'damaged on arrival'}")
