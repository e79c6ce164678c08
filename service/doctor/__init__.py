"""Is everything there that Vigil needs, and what to do where it is not? What ``vigil doctor`` asks.

One file per part of a site; each looks, changes nothing that stays, and says in words what would mend what it
found. No identity is in any answer. READ `examine` first.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

from sqlalchemy.exc import DBAPIError

from dicom_node.errors import PeersError
from service.doctor.answers import AS_VIGIL, Check, Outcome, failed, failure, guarded, ok
from service.settings import Settings

__all__ = ["Check", "Outcome", "examine"]


def examine(settings: Settings) -> Iterator[Check]:
    """Look at everything, what others depend on first.

    Parameters
    ----------
    settings : Settings

    Yields
    ------
    Check
        In a fixed order, while it is looked: a peer that does not answer takes its time.
    """
    # What looks at a model or speaks to a peer is heavy, and a command line that prints its help needs none.
    from service.doctor import certificates, disk, model, others, secrets, store
    from service.reception import open_peers

    peers = None
    try:
        peers = open_peers(settings)
    except PeersError as error:
        yield failure("peers", "file", error, remedy="Correct the field it names; until then nothing starts.")
    except PermissionError:
        yield failed("peers", "file", "may not be read", AS_VIGIL)
    else:
        yield ok("peers", "file", f"{len(peers.all)} peers, {len(peers.channels)} channels")
    yield from guarded("disk", "data", lambda: disk.examine(settings))
    yield from guarded("secrets", "files", lambda: secrets.examine(settings, peers))
    yield from guarded("database", "questions", lambda: _asked(lambda: _examine_database(settings)))
    yield from guarded("model", "artefact", lambda: model.examine(settings))
    yield from guarded("store", "object", lambda: store.examine(settings))
    yield from guarded("certificates", "all", lambda: certificates.examine(settings, peers))
    yield from guarded("peer", "all", lambda: others.examine(settings, peers))


def _examine_database(settings: Settings) -> Iterator[Check]:
    """Database, and what is asked of it."""
    from service.doctor import database, trust, work

    opened = database.open_database(settings)
    if isinstance(opened, Check):
        yield opened
        yield failed("database", "schema", "not looked at", "Make the database answer first.")
        return
    with closing(opened):
        schema = database.schema(opened)
        yield from database.examine(opened)
        yield schema
        if schema.outcome is Outcome.OK:
            for part, look in (("queue", work.examine), ("trust", trust.examine)):
                yield from guarded(part, "all", partial(_asked, partial(look, settings, opened)))


def _asked(look: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """What a look at the database finds; a question that is refused ends it."""
    try:
        yield from look()
    except DBAPIError as error:  # it went away meanwhile, or refuses a question
        yield failed(
            "database",
            "questions",
            f"a question was not answered ({type(error.orig).__name__})",
            "Let the user of VIGIL_DATABASE_URL own the database, and look into the log of PostgreSQL.",
        )
