"""Writes what is derived from the settings and the peers file: ``python -m tests.settings_documents``.

They are the one source: `docs/settings.md` and the chart's schema of `settings`, `peers`, `channels` follow.
"""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from dicom_node.channel import Channel
from dicom_node.peer import Peer
from service.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "settings.md"
CHART_SCHEMA = ROOT / "helm" / "values.schema.json"
# The chart gives these to every role itself.
SET_BY_CHART = {
    *(
        "data",
        "database_url",
        "database_url_file",
        "key_file",
        "peers",
        "host",
        "port",
        "api_host",
        "api_port",
    ),
    *("metrics_host", "node_metrics_port", "worker_metrics_port", "deliver_metrics_port"),
    *("store", "store_endpoint", "store_access_key_file", "store_secret_key_file"),
    *("scratch", "tls_certificate", "tls_authorities"),
}
# Where the chart takes less than the program: its pods have no capability to bind a port of root.
NARROWED = {"hl7_port": {"minimum": 1024}}
KEPT = ("type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "pattern", "description")

HEAD = """# Settings

Every setting is an environment variable. Some can also be given on the command line, which wins
(`vigil COMMAND --help`).
This page is made from `service/settings.py` by `python -m tests.settings_documents`.

| variable | default | meaning |
|---|---|---|
"""


def settings_table() -> str:
    """Return the page of all settings."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        rows.append(f"| `VIGIL_{name.upper()}` | {default} | {field.description} |")
    return HEAD + "\n".join(rows) + "\n"


def chart_settings() -> dict[str, Any]:
    """Return the schema of the chart's ``settings``."""
    properties = Settings.model_json_schema()["properties"]
    return {
        "description": "Settings of all roles, by their names without VIGIL_.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: {key: value for key, value in _plain(schema).items() if key in KEPT}
            | NARROWED.get(name, {})
            for name, schema in properties.items()
            if name not in SET_BY_CHART
        },
    }


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a setting's schema without the branch for "unset"."""
    branches = [branch for branch in schema.get("anyOf", []) if branch.get("type") != "null"]
    return {**schema, **branches[0]} if branches else schema


def chart_schema() -> str:
    """Return the chart's schema as it is, with what follows the program as it should be."""
    schema = json.loads(CHART_SCHEMA.read_text(encoding="utf-8"))
    schema["definitions"] = {}
    for name, kind, meaning in (
        ("peers", tuple[Peer, ...], "Who may send, and where results go."),
        ("channels", tuple[Channel, ...], "Who else is told, and who may send orders."),
    ):
        found = TypeAdapter[Any](kind).json_schema(ref_template="#/definitions/{model}")
        schema["definitions"] |= found.pop("$defs")
        schema["properties"][name] = {"description": meaning, **found}
    schema["properties"]["settings"] = chart_settings()
    return json.dumps(schema, indent=2) + "\n"


def main() -> None:
    """Write both files."""
    TABLE.write_text(settings_table(), encoding="utf-8")
    CHART_SCHEMA.write_text(chart_schema(), encoding="utf-8")
    sys.stdout.write(f"written: {TABLE.name}, {CHART_SCHEMA.name}\n")


if __name__ == "__main__":
    main()
