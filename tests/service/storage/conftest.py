from collections.abc import Iterator

import pytest

from tests.bucket import Bucket, bucket


@pytest.fixture(scope="module")
def served() -> Iterator[Bucket]:
    with bucket() as running:
        yield running
