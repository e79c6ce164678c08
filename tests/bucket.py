"""An S3-compatible bucket on this machine, for as long as a test needs it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

BUCKET = "vigil-test"
ACCESS_KEY, SECRET_KEY = "access", "a secret nobody may see"


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket that answers at `endpoint`."""

    endpoint: str


@contextmanager
def bucket() -> Iterator[Bucket]:
    """Empty bucket of a moto server, in memory."""
    moto = pytest.importorskip("moto.server", reason="needs the package moto")
    s3fs = pytest.importorskip("s3fs", reason="needs the package s3fs")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        client = s3fs.S3FileSystem(
            key=ACCESS_KEY, secret=SECRET_KEY, endpoint_url=endpoint, skip_instance_cache=True
        )
        client.call_s3("create_bucket", Bucket=BUCKET)
        yield Bucket(endpoint)
    finally:
        server.stop()
