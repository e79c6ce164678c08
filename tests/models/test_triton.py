"""Against a small server that speaks the KServe v2 protocol around ONNX Runtime; no real Triton was tried."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.artefact import NETWORK, load_artefact
from models.batcher import Batcher
from models.errors import DeviceMemoryError, ServerAwayError, ServerRefusedError
from models.exhaustion import is_out_of_memory
from models.predictor import load_predictor
from models.providers import CPU
from models.runtime import Session
from models.triton import HEADER, TritonSession
from models.volume import Volume
from tests.picture_models import SIZE, write_artefact, write_network


@dataclass
class Server:
    """Models by name, and how the server behaves."""

    models: dict[str, Session]
    url: str = ""
    answers_bytes: bool = True
    status: int = 200
    error: str = ""
    asked: list[str] = field(default_factory=list)


class Http(ThreadingHTTPServer):
    daemon_threads = True
    fake: Server


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def fake(self) -> Server:
        assert isinstance(self.server, Http)
        return self.server.fake

    def do_GET(self) -> None:
        model = self.fake.models.get(self.path.split("/")[3])
        if model is None:
            self._answer({"error": "Request for unknown model"}, status=400)
            return
        self._answer(
            {
                "inputs": [{"name": name, "datatype": "FP32"} for name in model.inputs],
                "outputs": [{"name": name, "datatype": "FP32"} for name in model.outputs],
            }
        )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.fake.asked.append(self.path)
        if self.fake.status != 200:
            self._answer({"error": self.fake.error}, status=self.fake.status)
            return
        place = int(self.headers[HEADER])
        feeds: dict[str, NDArray[np.float32]] = {}
        for one in json.loads(body[:place])["inputs"]:
            size = one["parameters"]["binary_data_size"]
            feeds[one["name"]] = np.frombuffer(body[place : place + size], "<f4").reshape(one["shape"])
            place += size
        assert place == len(body)
        found = self.fake.models[self.path.split("/")[3]].run(feeds)
        outputs, tail = [], b""
        for name, values in found.items():
            told = {"name": name, "datatype": "FP32", "shape": list(values.shape)}
            if self.fake.answers_bytes:
                outputs.append(told | {"parameters": {"binary_data_size": values.nbytes}})
                tail += values.tobytes()
            else:
                outputs.append(told | {"data": [float(value) for value in values.ravel()]})
        self._answer({"outputs": outputs}, tail=tail)

    def _answer(self, content: object, *, status: int = 200, tail: bytes = b"") -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        if tail:
            self.send_header(HEADER, str(len(text)))
        self.send_header("Content-Length", str(len(text) + len(tail)))
        self.end_headers()
        self.wfile.write(text + tail)

    def log_message(self, *_: object) -> None:
        """Nothing: pytest shows what matters."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    write_network(tmp_path / NETWORK)
    fake = Server({"grey": Session(tmp_path / NETWORK, providers=(CPU,))})
    http = Http(("127.0.0.1", 0), Handler)
    http.fake = fake
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    fake.url = f"http://127.0.0.1:{http.server_address[1]}"
    yield fake
    http.shutdown()
    http.server_close()
    thread.join()


def feeds(count: int) -> dict[str, NDArray[np.float32]]:
    return {
        "x": np.random.default_rng(0).random((count, 1, *SIZE), dtype=np.float32),
        "mask": np.ones((count, 1, *SIZE), dtype=np.float32),
        "position": np.zeros(count, dtype=np.float32),
    }


@pytest.mark.parametrize("answers_bytes", [True, False])
def test_the_server_gives_the_bytes_that_the_network_gives_here(server: Server, answers_bytes: bool) -> None:
    server.answers_bytes = answers_bytes
    expected = server.models["grey"].run(feeds(5))

    found = TritonSession(server.url, "grey", batch=2).run_batched(feeds(5))

    assert {name: values.tobytes() for name, values in found.items()} == {
        name: values.tobytes() for name, values in expected.items()
    }
    assert server.asked == ["/v2/models/grey/infer"] * 3


def test_a_model_is_scored_on_the_server_under_its_hash(server: Server, tmp_path: Path) -> None:
    artefact = load_artefact(write_artefact(tmp_path / "model"))
    server.models[artefact.sha256] = server.models["grey"]
    voxels = np.random.default_rng(0).random((3, *SIZE), dtype=np.float32)
    volume = Volume(voxels=voxels, spacing_mm=(1, 1, 1), affine=np.eye(4))

    here = load_predictor(artefact, providers=(CPU,)).predict(volume)
    remote = load_predictor(artefact, server=server.url)
    batcher = Batcher(remote.runner, remote.examples())
    with batcher.lane(10) as lane:
        there = remote.through(lane).predict(volume)
    batcher.close()

    assert there.map.tobytes() == here.map.tobytes()
    assert there.study_score == here.study_score


def test_a_server_that_is_away_or_starting_is_waited_for(server: Server) -> None:
    session = TritonSession(server.url, "grey")
    server.status = 503
    with pytest.raises(ServerAwayError, match="VIGIL_TRITON"):
        session.run(feeds(1))
    with pytest.raises(ServerAwayError):
        TritonSession("http://127.0.0.1:9", "grey")


def test_a_model_that_the_server_lacks_is_named_with_the_remedy(server: Server) -> None:
    with pytest.raises(ServerRefusedError, match=r"no model deadbeef\. Put the artefact"):
        TritonSession(server.url, "deadbeef")


def test_an_answer_in_another_protocol_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    session = TritonSession(server.url, "grey")
    monkeypatch.setattr(session, "_path", "/v2/models/grey/ready")  # answered, with something else
    with pytest.raises(ServerRefusedError):
        session._read(session._asked("GET", "/v2/models/grey"))


def test_memory_of_the_servers_device_counts_like_our_own(server: Server) -> None:
    session = TritonSession(server.url, "grey")
    batcher = Batcher(session, feeds(4))
    server.status, server.error = 500, "onnx runtime error 2: CUDA failure 2: out of memory"

    with batcher.lane(10) as lane, pytest.raises(DeviceMemoryError):
        lane.run(feeds(4))
    batcher.close()

    assert (batcher.limit, is_out_of_memory(MemoryError())) == (1, True)
