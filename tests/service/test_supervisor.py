import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from service.errors import EmbeddedDatabaseError
from service.supervisor import Role, Supervisor


def _role(name: str, program: str, **more: object) -> Role:
    return Role(name=name, command=(sys.executable, "-c", program), environment=dict(os.environ), **more)  # type: ignore[arg-type]


def _until(condition: object, timeout_s: float = 10.0) -> None:
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
