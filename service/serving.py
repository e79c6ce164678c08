"""The model in service, changed without a restart: the new one is loaded and warm before the old one goes."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from models.artefact import Artefact, PictureArtefact
from models.batcher import Batcher
from models.errors import ServerAwayError
from models.predictor import AnyPredictor
from models.scores import ModelIdentity
from service.active import ActiveModel

WATCH_S = 2.0  # between looks for another model

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that is ready to score."""

    predictor: AnyPredictor
    batcher: Batcher


@dataclass(slots=True)
class _Served:
    loaded: Loaded
    studies: int = 0
    is_retired: bool = False


class Serving:
    """The model of now, and the change to another.

    Parameters
    ----------
    active : ActiveModel
        Which one is to serve.
    load : callable
        A verified artefact to a model that is ready to score.
    told : callable
        Told whether a change succeeded.

    Raises
    ------
    ModelError
        If the first model cannot be loaded.
    """

    def __init__(
        self,
        active: ActiveModel,
        load: Callable[[Artefact | PictureArtefact], Loaded],
        *,
        told: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._active = active
        self._load = load
        self._told = told
        self._lock = threading.Lock()
        self._mark = active.mark()
        self._served = _Served(load(active.artefact()))

    @property
    def identity(self) -> ModelIdentity:
        """Who serves."""
        return self._served.loaded.predictor.identity

    @contextmanager
    def in_service(self, priority: int) -> Iterator[AnyPredictor]:
        """The model of now, for one study; it stays loaded while it is used.

        Parameters
        ----------
        priority : int
            Of the study; higher runs first.
        """
        with self._lock:
            served = self._served
            served.studies += 1
        try:
            with served.loaded.batcher.lane(priority) as lane:
                yield served.loaded.predictor.through(lane)
        finally:
            with self._lock:
                served.studies -= 1
            self._let_go(served)

    def look(self) -> None:
        """Change to the model that is to serve, if that is another; a broken one is refused and told once."""
        mark = self._active.mark()
        if mark == self._mark:
            return
        self._mark = mark
        try:
            artefact = self._active.artefact()
            if artefact.sha256 == self.identity.sha256:
                return
            new = _Served(self._load(artefact))
        except ServerAwayError:
            self._mark = ""  # look again
            log.warning("new model waits for the inference server")
            return
        except Exception:  # whatever its files or its first runs raise: who looks must look again
            self._told(False)
            log.exception("new model refused: the one before goes on", model=self.identity.sha256[:16])
            return
        with self._lock:
            old, self._served = self._served, new
            old.is_retired = True
        self._let_go(old)
        self._told(True)
        log.info("model in service changed", model=self.identity.name, sha256=self.identity.sha256[:16])

    def watch(self, stop: threading.Event) -> None:
        """Look again and again until `stop` is set."""
        while not stop.wait(WATCH_S):
            self.look()

    def close(self) -> None:
        """End the thread of the model; what it has in hand is finished first."""
        self._served.loaded.batcher.close()

    def _let_go(self, served: _Served) -> None:
        with self._lock:
            ends = served.is_retired and served.studies == 0
            if ends:
                served.is_retired = False  # once
        if ends:
            served.loaded.batcher.close()
