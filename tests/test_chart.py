"""The chart's values: what the schema takes and refuses, and that templates use all of them."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

CHART = Path(__file__).resolve().parent.parent / "helm"
TEMPLATES = sorted(path for path in (CHART / "templates").rglob("*") if path.is_file())
EXAMPLES = sorted((CHART / "ci").glob("*.yaml"))
POOLS = ("infer", "deliver", "shadow")
# Text of the templates where `$values` stands for one pool of the workers, which is taken by its name.
POOL = {
    path: path.read_text(encoding="utf-8")
    .replace("index $.Values.worker $pool", " ".join(f".Values.worker.{pool}" for pool in POOLS))
    .replace("$values", ".Values.worker.infer")
    for path in TEMPLATES
}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def schema() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    return document


def merged(values: Any, over: Any) -> Any:
    """Values as Helm lays a site's over the chart's: mappings by key, everything else replaced."""
    if isinstance(values, dict) and isinstance(over, dict):
        return values | {key: merged(values.get(key), value) for key, value in over.items()}
    return over


def undeclared(values: Any, declared: dict[str, Any], path: str = "") -> list[str]:
    """Paths of values that the schema does not name."""
    properties = declared.get("properties")
    if not isinstance(values, dict) or properties is None:
        return []
    found = []
    for key, value in values.items():
        here = f"{path}.{key}"
        found += undeclared(value, properties[key], here) if key in properties else [here]
    return found


def test_the_schema_names_every_value_of_the_chart() -> None:
    assert undeclared(load(CHART / "values.yaml"), schema()) == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_schema_names_every_value_of_an_example(example: Path) -> None:
    assert undeclared(load(example), schema()) == []


@pytest.mark.parametrize("example", [None, *EXAMPLES], ids=lambda path: path.name if path else "defaults")
def test_the_schema_accepts_what_it_should(example: Path | None) -> None:
    values = load(CHART / "values.yaml")

    jsonschema.validate(merged(values, load(example) if example else {}), schema())


@pytest.mark.parametrize(
    "wrong",
    [
        {"settings": {"quiet": 3}},
        {"settings": {"quiet_s": 0}},
        {"settings": {"hl7_port": 575}},
        {"node": {"port": 104}},
        {"peers": [{"name": "pacs", "aet": "PACS", "host": "pacs.example", "roles": ["printer"]}]},
        {"channels": [{"name": "board", "protocol": "pigeon"}]},
        {"settings": {"tls_certificate": "/etc/vigil/tls/node.pem"}},
        {"image": {"digests": {"node": "latest"}}},
        {"worker": {"shadow": {"replicas": 2}}},
        {"database": {"secretName": ""}},
        {"api": {"allowedFrom": [{}]}},
        {"store": {"url": "s3://key:secret@bucket"}},
        {"metrics": {"port": 80}},
        {"worker": {"infer": {"autoscaling": {"enabled": "yes"}}}},
        {"worker": {"infer": {"gpu": {"count": -1}}}},
        {"tls": {"secretName": None}},
        {"migration": {"image": "elsewhere"}},
        {"api": {"ingress": {"host": "vigil.example"}}},
    ],
    ids=lambda wrong: str(wrong)[:40],
)
def test_the_schema_refuses_what_would_fail_later(wrong: dict[str, Any]) -> None:
    values = merged(load(CHART / "values.yaml"), wrong)

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, schema())


def test_the_secret_of_the_database_holds_the_url_and_no_end_of_line(tmp_path: Path) -> None:
    """KEDA parses the entry as it stands; an editor ends the file with a line feed, which no URL may have."""
    page = (CHART / "README.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^.*kubectl create secret generic vigil-database.*$", page, re.MULTILINE)
    kubectl = tmp_path / "kubectl"
    kubectl.write_text('#!/bin/sh\nfor last; do :; done\ncat "${last#--from-file=url=}"\n')
    kubectl.chmod(0o755)
    (tmp_path / "database-url").write_text("postgresql://vigil:x@host/vigil\n", encoding="utf-8")

    told = subprocess.run(
        ["/bin/sh", "-c", line],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        timeout=60,
        check=True,
    )

    assert told.stdout == b"postgresql://vigil:x@host/vigil"


def test_templates_use_no_value_that_the_chart_does_not_have() -> None:
    values = load(CHART / "values.yaml")
    for path, text in POOL.items():
        for used in re.findall(r"\.Values\.([A-Za-z.]+)", text):
            found = values
            for part in used.rstrip(".").split("."):
                assert isinstance(found, dict), (path.name, used)
                assert part in found or found == values["settings"], (path.name, used)
                found = found.get(part)


def test_the_chart_has_no_value_that_no_template_uses() -> None:
    text = "\n".join(POOL.values())
    for group, values in load(CHART / "values.yaml").items():
        for name in values if isinstance(values, dict) else ():
            assert f".Values.{group}" in text
            assert group == "settings" or f".Values.{group}.{name}" in text, f"{group}.{name}"
