import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.artefact import NETWORK, Artefact
from models.catalogue import active_artefact
from models.errors import ArtefactError
from models.providers import CPU, PREFERENCE
from models.runtime import Session, difference, open_session, random_operators
from tests.picture_models import SIZE, write_network


def feeds(count: int, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    return {
        "x": np.random.default_rng(seed).random((count, 1, *SIZE), dtype=np.float32),
        "mask": np.ones((count, 1, *SIZE), dtype=np.float32),
        "position": np.zeros(count, dtype=np.float32),
    }


@pytest.fixture
def network(tmp_path: Path) -> Path:
    write_network(tmp_path / NETWORK)
    return tmp_path / NETWORK


def test_file_that_is_no_network_is_named(tmp_path: Path) -> None:
    (tmp_path / NETWORK).write_bytes(b"not a network")

    with pytest.raises(ArtefactError, match=NETWORK):
        Session(tmp_path / NETWORK)


def test_outputs_are_those_of_the_graph(network: Path) -> None:
    given = feeds(3)

    found = Session(network).run(given)

    assert set(found) == {"image_score", "pixel_score"}
    np.testing.assert_array_equal(found["pixel_score"], np.abs(given["x"] - 0.5))
    np.testing.assert_array_equal(found["image_score"], np.abs(given["x"] - 0.5).max(axis=(1, 2, 3)))


def test_arrays_that_are_views_are_read_as_they_look(network: Path) -> None:
    given = feeds(6)
    turned = {**given, "x": given["x"][::-2].transpose(0, 1, 3, 2), "mask": given["mask"][::-2]}
    turned["position"] = given["position"][::-2]

    found = Session(network).run(turned)

    np.testing.assert_array_equal(found["pixel_score"], np.abs(turned["x"] - 0.5))


def test_any_number_of_samples_runs_in_batches(network: Path) -> None:
    given = feeds(11)

    found = Session(network, batch=4).run_batched(given)

    assert found["image_score"].shape == (11,)
    np.testing.assert_array_equal(found["pixel_score"], np.abs(given["x"] - 0.5))


def test_runs_repeat_to_the_byte() -> None:
    artefact = Artefact.load(active_artefact().path)
    session = Session(artefact.path / NETWORK, providers=(CPU,))
    rows, columns = artefact.manifest.input.shape[1:]
    slices = np.random.default_rng(0).random((3, len(artefact.manifest.input.context), rows, columns))
    given = {"slices": slices.astype(np.float32), "position": np.zeros(3, np.float32)}

    first, second = session.run(given), session.run(given)

    assert all(np.array_equal(first[name], second[name]) for name in session.outputs)


def test_machine_without_a_gpu_runs_on_the_cpu_whatever_is_asked_for(network: Path, tmp_path: Path) -> None:
    session = open_session(
        network, feeds(1), providers=PREFERENCE, threads=1, half=True, engines=tmp_path / "engines"
    )

    assert session.providers[-1] == CPU
    np.testing.assert_array_equal(session.run(feeds(2))["pixel_score"], np.abs(feeds(2)["x"] - 0.5))


def test_network_with_other_inputs_than_the_manifest_is_refused(network: Path) -> None:
    example = feeds(1)
    example["slices"] = example.pop("x")

    with pytest.raises(ArtefactError, match="inputs"):
        open_session(network, example, providers=(CPU,), threads=1)


def test_network_of_another_size_than_the_manifest_is_refused_before_the_first_study(network: Path) -> None:
    example = feeds(1)
    example["x"] = np.zeros((1, 1, 8, 8), np.float32)

    with pytest.raises(ArtefactError, match="does not run"):
        open_session(network, example, providers=(CPU,), threads=1)


def test_difference_is_a_share_of_the_largest_value() -> None:
    expected = {"a": np.full(2000, 4.0, np.float32), "b": np.full(2000, 1.0, np.float32)}

    assert difference(expected, {"a": np.full(2000, 4.4, np.float32), "b": expected["b"]}) == pytest.approx(
        0.1
    )
    assert difference(expected, expected) == 0


def test_a_single_pixel_in_a_thousand_may_differ_but_not_more() -> None:
    expected = np.ones(10_000, np.float32)
    few, many = expected.copy(), expected.copy()
    few[:5], many[:50] = 2, 2

    assert difference({"map": expected}, {"map": few}) == 0
    assert difference({"map": expected}, {"map": many}) == 1


def test_what_is_no_number_never_agrees() -> None:
    overflown = {"map": np.array([1.0, np.nan], np.float32)}

    assert np.isnan(difference({"map": np.ones(2, np.float32)}, overflown))


def test_operators_that_draw_are_found_by_name(tmp_path: Path) -> None:
    write_network(tmp_path / "drawing.onnx", extra=("RandomNormal",))
    write_network(tmp_path / "plain.onnx")

    assert random_operators(tmp_path / "drawing.onnx") == ("RandomNormal",)
    assert random_operators(tmp_path / "plain.onnx") == ()


def test_loading_a_model_tells_nobody(tmp_path: Path) -> None:
    """ONNX Runtime reports its use to its maker by way of a file in the home folder, unless told not to."""
    program = (
        "from models.catalogue import active_artefact; from models.predictor import load_predictor;"
        "load_predictor(active_artefact())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}

    subprocess.run(
        [sys.executable, "-c", program], env=environment | {"HOME": str(tmp_path)}, check=True, timeout=60
    )

    assert list(tmp_path.rglob("*")) == []
