"""A Vigil to screen with: the one that runs on the data folder, or one of our own."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from dicom_node.errors import PortInUseError
from service.errors import DatabaseError, SchemaError
from service.roles import free_port, machine_roles, require_free_port
from service.settings import Settings
from service.store import Store
from service.store.census import live_workers
from service.study import Pool
from service.supervisor import Supervisor
from service.wiring import database_url, open_store


@contextmanager
def running(settings: Settings, tell: Callable[[str], None]) -> Iterator[Store]:
    """Store of a Vigil that runs on these settings; one that was started here is stopped at the end.

    Raises
    ------
    TriageError
        If none runs and none can be started.
    """
    if _runs(settings):
        with closing(open_store(settings)) as store:
            yield store
        return
    tell("No Vigil runs on this data folder: starting one, to end with this command.")
    supervisor = Supervisor(machine_roles(_of_our_own(settings), own_logs=True))
    stop = threading.Event()

    def look_after() -> None:
        """Watch the roles and stop them from the same thread: what it restarted ends when it ends."""
        supervisor.watch(stop)
        supervisor.stop()

    supervisor.start()
    watcher = threading.Thread(target=look_after, name="supervisor")
    watcher.start()
    try:
        with closing(open_store(settings)) as store:
            yield store
    finally:
        stop.set()
        watcher.join()


def _runs(settings: Settings) -> bool:
    store = Store.open(database_url(settings))
    try:
        store.check()
        if settings.has_embedded_database:
            return True
        open_store(settings).close()
        with store.transaction() as session:
            return live_workers(session, stalled_s=settings.stalled_s).of(Pool.INFER) > 0
    except SchemaError:
        raise
    except DatabaseError:
        if not settings.has_embedded_database:
            raise
        return False
    finally:
        store.close()


def _of_our_own(settings: Settings) -> Settings:
    """Settings with ports that are free; the node keeps its own where it can, for peers may know it."""
    return settings.model_copy(
        update={
            "port": _free(settings.host, settings.port),
            "api_port": _free(settings.api_host, settings.api_port),
        }
    )


def _free(host: str, port: int) -> int:
    try:
        require_free_port(host, port, "a port")
    except PortInUseError:
        return free_port(host)
    return port or free_port(host)
