"""Sessions on PostgreSQL. The schema is made by `service.store.migrations`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from service.errors import DatabaseError

# Our tables and the engine's, so that both can be written in one transaction (I5).
SEARCH_PATH = "vigil,procrastinate"
CONNECT_TIMEOUT_S = 10
# A network that breaks without a word leaves both ends waiting for hours. Either end notices within half a
# minute: we connect anew, and the server takes back the locks of a machine that is gone. None of it matters
# on a socket of this machine.
IDLE_S, INTERVAL_S, COUNT, UNANSWERED_MS = 10, 5, 3, 25_000
KEEPALIVE = {
    "keepalives_idle": IDLE_S,
    "keepalives_interval": INTERVAL_S,
    "keepalives_count": COUNT,
    "tcp_user_timeout": UNANSWERED_MS,
}
# A process that stands still inside a transaction (stopped, swapped out, debugged) would keep its locks, the
# audit trail's among them, from all others.
IDLE_TRANSACTION_S = 30
SESSION = {
    "search_path": SEARCH_PATH,
    "idle_in_transaction_session_timeout": f"{IDLE_TRANSACTION_S}s",
    "tcp_keepalives_idle": IDLE_S,
    "tcp_keepalives_interval": INTERVAL_S,
    "tcp_keepalives_count": COUNT,
    "tcp_user_timeout": UNANSWERED_MS,
}
OPTIONS = " ".join(f"-c {name}={value}" for name, value in SESSION.items())


def conninfo(url: str, *, pools: Sequence[str] = ()) -> str:
    """Connection string for libpq of a database URL, with our search path and our patience.

    Parameters
    ----------
    url : str
    pools : sequence of str
        What the worker of this connection works for: it stands in the worker's row (`census.live_workers`).
    """
    parsed = make_url(url).set(drivername="postgresql")
    patience = {"connect_timeout": CONNECT_TIMEOUT_S, **KEEPALIVE}
    options = f"{OPTIONS} -c vigil.pools={','.join(pools)}" if pools else OPTIONS
    return (
        parsed.update_query_dict(
            {"options": options, **{name: str(value) for name, value in patience.items()}}
        )
        .render_as_string(hide_password=False)
        .replace("+", "%20")  # libpq wants %20 where URL encoders write +
    )


@dataclass(frozen=True, slots=True)
class Store:
    """The database, as transactions.

    Attributes
    ----------
    url : str
        As given in the settings.
    """

    url: str
    engine: Engine
    _sessions: sessionmaker[Session]

    @classmethod
    def open(cls, url: str) -> "Store":
        """Store on the database at `url`; connects on first use."""
        engine = create_engine(
            make_url(url).set(drivername="postgresql+psycopg"),
            connect_args={
                "options": OPTIONS,
                "connect_timeout": CONNECT_TIMEOUT_S,
                **KEEPALIVE,
                "application_name": "vigil",
            },
            hide_parameters=True,  # an exception must not carry what a row holds (I9)
            pool_pre_ping=True,  # a connection from before a database restart is replaced, not reported
        )
        return cls(url, engine, sessionmaker(engine, expire_on_commit=False))

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """One transaction: all of it commits, or none of it."""
        with self._sessions.begin() as session:
            yield session

    def check(self) -> None:
        """Answer one query.

        Raises
        ------
        DatabaseError
            If the database does not answer.
        """
        try:
            with self.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except OperationalError as error:
            raise DatabaseError(DatabaseError.__doc__) from error

    def close(self) -> None:
        """Close all idle connections."""
        self.engine.dispose()
