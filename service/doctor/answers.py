"""What one look found, and the words that would mend it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

AS_VIGIL = "Run it as the user that runs Vigil, such as `sudo -u vigil vigil doctor`."


class Outcome(StrEnum):
    """How a part of the site is."""

    OK = "ok"
    WARNING = "warning"  # works today
    FAILED = "failed"  # does not do its work
    UNUSED = "not used"  # the settings ask for none


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What one look found.

    Attributes
    ----------
    part : str
        Of the site: ``database``, ``disk``, ``peer``.
    about : str
        Which of it: ``schema``, ``spool``, the name of a peer.
    outcome : Outcome
    told : str
        What was found.
    remedy : str
        What to do; empty where nothing is.
    """

    part: str
    about: str
    outcome: Outcome
    told: str
    remedy: str = ""


def ok(part: str, about: str, told: str) -> Check:
    """All is well."""
    return Check(part=part, about=about, outcome=Outcome.OK, told=told)


def unused(part: str, about: str, told: str) -> Check:
    """The site does not use it."""
    return Check(part=part, about=about, outcome=Outcome.UNUSED, told=told)


def warning(part: str, about: str, told: str, remedy: str) -> Check:
    """It works, and will not for ever."""
    return Check(part=part, about=about, outcome=Outcome.WARNING, told=told, remedy=remedy)


def failed(part: str, about: str, told: str, remedy: str) -> Check:
    """It does not work."""
    return Check(part=part, about=about, outcome=Outcome.FAILED, told=told, remedy=remedy)


def guarded(part: str, about: str, look: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """What a look finds; one that breaks is itself a failed check.

    Parameters
    ----------
    part, about : str
        What is looked at.
    look : callable
        Gives the checks.
    """
    try:
        yield from look()
    except PermissionError as error:
        yield failed(part, about, _refusal(error), AS_VIGIL)
    except OSError as error:
        yield failed(part, about, _refusal(error), "Mend the disk or the network that it stands on.")
    except Exception as error:  # noqa: BLE001 - the border of a look: the others are still wanted
        # The words of an error may hold a name or an address; its kind does not.
        yield failed(
            *(part, about, f"could not be looked at ({type(error).__name__})"),
            "Look at what its settings name. This is also a fault of Vigil: report it with the kind.",
        )


def _refusal(error: OSError) -> str:
    name = Path(str(error.filename)).name if error.filename else type(error).__name__
    return f"could not be looked at: {name}: {error.strerror or type(error).__name__}"


def failure(part: str, about: str, error: Exception, *, remedy: str | None = None) -> Check:
    """An error of ours as a check. Its message says what is wrong and, in its later sentences, what to do."""
    what, _, rest = str(error).partition(". ")
    if remedy is None:
        return failed(part, about, f"{what.rstrip('.')}.", rest or "See docs/operations.md, Messages.")
    return failed(part, about, str(error), remedy)
