import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from service import supervisor as supervisor_module
from service.errors import EmbeddedDatabaseError
from service.store import Store
from service.supervisor import Role, Stop, Supervisor
from tests.service.test_migrations import of_release


def _role(name: str, program: str, **more: object) -> Role:
    return Role(name=name, command=(sys.executable, "-c", program), environment=dict(os.environ), **more)  # type: ignore[arg-type]


def _until(condition: object, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def test_a_role_that_ends_with_success_is_started_again(tmp_path: Path) -> None:
    marks = tmp_path / "starts"
    supervisor = Supervisor([_role("once", f"open({str(marks)!r}, 'a').write('x')")])
    stop = threading.Event()

    supervisor.start()
    watcher = threading.Thread(target=supervisor.watch, args=(stop,))
    watcher.start()
    _until(lambda: marks.exists() and len(marks.read_text()) >= 2)
    stop.set()
    watcher.join()
    supervisor.stop()


def test_a_killed_role_gets_a_new_process() -> None:
    supervisor = Supervisor([_role("sleeper", "import time; time.sleep(60)")])
    stop = threading.Event()
    supervisor.start()
    watcher = threading.Thread(target=supervisor.watch, args=(stop,))
    watcher.start()
    first = supervisor.pids()["sleeper"]

    os.kill(first, signal.SIGKILL)
    _until(lambda: supervisor.pids()["sleeper"] != first)

    stop.set()
    watcher.join()
    supervisor.stop()


def test_roles_stop_in_reverse_order(tmp_path: Path) -> None:
    ends = tmp_path / "ends"
    program = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        "    open({path!r}, 'a').write({name!r}); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "open({path!r} + {name!r}, 'w').close()\n"
        "time.sleep(60)"
    )
    supervisor = Supervisor([_role(name, program.format(path=str(ends), name=name)) for name in "abc"])

    supervisor.start()
    _until(lambda: all((tmp_path / f"ends{name}").exists() for name in "abc"))
    supervisor.stop()

    assert ends.read_text() == "cba"


def test_nothing_is_left_running_when_a_role_cannot_start() -> None:
    def refuse() -> None:
        raise RuntimeError("does not come up")

    supervisor = Supervisor(
        [_role("good", "import time; time.sleep(60)"), _role("bad", "pass", when_started=refuse)]
    )

    with pytest.raises(RuntimeError, match="does not come up"):
        supervisor.start()

    assert supervisor.pids() == {}


def test_a_role_that_cannot_be_started_again_does_not_end_the_others(tmp_path: Path) -> None:
    def refuse() -> None:
        if (tmp_path / "broken").exists():
            raise EmbeddedDatabaseError

    supervisor = Supervisor(
        [
            _role("good", "import time; time.sleep(60)"),
            _role("bad", "import time; time.sleep(60)", before_start=refuse),
        ]
    )
    stop = threading.Event()
    supervisor.start()
    watcher = threading.Thread(target=supervisor.watch, args=(stop,))
    watcher.start()
    first = supervisor.pids()
    (tmp_path / "broken").touch()

    os.kill(first["bad"], signal.SIGKILL)
    time.sleep(1)
    (tmp_path / "broken").unlink()
    _until(lambda: supervisor.pids()["bad"] != first["bad"])

    assert watcher.is_alive()
    assert supervisor.pids()["good"] == first["good"]
    stop.set()
    watcher.join()
    supervisor.stop()


STUBBORN = (
    "import signal, sys, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: open({path!r}, 'a').write('t'))\n"
    "open({path!r}, 'w').close()\n"
    "time.sleep(60)\n"
    "time.sleep(60)"
)


def test_a_hurried_stop_tells_each_role_again_and_then_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "HURRIED_S", 0.5)
    told = tmp_path / "told"
    supervisor = Supervisor([_role("stubborn", STUBBORN.format(path=str(told)))])
    supervisor.start()
    _until(told.exists)
    stop = Stop()
    stop.hurry.set()

    begun = time.monotonic()
    supervisor.stop(stop.hurry)

    assert time.monotonic() - begun < 60  # all roles together may take longer
    assert told.read_text() == "tt"


def test_all_roles_together_stop_in_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "STOP_TIMEOUT_S", 1.0)
    monkeypatch.setattr(supervisor_module, "HURRIED_S", 0.2)
    deadlines: list[float] = []
    has_ended = supervisor_module._has_ended

    def noted(running: object, deadline: float, hurry: threading.Event) -> bool:
        deadlines.append(deadline)
        return has_ended(running, deadline, hurry)  # type: ignore[arg-type]

    monkeypatch.setattr(supervisor_module, "_has_ended", noted)
    marks = [tmp_path / name for name in "abc"]
    supervisor = Supervisor([_role(mark.name, STUBBORN.format(path=str(mark))) for mark in marks])
    supervisor.start()
    _until(lambda: all(mark.exists() for mark in marks))

    supervisor.stop()

    first, *_ = ordered = deadlines[::2]  # of the first word to each role; a second word follows each
    assert ordered == [first] * 3


@pytest.mark.postgres
def test_each_role_says_by_its_exit_code_how_it_ended(store: Store, tmp_path: Path) -> None:
    """Told to stop: 0. Not allowed to work on this database: 2, with the remedy. A hang-up: nothing."""
    environment = {
        **os.environ,
        "VIGIL_DATABASE_URL": store.url,
        "VIGIL_DATA": str(tmp_path / "data"),
    }
    command = [sys.executable, "-m", "service.cli", "worker", "--pool", "deliver"]
    with of_release(store, "9999", oldest="9999"):
        refused = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (refused.returncode, "Upgrade this one" in refused.stderr) == (2, True)

    worker = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert worker.stderr is not None
    assert any("worker ready" in line for line in iter(worker.stderr.readline, ""))
    time.sleep(0.5)
    worker.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(timeout=1)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=60) == 0
    worker.stderr.close()


def test_a_role_rests_until_it_is_wanted_and_again_when_it_ends_unwanted(tmp_path: Path) -> None:
    wanted, starts = tmp_path / "wanted", tmp_path / "starts"
    program = (
        f"import pathlib, time; open({str(starts)!r}, 'a').write('x')\n"
        f"while pathlib.Path({str(wanted)!r}).exists(): time.sleep(0.02)"
    )
    supervisor = Supervisor([_role("shadow", program, is_wanted=wanted.exists)])
    stop = threading.Event()
    supervisor.start()
    assert supervisor.pids() == {}
    watcher = threading.Thread(target=supervisor.watch, args=(stop,))
    watcher.start()
    for times in (1, 2):
        wanted.touch()
        _until(lambda times=times: starts.exists() and len(starts.read_text()) == times)
        wanted.unlink()
        _until(lambda: supervisor.pids() == {})
    stop.set()
    watcher.join()
    supervisor.stop()
    assert len(starts.read_text()) == 2
