import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as state

from models.artefact import NETWORK
from models.batch_sizes import Sizes, probe
from models.batcher import AHEAD, Batcher
from models.catalogue import active_artefact
from models.errors import DeviceMemoryError, ModelError
from models.predictor import Predictor
from models.providers import CPU, CUDA
from models.runner import Feeds, Outputs
from models.runtime import PARITY, Session, difference
from models.volume import Volume
from tests.picture_models import SIZE, write_network

FULL = 8
STAT, ROUTINE = 30, 10
ARENA = "Failed to allocate memory for requested buffer of size 2147483648"


def samples(*values: float) -> dict[str, NDArray[np.float32]]:
    return {"x": np.array(values, dtype=np.float32)[:, None]}


@dataclass
class OddDevice:
    """Says one number too few, whatever it is asked, once it is loaded."""

    outputs: tuple[str, ...] = ("y",)
    provider: str = "fake"
    is_odd: bool = False

    def run(self, feeds: Feeds) -> Outputs:
        return {"y": feeds["x"][1:] if self.is_odd else feeds["x"]}


def test_outputs_of_another_length_fail_their_study_and_not_the_thread() -> None:
    device = OddDevice()
    batcher = Batcher(device, samples(*range(FULL)), wait_s=0)
    with batcher.lane(ROUTINE) as lane:
        device.is_odd = True
        with ThreadPoolExecutor() as threads, pytest.raises(ModelError, match="no row a sample"):
            threads.submit(lane.run, samples(1, 2)).result(timeout=30)
        device.is_odd = False
        assert lane.run(samples(1, 2))["y"].ravel().tolist() == [1, 2]
    batcher.close()


@dataclass
class FakeDevice:
    """Doubles its samples and keeps what it was given; waits at a gate where it is told to."""

    outputs: tuple[str, ...] = ("y",)
    provider: str = "fake"
    fits: int = FULL  # most samples whose memory there is
    poison: float | None = None
    by_place: bool = False
    by_size: bool = False
    gate: threading.Event = field(default_factory=threading.Event)
    runs: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    def run(self, feeds: Feeds) -> Outputs:
        values = feeds["x"][:, 0]
        self.runs.append([float(value) for value in values])
        self.gate.wait()
        if len(values) > self.fits:
            raise state.RuntimeException(f"[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : {ARENA}")
        if self.poison in values:
            raise state.Fail("[ONNXRuntimeError] : 1 : FAIL : a sample this network cannot take")
        found = values * 2
        if self.by_place:
            found = found + np.arange(len(values), dtype=np.float32) * np.float32(1e-6)
        if self.by_size:
            found = found + np.float32(1e-3 / len(values))
        return {"y": found.astype(np.float32)}


@dataclass
class Notes:
    batches: list[tuple[int, int]] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)

    def ran(self, samples: int, size: int, seconds: float) -> None:
        assert seconds >= 0
        self.batches.append((samples, size))

    def halved(self, size: int) -> None:
        self.limits.append(size)


@pytest.fixture
def started() -> Iterator[Callable[..., Batcher]]:
    batchers = []

    def start(device: FakeDevice, *, wait_s: float = 0.0, observer: Notes | None = None) -> Batcher:
        fits, device.fits = device.fits, FULL  # the memory runs short after the start
        examples = {"x": np.linspace(1, 2, FULL, dtype=np.float32)[:, None]}
        batchers.append(Batcher(device, examples, wait_s=wait_s, observer=observer))
        device.runs.clear()
        device.fits = fits
        return batchers[-1]

    yield start
    for batcher in batchers:
        batcher.close()


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_study_gets_what_the_network_says_of_its_samples(started: Callable[..., Batcher]) -> None:
    with started(FakeDevice()).lane(ROUTINE) as lane:
        found = lane.run(samples(*range(21)))

    np.testing.assert_array_equal(found["y"], np.arange(21) * 2)


def test_parts_come_back_in_their_order_and_few_exist_at_a_time(started: Callable[..., Batcher]) -> None:
    device, made = FakeDevice(), []

    def parts() -> Iterator[Feeds]:
        for number in range(10):
            made.append(number)
            yield samples(number, number + 0.5)

    with started(device).lane(ROUTINE) as lane:
        for number, found in enumerate(lane.run_each(parts())):
            np.testing.assert_array_equal(found["y"], [2 * number, 2 * number + 1])
            assert len(made) <= number + AHEAD + 1


def test_one_batch_holds_the_samples_of_several_studies(started: Callable[..., Batcher]) -> None:
    device = FakeDevice()
    batcher = started(device)
    with ThreadPoolExecutor() as threads, batcher.lane(ROUTINE) as busy:
        device.gate.clear()
        first = threads.submit(busy.run, samples(1))
        until(lambda: len(device.runs) == 1)
        with batcher.lane(ROUTINE) as one, batcher.lane(ROUTINE) as other:
            answers = [threads.submit(one.run, samples(2, 3)), threads.submit(other.run, samples(4, 5))]
            until(lambda: len(batcher._waiting) == 2)
            device.gate.set()
            found = [answer.result()["y"].tolist() for answer in [first, *answers]]

    assert found == [[2], [4, 6], [8, 10]]
    assert device.runs[1] in ([2, 3, 4, 5], [4, 5, 2, 3])


def test_an_urgent_study_passes_the_rest_of_a_routine_one(started: Callable[..., Batcher]) -> None:
    device = FakeDevice()
    batcher = started(device)
    with ThreadPoolExecutor() as threads, batcher.lane(ROUTINE) as routine, batcher.lane(STAT) as stat:
        device.gate.clear()
        slow = threads.submit(routine.run, samples(*[0.0] * 5 * FULL))
        until(lambda: len(device.runs) == 1)
        urgent = threads.submit(stat.run, samples(*[1.0] * FULL))
        until(lambda: len(batcher._waiting) == 2)
        device.gate.set()
        urgent.result()
        slow.result()

    assert device.runs == [[0.0] * FULL, [1.0] * FULL, *[[0.0] * FULL] * 4]


def test_a_study_alone_waits_for_nobody(started: Callable[..., Batcher]) -> None:
    with started(FakeDevice(), wait_s=60).lane(ROUTINE) as lane:
        assert lane.run(samples(1, 2, 3))["y"].tolist() == [2, 4, 6]


def test_a_batch_waits_for_a_study_that_is_about_to_bring_samples_but_not_for_ever(
    started: Callable[..., Batcher],
) -> None:
    device = FakeDevice()
    batcher = started(device, wait_s=0.3)
    with batcher.lane(ROUTINE) as one, batcher.lane(ROUTINE) as other, ThreadPoolExecutor() as threads:
        first = threads.submit(one.run, samples(*[1.0] * 4))
        until(lambda: len(batcher._waiting) == 1)
        second = threads.submit(other.run, samples(*[2.0] * 4))
        first.result()
        second.result()
        assert device.runs == [[1.0] * 4 + [2.0] * 4]

        begun = time.monotonic()
        one.run(samples(3))
        assert time.monotonic() - begun >= 0.3


def test_what_is_not_full_is_filled_up_or_run_in_smaller_batches(started: Callable[..., Batcher]) -> None:
    notes = Notes()
    with started(FakeDevice(), observer=notes).lane(ROUTINE) as lane:
        lane.run(samples(*range(7)))
        lane.run(samples(*range(5)))

    assert notes.batches == [(7, 8), (4, 4), (1, 1)]


def test_sizes_at_which_bytes_differ_are_never_run(started: Callable[..., Batcher]) -> None:
    device = FakeDevice(by_size=True)
    with started(device).lane(ROUTINE) as lane:
        alone = lane.run(samples(1))["y"]
        among = lane.run(samples(1, 2, 3, 4, 5))["y"]

    assert alone[0] == among[0]
    assert {len(run) for run in device.runs} == {FULL}


def test_studies_share_no_batch_of_a_network_that_tells_places_apart(started: Callable[..., Batcher]) -> None:
    device = FakeDevice(by_place=True)
    batcher = started(device)
    with batcher.lane(ROUTINE) as lane:
        alone = lane.run(samples(*range(1, 12)))["y"]
    device.gate.clear()
    with ThreadPoolExecutor() as threads, batcher.lane(ROUTINE) as one, batcher.lane(ROUTINE) as other:
        answers = [threads.submit(lane.run, samples(*range(1, 12))) for lane in (one, other)]
        until(lambda: len(batcher._waiting) >= 1)
        device.gate.set()
        found = [answer.result()["y"] for answer in answers]

    assert batcher.sizes == Sizes(allowed=(FULL,), is_shared=False)
    assert [values.tobytes() for values in found] == [alone.tobytes()] * 2


def test_a_batch_too_large_for_the_device_is_halved_and_the_size_remembered(
    started: Callable[..., Batcher],
) -> None:
    device, notes = FakeDevice(fits=2), Notes()
    batcher = started(device, observer=notes)
    with batcher.lane(ROUTINE) as lane:
        first = lane.run(samples(*range(FULL)))
        second = lane.run(samples(*range(FULL)))

    np.testing.assert_array_equal(first["y"], np.arange(FULL) * 2)
    np.testing.assert_array_equal(second["y"], np.arange(FULL) * 2)
    assert (notes.limits, batcher.limit) == ([4, 2], 2)
    assert [len(run) for run in device.runs] == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]


def test_a_device_that_never_held_the_largest_batch_starts_with_a_smaller_one() -> None:
    examples = {"x": np.linspace(1, 2, FULL, dtype=np.float32)[:, None]}
    batcher = Batcher(FakeDevice(fits=3), examples)
    assert batcher.sizes == Sizes(allowed=(1, 2), is_shared=True)
    batcher.close()

    with pytest.raises(DeviceMemoryError):
        Batcher(FakeDevice(fits=0), examples)


def test_a_sample_that_fits_no_memory_fails_its_study_and_the_next_is_served(
    started: Callable[..., Batcher],
) -> None:
    device = FakeDevice(fits=0)
    batcher = started(device)
    with batcher.lane(ROUTINE) as lane, pytest.raises(DeviceMemoryError, match="memory of the device"):
        lane.run(samples(1, 2))
    device.fits = 1

    with batcher.lane(ROUTINE) as lane:
        assert lane.run(samples(1, 2))["y"].tolist() == [2, 4]


def test_a_study_that_breaks_its_batch_fails_alone(started: Callable[..., Batcher]) -> None:
    device = FakeDevice(poison=13)
    batcher = started(device)
    with ThreadPoolExecutor() as threads, batcher.lane(ROUTINE) as busy:
        device.gate.clear()
        first = threads.submit(busy.run, samples(1))
        until(lambda: len(device.runs) == 1)
        with batcher.lane(ROUTINE) as good, batcher.lane(ROUTINE) as bad, batcher.lane(ROUTINE) as late:
            answers = [
                threads.submit(good.run, samples(2, 3)),
                threads.submit(bad.run, samples(13, 14)),
                threads.submit(late.run, samples(5)),
            ]
            until(lambda: len(batcher._waiting) == 3)
            device.gate.set()
            first.result()
            with pytest.raises(state.Fail):
                answers[1].result()
            assert answers[0].result()["y"].tolist() == [4, 6]
            assert answers[2].result()["y"].tolist() == [10]


def real_session() -> Session:
    return Session(active_artefact().path / NETWORK, providers=(CPU,))


def test_shipped_network_gives_the_same_bytes_at_every_size_and_place() -> None:
    predictor = Predictor.load(active_artefact())

    found = probe(real_session(), predictor.examples())

    assert found == Sizes(allowed=(1, 2, 4, 8, 16), is_shared=True)


def test_network_that_looks_at_the_whole_batch_is_found_out(tmp_path: Path) -> None:
    write_network(tmp_path / NETWORK, per_batch=True)
    examples = {
        "x": np.random.default_rng(0).random((4, 1, *SIZE), dtype=np.float32),
        "mask": np.ones((4, 1, *SIZE), dtype=np.float32),
        "position": np.zeros(4, dtype=np.float32),
    }

    assert not probe(Session(tmp_path / NETWORK, providers=(CPU,)), examples).is_shared


@pytest.mark.gpu
@pytest.mark.skipif(CUDA not in onnxruntime.get_available_providers(), reason="no CUDA provider here")
def test_on_a_gpu_a_sample_gets_the_same_bytes_in_any_company_and_what_the_cpu_says() -> None:
    predictor = Predictor.load(active_artefact(), providers=(CUDA, CPU))
    given = predictor.examples()
    batcher = Batcher(predictor.runner, given)
    with batcher.lane(ROUTINE) as lane:
        together = lane.run(given)
        alone = lane.run({name: values[3:4] for name, values in given.items()})
    batcher.close()

    assert {name: values[3:4].tobytes() for name, values in together.items()} == {
        name: values.tobytes() for name, values in alone.items()
    }
    assert difference(real_session().run(given), together) <= PARITY


@pytest.mark.slow
def test_scores_of_a_study_are_the_same_bytes_alone_and_among_others(brain: Callable[..., Volume]) -> None:
    predictor = Predictor.load(active_artefact())
    direct = predictor.predict(brain())
    neighbours = [brain(bright_mm=(20.0, 0.0, 10.0)), brain(spacing_mm=(2.5, 2.0, 2.0))]
    batcher = Batcher(real_session(), predictor.examples())

    def score(volume: Volume, priority: int, delay_s: float) -> bytes:
        time.sleep(delay_s)
        with batcher.lane(priority) as lane:
            found = predictor.through(lane).predict(volume)
        return found.map.tobytes() + repr((found.study_score, found.p_value, found.heads)).encode()

    alone = score(brain(), ROUTINE, 0)
    with ThreadPoolExecutor() as threads:
        crowd = [
            threads.submit(score, brain(), ROUTINE, 0.05),
            threads.submit(score, neighbours[0], ROUTINE, 0),
            threads.submit(score, neighbours[1], STAT, 0.3),
            threads.submit(score, brain(), STAT, 0.2),
        ]
        found = [answer.result() for answer in crowd]
    batcher.close()

    expected = direct.map.tobytes() + repr((direct.study_score, direct.p_value, direct.heads)).encode()
    assert alone == expected
    assert (found[0], found[3]) == (alone, alone)
    assert found[1] != alone
