"""The test client of starlette, whose notice about its next HTTP library is not ours to heed."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

__all__ = ["TestClient"]
