import json
import logging
import subprocess
import sys

import pytest

from service.telemetry import scrub

UID = "1.2.840.113619.2.55.3.604688119.868"
SHORT_UID = "2.25.329800735698586629295641978511506172918"

PROGRAM = f"""
import logging, threading, warnings
import structlog
from service.errors import DatabaseError
from service.telemetry import configure_logging
configure_logging("INFO")
log = structlog.get_logger("vigil")
log.info("seen", study="abcdefghij234567abcd", uid="{UID}", own="{SHORT_UID}", more={{"list": ["{UID}"]}})
logging.getLogger("pynetdicom.acse").warning("called by DOE^JANE")
logging.getLogger("pydicom").error("bad value DOE^JANE")
logging.getLogger("hl7.util").error("bad field DOE^JANE")
warnings.warn("value DOE^JANE is odd")
try:
    try:
        raise ValueError("DOE^JANE")
    except ValueError as error:
        raise DatabaseError("the database is away") from error
except DatabaseError:
    log.exception("failed")
logging.getLogger("uvicorn.error").warning("something about {UID}")
def fail():
    raise ValueError("DOE^JANE")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
fail()
"""


@pytest.fixture(scope="module")
def lines() -> list[dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=60
    )
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_every_line_is_json_and_none_tells_who_the_patient_is(lines: list[dict[str, object]]) -> None:
    told = json.dumps(lines)

    assert [line["event"] for line in lines].count("uncaught") == 2
    assert len(lines) == 9
    assert "DOE" not in told
    assert UID not in told
    assert SHORT_UID not in told


def test_the_study_key_stays(lines: list[dict[str, object]]) -> None:
    assert lines[0]["study"] == "abcdefghij234567abcd"


def test_our_own_errors_keep_their_words_and_foreign_ones_their_place(lines: list[dict[str, object]]) -> None:
    (failed,) = [line for line in lines if line["event"] == "failed"]
    own, foreign = failed["exception"]  # type: ignore[misc]

    assert own["message"] == "the database is away"
    assert "message" not in foreign
    assert foreign["type"] == "ValueError"
    assert foreign["at"]


def test_versions_and_addresses_are_not_taken_for_uids() -> None:
    event = {"event": "listening on 127.0.0.1, version 3.0.4"}

    assert scrub(logging, "info", dict(event)) == event
