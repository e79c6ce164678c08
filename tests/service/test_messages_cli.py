"""What an operator sees of messages, and does about them."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from service import announce
from service.cli import app
from service.store import Store, outbox, reports
from service.store.tables import AuditRow
from service.study import MessageStatus
from tests.seeds import Seed, plant, study_key

pytestmark = pytest.mark.postgres

FILE = """
peers: []
channels: [{name: board, protocol: webhook, url: "https://board.example.org/", secrets: [/x]}]
"""


@pytest.fixture
def folder(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data folder of a site with one channel and one message that was given up."""
    monkeypatch.setenv("VIGIL_DATABASE_URL", store.url)
    (tmp_path / "peers.yaml").write_text(FILE)
    with store.transaction() as session:
        outbox.follow(session, {"board": frozenset({"study.scored"})})
        plant(session, Seed(name="a"))
        found = reports.newest_report(session, study_key("a"))
        assert found is not None
        announce.announce_end(session, found.score_id)
        ((row_id, _),) = outbox.waiting(session).items()
        outbox.record(session, row_id, MessageStatus.DEAD, answer="422", error="The peer refused [422].")
    return tmp_path


def run(folder: Path, *arguments: str) -> Any:
    done = CliRunner().invoke(app, ["messages", *arguments, "--data", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_what_was_given_up_is_listed_with_its_reason(folder: Path) -> None:
    (listed,) = run(folder, "list", "--status", "dead")["messages"]

    assert (listed["channel"], listed["lane"], listed["answer"]) == ("board", study_key("a"), "422")
    assert run(folder, "list", "--channel", "other") == {"messages": []}
    table = CliRunner().invoke(app, ["messages", "list", "--data", str(folder)])
    assert "[422]" in table.stdout.replace("\n", "")


def test_it_is_sent_again_by_its_id_or_with_all_others(folder: Path, store: Store) -> None:
    (listed,) = run(folder, "list")["messages"]

    assert run(folder, "replay", "--channel", "other") == {"messages": 0}
    assert run(folder, "replay", listed["message_id"]) == {"messages": 1}
    with store.transaction() as session:
        assert outbox.count(session)["board", MessageStatus.WAITING] == 1


def test_what_nobody_need_be_told_is_waived_and_stays_so(folder: Path, store: Store) -> None:
    """A channel that was taken out of the peers file would keep its alert for ever."""
    assert run(folder, "waive", "--channel", "other", "--reason", "gone") == {"messages": 0}
    assert run(folder, "waive", "--channel", "board", "--reason", "board was switched off") == {"messages": 1}

    (listed,) = run(folder, "list")["messages"]
    assert (listed["status"], listed["error"]) == ("stale", "board was switched off")
    assert run(folder, "replay") == {"messages": 0}
    with store.transaction() as session:
        assert outbox.count(session)["board", MessageStatus.DEAD] == 0
        newest = session.scalars(select(AuditRow).order_by(AuditRow.number.desc()).limit(1)).one()
    assert (newest.action, newest.detail["reason"]) == ("messages.waived", "board was switched off")


@pytest.mark.parametrize(
    "words",
    [
        ["--reason", "x"],
        ["AN-ID", "--channel", "board", "--reason", "x"],
        ["--channel", "board", "--reason", " "],
        ["--channel", "board", "--reason", "x" * 501],
    ],
)
def test_nothing_is_waived_by_leaving_a_word_out(folder: Path, words: list[str]) -> None:
    done = CliRunner().invoke(app, ["messages", "waive", *words, "--data", str(folder)])

    assert done.exit_code == 2
    assert len(run(folder, "list", "--status", "dead")["messages"]) == 1


@pytest.mark.parametrize("command", [["replay"], ["waive", "--reason", "x"]])
def test_an_id_that_nobody_knows_is_no_success(folder: Path, command: list[str]) -> None:
    done = CliRunner().invoke(app, ["messages", *command, "nobody", "--data", str(folder), "--json"])

    assert (done.exit_code, json.loads(done.stdout)) == (1, {"messages": 0})
    assert "vigil messages list" in done.stderr


def test_a_channel_is_parked_and_let_go(folder: Path) -> None:
    run(folder, "replay")

    assert run(folder, "park", "board")["changed"]
    assert not run(folder, "park", "board")["changed"]
    assert run(folder, "unpark", "board")["deliveries"] == 1
    assert not run(folder, "unpark", "board")["changed"]


def test_a_channel_nobody_knows_is_not_parked(folder: Path) -> None:
    done = CliRunner().invoke(app, ["messages", "park", "typo", "--data", str(folder)])

    assert "typo" in str(done.exception)
