"""What routes are handed: the store and the facts of this process, and the strict reading of a request."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Path, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError

from models.scores import ModelIdentity
from service.calibrations import Calibrations
from service.holdings import Holdings
from service.provider import Provider
from service.settings import Settings
from service.store import Store
from service.store.objects import LocalObjects
from service.store.worklist import KEY_PATTERN
from service.study import DISCLAIMER
from service.volumes import Volumes


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the application is made of.

    Attributes
    ----------
    store : Store
    settings : Settings
    model : ModelIdentity or None
        The model in service at the start, where this process knows it.
    follow : callable, optional
        The model in service now.
    pictures : LocalObjects
        Where the heatmaps are.
    volumes : Volumes
        Scored series as one volume.
    holdings : Holdings
        Where DICOM objects are.
    card_of : callable
        Hash of a model to its card, Markdown; None where this machine has not that model.
    calibrations : Calibrations, optional
        What is in force besides the model; without it nothing is scored from here.
    destinations : callable
        Names of the peers that are sent results.
    address : str or None
        Under which browsers know this server, where the site named one.
    provider : Provider or None
        Where people sign in, besides here.
    """

    store: Store
    settings: Settings
    model: ModelIdentity | None
    pictures: LocalObjects
    volumes: Volumes
    holdings: Holdings
    card_of: Callable[[str], str | None]
    follow: Callable[[], ModelIdentity] | None = None
    calibrations: Calibrations | None = None
    destinations: Callable[[], Sequence[str]] = tuple
    address: str | None = None
    provider: Provider | None = None

    @property
    def model_now(self) -> ModelIdentity | None:
        """The model in service."""
        return self.follow() if self.follow is not None else self.model

    @property
    def disclaimer(self) -> str:
        """The sentence every answer with numbers carries."""
        model = self.model_now
        return f"{model.disclaimer} {DISCLAIMER}" if model else DISCLAIMER


def _parts(request: Request) -> Parts:
    return cast("Parts", request.app.state.parts)


async def refuse_unknown_parameters(request: Request) -> None:
    """Refuse query parameters the route does not name: a misspelt filter must not look like an empty one.

    Raises
    ------
    RequestValidationError
        Answered as a problem document.
    """
    named = _named(request.scope["route"].dependant)
    if set(request.query_params) - named:
        allowed = ", ".join(sorted(named)) or "none"
        raise RequestValidationError(
            [
                {
                    "loc": ("query",),
                    "msg": f"unknown parameter; this address takes: {allowed}",
                    "type": "unknown",
                }
            ]
        )


def _named(dependant: Dependant) -> set[str]:
    """Query parameters of a route and of all it depends on."""
    own = {parameter.alias for parameter in dependant.query_params}
    return own.union(*(_named(inner) for inner in dependant.dependencies))


PartsOf = Annotated[Parts, Depends(_parts)]
Key = Annotated[str, Path(pattern=KEY_PATTERN, description="The study's pseudonymous key.")]
