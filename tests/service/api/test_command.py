"""``vigil api`` as the process it is."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from service.settings import Settings
from service.store import Store
from service.store.configuration import STARTED, STOPPED
from service.store.tables import AuditRow
from tests.end_to_end.peers import free_port


@pytest.mark.postgres
def test_the_role_ends_as_it_is_told_and_has_it_on_record(store: Store, tmp_path: Path) -> None:
    """Not by the signal itself, which would leave no time for a last word."""
    settings = Settings(data=tmp_path, database_url=store.url, api_port=free_port())
    role = subprocess.Popen(
        [sys.executable, "-m", "service.cli", "api"],
        env=settings.environment(),
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while not _is_alive(settings.api_port):
            assert role.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        role.send_signal(signal.SIGTERM)
        assert role.wait(60) == 0
    finally:
        role.kill()
        role.wait()
    with store.transaction() as session:
        actions = session.scalars(
            select(AuditRow.action).where(AuditRow.actor == "api").order_by(AuditRow.number)
        ).all()
    assert (actions[0], actions[-1]) == (STARTED, STOPPED)


def _is_alive(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5).is_success
    except httpx.TransportError:
        return False
