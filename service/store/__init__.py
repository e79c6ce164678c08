"""Sessions on PostgreSQL. The schema is made by `service.store.migrations`."""

from collections.abc import Iterator
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


def conninfo(url: str) -> str:
    """Connection string for libpq of a database URL, with our search path."""
    parsed = make_url(url).set(drivername="postgresql")
    return (
        parsed.update_query_dict(
            {"options": f"-c search_path={SEARCH_PATH}", "connect_timeout": str(CONNECT_TIMEOUT_S)}
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
                "options": f"-c search_path={SEARCH_PATH}",
                "connect_timeout": CONNECT_TIMEOUT_S,
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
