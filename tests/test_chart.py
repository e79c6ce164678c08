import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings

CHART = Path(__file__).resolve().parent.parent / "helm"
TEMPLATES = sorted(path for path in (CHART / "templates").rglob("*") if path.is_file())
EXAMPLES = sorted((CHART / "ci").glob("*.yaml"))
# Text of the templates where `$values` stands for one pool of the workers.
POOL = {
    path: path.read_text(encoding="utf-8").replace("$values", ".Values.worker.infer") for path in TEMPLATES
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
    jsonschema = pytest.importorskip("jsonschema", reason="needs the package jsonschema")
    values = load(CHART / "values.yaml")

    jsonschema.validate(merged(values, load(example) if example else {}), schema())


@pytest.mark.parametrize(
    "wrong",
    [
        {"settings": {"quiet": 3}},
        {"settings": {"quiet_s": 0}},
        {"node": {"port": 104}},
        {"peers": [{"name": "pacs", "aet": "PACS", "host": "pacs.example", "roles": ["destination"]}]},
        {"database": {"secretName": ""}},
        {"api": {"allowedFrom": [{}]}},
        {"store": {"url": "s3://key:secret@bucket"}},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_the_schema_refuses_what_would_fail_later(wrong: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="needs the package jsonschema")
    values = merged(load(CHART / "values.yaml"), wrong)

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, schema())


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


def test_every_variable_the_chart_sets_is_a_setting() -> None:
    names = {
        name
        for path in TEMPLATES
        for name in re.findall(r"name: VIGIL_([A-Z_]+)$", path.read_text(), re.MULTILINE)
    }

    assert {"DATA", "PEERS", "KEY_FILE", "DATABASE_URL"} <= names
    assert {name.lower() for name in names} <= set(Settings.model_fields)


def test_no_service_of_the_cluster_can_overrule_a_setting() -> None:
    """A service named vigil-api would set VIGIL_API_PORT in every pod of its namespace."""
    assert "enableServiceLinks: false" in (CHART / "templates" / "_pod.tpl").read_text()


@pytest.mark.parametrize("example", [None, *EXAMPLES], ids=lambda path: path.name if path else "defaults")
def test_helm_finds_nothing_wrong(example: Path | None) -> None:
    if shutil.which("helm") is None:
        pytest.skip("needs helm")
    chosen = ["--values", str(example)] if example else []

    subprocess.run(["helm", "lint", "--strict", str(CHART), *chosen], check=True, timeout=120)
    subprocess.run(["helm", "template", "site", str(CHART), *chosen], check=True, timeout=120)
