"""Writes the description of the API: ``python -m tests.openapi_document [--release]``.

The routes are the one source; `docs/openapi.json` follows them. With ``--release`` the description becomes
the base line that later ones must not break: do it in the commit that releases a version, and in no other. A
break that is wanted (a new major version of the API) moves the base line too, and says so in the changelog.
"""

import json
import sys
import tempfile
from pathlib import Path

from service.api import create_app
from service.settings import Settings
from service.store import Store

ROOT = Path(__file__).resolve().parent.parent
CURRENT = ROOT / "docs" / "openapi.json"
RELEASED = ROOT / "docs" / "openapi-released.json"


def description() -> str:
    """Return the description of the API as a file holds it; nothing is asked of a database."""
    with tempfile.TemporaryDirectory() as data:
        store = Store.open("postgresql://nobody@127.0.0.1:1/nothing")
        app = create_app(store=store, settings=Settings(data=Path(data)))
        document = app.openapi()
        store.close()
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    CURRENT.write_text(description(), encoding="utf-8")
    if "--release" in sys.argv[1:]:
        RELEASED.write_text(CURRENT.read_text(encoding="utf-8"), encoding="utf-8")
