"""The network on an inference server instead of here: the KServe v2 protocol, as Triton speaks it.

One HTTP request runs one batch. Tensors travel as bytes (the binary tensor data extension of Triton), so
that no number is rounded on the way. The server knows a model by the hash of its artefact.
"""

import json
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from models.errors import ServerAwayError, ServerRefusedError
from models.exhaustion import says_out_of_memory
from models.runner import Feeds, Outputs
from models.runtime import BATCH

PROVIDER = "triton"
TIMEOUT = httpx.Timeout(120.0, connect=5.0)  # seconds; the first for one batch
HEADER = "Inference-Header-Content-Length"  # bytes of the JSON before the tensors
NOT_FOUND = 404
AWAY = frozenset({502, 503, 504})  # a proxy without its server, or a server that is starting


class TritonSession:
    """One model of a server.

    Parameters
    ----------
    url : str
        Of the server, ``http(s)://host:port``.
    model : str
        Its name there.
    batch : int
        Most samples in one request of `run_batched`.

    Raises
    ------
    ServerAwayError
        If the server does not answer.
    ServerRefusedError
        If it does not have the model.
    """

    def __init__(self, url: str, model: str, *, batch: int = BATCH) -> None:
        self._client = httpx.Client(base_url=url, timeout=TIMEOUT, trust_env=False)
        weakref.finalize(self, self._client.close)
        self._path = f"/v2/models/{model}"
        self._model = model
        self._batch = batch
        told = self._asked("GET", self._path).json()
        self.inputs: tuple[str, ...] = tuple(one["name"] for one in told["inputs"])
        self.outputs: tuple[str, ...] = tuple(one["name"] for one in told["outputs"])

    @property
    def provider(self) -> str:
        """What runs it: the server does not say on which device."""
        return PROVIDER

    def run(self, feeds: Feeds) -> Outputs:
        """Every output of one batch by name.

        Raises
        ------
        ServerAwayError, ServerRefusedError
        MemoryError
            If the server's device has none left.
        """
        tensors = {name: np.ascontiguousarray(values, dtype="<f4") for name, values in feeds.items()}
        head = {
            "inputs": [
                {
                    "name": name,
                    "shape": list(values.shape),
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": values.nbytes},
                }
                for name, values in tensors.items()
            ],
            "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in self.outputs],
        }
        text = json.dumps(head).encode()
        answer = self._asked(
            "POST",
            f"{self._path}/infer",
            content=b"".join((text, *(values.tobytes() for values in tensors.values()))),
            headers={HEADER: str(len(text)), "Content-Type": "application/octet-stream"},
        )
        return self._read(answer)

    def run_batched(self, feeds: Feeds) -> Outputs:
        """Every output of any number of samples, in full batches."""
        count = len(next(iter(feeds.values())))
        parts = [
            self.run({name: values[start : start + self._batch] for name, values in feeds.items()})
            for start in range(0, count, self._batch)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}

    def run_each(self, parts: Iterable[Feeds]) -> Iterator[Outputs]:
        """Every output of batches, one after another."""
        return map(self.run, parts)

    def _asked(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **content)
        except httpx.HTTPError as error:
            raise ServerAwayError(ServerAwayError.__doc__) from error
        if answer.status_code in AWAY:
            raise ServerAwayError(ServerAwayError.__doc__)
        if answer.is_success:
            return answer
        if says_out_of_memory(answer.text):
            raise MemoryError("The server's device has no memory left.")
        if answer.status_code == NOT_FOUND or "unknown model" in answer.text:
            raise ServerRefusedError(
                f"The inference server has no model {self._model}. Put the artefact's model.onnx into its "
                "repository under that name, or unset VIGIL_TRITON."
            )
        raise ServerRefusedError(
            f"The inference server answered with status {answer.status_code}. See its log."
        )

    def _read(self, answer: httpx.Response) -> Outputs:
        """Tensors of an answer, as bytes or, from servers that know no such extension, as numbers."""
        try:
            length = int(answer.headers.get(HEADER, len(answer.content)))
            told, place = json.loads(answer.content[:length]), length
            found: Outputs = {}
            for one in told["outputs"]:
                size = one.get("parameters", {}).get("binary_data_size")
                if size is None:
                    values: NDArray[np.float32] = np.array(one["data"], dtype=np.float32)
                else:
                    values = np.frombuffer(answer.content[place : place + size], dtype="<f4")
                    place += size
                found[one["name"]] = values.reshape(one["shape"])
            return {name: found[name] for name in self.outputs}
        except (ValueError, KeyError, TypeError) as error:
            raise ServerRefusedError(
                "The inference server's answer is not of the KServe v2 protocol. Check VIGIL_TRITON."
            ) from error
