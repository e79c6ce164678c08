"""One thread per device that fills batches across studies; the more urgent study goes first.

A study hands over its samples through a lane of its own and waits. The thread takes, at every run anew, the
samples of the most urgent studies, so that a STAT study passes the rest of a routine one, and waits a
moment for a full batch only while another study is about to bring more.

What a study gets is the same to the byte whatever else was in its batches. A network is asked once, when it
is loaded (`probe`), for which batch sizes a sample's outputs depend neither on its place nor on its
neighbours; only those sizes are used, and where there is none, studies never share a batch.
"""

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from models.batch_sizes import Device, Sizes, probe
from models.errors import DeviceMemoryError, ModelError
from models.exhaustion import is_out_of_memory
from models.runner import Feeds, Outputs

WAIT_S = 0.02  # for a full batch while another study is about to bring samples
AHEAD = 2  # batches of one study under way at a time: one runs while the next is prepared
FILLING = 0.25  # of a batch, at most, is filled up rather than run in two smaller ones


class Observer(Protocol):
    """Who is told what the thread did. Called from the thread."""

    def ran(self, samples: int, size: int, seconds: float) -> None:
        """A batch of ``size`` ran, ``samples`` of it asked for."""

    def halved(self, size: int) -> None:
        """The device's memory was used up; batches have at most ``size`` samples from now on."""


class Unobserved:
    """Nobody is told."""

    def ran(self, samples: int, size: int, seconds: float) -> None:
        """Nothing."""

    def halved(self, size: int) -> None:
        """Nothing."""


@dataclass(eq=False, slots=True, kw_only=True)
class _Request:
    """Samples that wait for their outputs."""

    rank: tuple[int, int, int]  # smaller runs first: priority, the study's place in the row, the part's
    feeds: Feeds
    count: int
    since: float
    taken: int = 0
    done: int = 0
    outputs: Outputs = field(default_factory=dict)
    error: Exception | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def result(self) -> Outputs:
        self.ended.wait()
        if self.error is not None:
            raise self.error
        return self.outputs

    def fill(self, start: int, found: Outputs) -> None:
        size = _count(found)
        for name, values in found.items():
            if name not in self.outputs:
                self.outputs[name] = np.empty((self.count, *values.shape[1:]), dtype=values.dtype)
            self.outputs[name][start : start + size] = values
        self.done += size
        if self.done == self.count:
            self.ended.set()

    def fail(self, error: Exception) -> None:
        self.error = error
        self.taken = self.count
        self.ended.set()


@dataclass(frozen=True, slots=True)
class _Piece:
    """Consecutive samples of one request."""

    request: _Request
    start: int
    stop: int

    @property
    def count(self) -> int:
        return self.stop - self.start


class Batcher:
    """The thread of one network on one device.

    Parameters
    ----------
    device : Device
    examples : Feeds
        A largest batch of samples that differ; the network is warm and probed after them.
    wait_s : float
        Longest that samples wait for others to fill their batch.
    turn : lock, optional
        Shared by all batchers of one device: one batch runs at a time.
    observer : Observer, optional

    Raises
    ------
    DeviceMemoryError
        If not even one sample fits the device.
    """

    def __init__(
        self,
        device: Device,
        examples: Feeds,
        *,
        wait_s: float = WAIT_S,
        turn: AbstractContextManager[bool] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.outputs = device.outputs
        self.provider = device.provider
        self._device = device
        self._wait_s = wait_s
        self._turn = turn or threading.Lock()
        self._observer = observer or Unobserved()
        with self._turn:
            self._sizes = self._probed(examples)
        self._limit = self._sizes.allowed[-1]
        self._changed = threading.Condition()
        self._waiting: list[_Request] = []
        self._lanes = 0
        self._opened = 0
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    @property
    def sizes(self) -> Sizes:
        """What the network was found to allow."""
        return self._sizes

    @property
    def limit(self) -> int:
        """Most samples in one run: what was asked for, or what the device's memory holds."""
        return self._limit

    @contextmanager
    def lane(self, priority: int) -> Iterator["Lane"]:
        """The way of one study through the device.

        Parameters
        ----------
        priority : int
            Higher runs first; studies of one priority run in the order in which they came.
        """
        with self._changed:
            self._lanes += 1
            self._opened += 1
            place = self._opened
        try:
            yield Lane(self, (-priority, place))
        finally:
            with self._changed:
                self._lanes -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """End the thread after what waits has run."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join()

    def submit(self, rank: tuple[int, int, int], feeds: Feeds) -> _Request:
        """Put samples into the row."""
        request = _Request(rank=rank, feeds=feeds, count=_count(feeds), since=time.monotonic())
        with self._changed:
            self._waiting.append(request)
            self._changed.notify_all()
        return request

    def _probed(self, examples: Feeds) -> Sizes:
        """What the network allows, with the largest batch that the device's memory holds."""
        while True:
            try:
                return probe(self._device, examples)
            except Exception as error:
                size = _count(examples) // 2
                if not is_out_of_memory(error):
                    raise
                if not size:
                    raise DeviceMemoryError(DeviceMemoryError.__doc__) from error
                examples = {name: values[:size] for name, values in examples.items()}
                self._observer.halved(size)

    def _work(self) -> None:
        while pieces := self._next():
            self._run(pieces)

    def _next(self) -> list[_Piece]:
        """The samples of the next run; none where the thread is to end."""
        with self._changed:
            while True:
                pause = self._pause()
                if self._waiting and pause <= 0:
                    return self._take()
                if self._is_closed and not self._waiting:
                    return []
                self._changed.wait(pause if self._waiting else None)

    def _pause(self) -> float:
        """How long it pays to wait for more samples, in seconds."""
        if not self._waiting or self._is_closed or not self._sizes.is_shared:
            return 0.0
        missing = self._limit - sum(request.count - request.taken for request in self._waiting)
        # A study that has handed over samples waits for them itself: only others can bring more.
        others = self._lanes - len({request.rank[:2] for request in self._waiting})
        if missing <= 0 or others <= 0:
            return 0.0
        return self._wait_s - (time.monotonic() - min(request.since for request in self._waiting))

    def _take(self) -> list[_Piece]:
        self._waiting.sort(key=lambda request: request.rank)
        row = self._waiting if self._sizes.is_shared else self._waiting[:1]
        room = self._samples(sum(request.count - request.taken for request in row))
        pieces = []
        for request in row:
            stop = min(request.count, request.taken + room)
            if stop > request.taken:
                pieces.append(_Piece(request, request.taken, stop))
            room -= stop - request.taken
            request.taken = stop
        self._waiting = [request for request in self._waiting if request.taken < request.count]
        return pieces

    def _samples(self, waiting: int) -> int:
        """How many of the waiting samples the next run takes."""
        size = self._size(waiting)
        if size - waiting <= FILLING * size:
            return min(waiting, size)
        return max((allowed for allowed in self._sizes.allowed if allowed <= waiting), default=waiting)

    def _size(self, samples: int) -> int:
        """The batch that holds so many samples; the largest where none does."""
        fitting = [size for size in self._sizes.allowed if size <= self._limit] or [self._limit]
        return next((size for size in fitting if size >= samples), fitting[-1])

    def _run(self, pieces: Sequence[_Piece]) -> None:
        pieces = [piece for piece in pieces if piece.request.error is None]
        count = sum(piece.count for piece in pieces)
        if not count:
            return
        if count > self._limit:
            for part in _halves(pieces):
                self._run(part)
            return
        size = self._size(count)
        try:
            begun = time.perf_counter()
            with self._turn:
                found = _checked(self._device.run(_gathered(pieces, size)), size)
            self._observer.ran(count, size, time.perf_counter() - begun)
        except Exception as error:  # noqa: BLE001 - the thread's border: one study's error is that study's
            self._recover(pieces, size, error)
            return
        at = 0
        for piece in pieces:
            piece.request.fill(
                piece.start, {name: values[at : at + piece.count] for name, values in found.items()}
            )
            at += piece.count

    def _recover(self, pieces: Sequence[_Piece], size: int, error: Exception) -> None:
        """Go on after a run that failed: in smaller batches, or with each study by itself."""
        if is_out_of_memory(error):
            if size > 1:
                self._limit = size // 2
                self._observer.halved(self._limit)
                self._run(pieces)
                return
            error = DeviceMemoryError(DeviceMemoryError.__doc__)
        if len(pieces) == 1:
            pieces[0].request.fail(error)
            with self._changed:
                self._waiting = [request for request in self._waiting if request.error is None]
            return
        for piece in pieces:
            self._run([piece])


@dataclass(frozen=True, slots=True)
class Lane:
    """One study's way to a batcher: the runner that its predictor calls."""

    _batcher: Batcher
    _place: tuple[int, int]

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the network's outputs."""
        return self._batcher.outputs

    @property
    def provider(self) -> str:
        """What runs the network."""
        return self._batcher.provider

    def run(self, feeds: Feeds) -> Outputs:
        """Every output of any number of samples."""
        return self._submit(feeds, 0).result()

    def run_batched(self, feeds: Feeds) -> Outputs:
        """The same: the batcher makes the batches."""
        return self.run(feeds)

    def run_each(self, parts: Iterable[Feeds]) -> Iterator[Outputs]:
        """Outputs of parts in their order, `AHEAD` of them under way."""
        under_way: deque[_Request] = deque()
        for number, part in enumerate(parts):
            under_way.append(self._submit(part, number))
            if len(under_way) == AHEAD:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()

    def _submit(self, feeds: Feeds, number: int) -> _Request:
        return self._batcher.submit((*self._place, number), feeds)


def _count(arrays: Feeds | Outputs) -> int:
    return len(next(iter(arrays.values())))


def _checked(found: Outputs, size: int) -> Outputs:
    """Outputs of a batch, each with a row for every sample."""
    for name, values in found.items():
        if values.shape[:1] != (size,):
            raise ModelError(f"The network's output {name} is no row a sample. Export the model again.")
    return found


def _gathered(pieces: Sequence[_Piece], size: int) -> Feeds:
    """Inputs of one batch; the last sample is repeated where it is not full."""
    names = pieces[0].request.feeds
    gathered = {}
    for name in names:
        parts = [piece.request.feeds[name][piece.start : piece.stop] for piece in pieces]
        missing = size - sum(len(part) for part in parts)
        if missing > 0:
            parts.append(np.repeat(parts[-1][-1:], missing, axis=0))
        gathered[name] = np.concatenate(parts)
    return gathered


def _halves(pieces: Sequence[_Piece]) -> tuple[list[_Piece], list[_Piece]]:
    """The same samples in two parts, as equal as may be."""
    rest = (sum(piece.count for piece in pieces) + 1) // 2
    first, second = [], []
    for piece in pieces:
        cut = min(piece.start + rest, piece.stop)
        rest -= cut - piece.start
        if cut > piece.start:
            first.append(_Piece(piece.request, piece.start, cut))
        if cut < piece.stop:
            second.append(_Piece(piece.request, cut, piece.stop))
    return first, second
