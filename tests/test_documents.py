"""What the documents name must be there."""

import re
from pathlib import Path

import pytest

from service.places import Places
from service.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / name for name in ("README.md", "SECURITY.md", "CHANGELOG.md", "helm/README.md")),
]
# Read by the wrapper and by the checks, not by the product.
OTHER_VARIABLES = {"VIGIL_PYTHON", "VIGIL_TEST_DATA", "VIGIL_TEST_DATABASE_URL", "VIGIL_TEST_OHIF"}

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@each_document
def test_every_file_of_ours_that_a_document_names_exists(document: Path) -> None:
    top = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
    named = re.findall(rf"`((?:{top})/[\w./-]+)`", document.read_text(encoding="utf-8"))

    assert [name for name in named if not (ROOT / name).exists()] == []


@each_document
def test_every_variable_that_a_document_names_is_a_setting(document: Path) -> None:
    known = {f"VIGIL_{name.upper()}" for name in Settings.model_fields} | OTHER_VARIABLES
    named = set(re.findall(r"\bVIGIL_[A-Z][A-Z_]*[A-Z]\b", document.read_text(encoding="utf-8")))

    assert named <= known


@each_document
def test_every_metric_that_a_document_names_is_exported(document: Path) -> None:
    exported = "".join(
        (ROOT / "service" / path).read_text(encoding="utf-8") for path in ("api/metrics.py", "meters.py")
    )
    named = re.findall(r"`(vigil_[a-z_]+)`", document.read_text(encoding="utf-8"))

    assert [name for name in named if f'"{name}"' not in exported] == []


def test_every_event_that_the_operations_page_explains_is_logged() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = page.split("| event | meaning |")[1].split("\n\n")[0]
    events = [
        event for row in table.splitlines()[2:] for event in re.findall(r"`([^`]+)`", row.split("|")[1])
    ]
    logged = "".join(
        path.read_text(encoding="utf-8")
        for package in ("dicom_node", "service")
        for path in (ROOT / package).rglob("*.py")
    )

    assert events
    assert [event for event in events if f'"{event}' not in logged] == []


def test_the_table_of_ports_has_every_port_that_a_role_opens() -> None:
    page = (ROOT / "docs" / "administrator.md").read_text(encoding="utf-8")
    table = page.split("### Ports\n")[1].split("\n## ")[0]
    ports = {name: field.default for name, field in Settings.model_fields.items() if name.endswith("port")}

    assert len(ports) > 5
    assert [name for name in ports if f"`VIGIL_{name.upper()}`" not in table] == []
    assert [
        port for port in ports.values() if port and not re.search(rf"^\| {port} ", table, re.MULTILINE)
    ] == []


def test_the_operations_page_says_of_every_folder_of_the_data_whether_it_may_go() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = page.split("## The data folder\n")[1].split("\n\n")[0]
    told = {name for row in table.splitlines() for name in re.findall(r"`([\w.-]+)/`", row.split("|")[1])}
    places = Places(data=Path("data"), scratch=None)
    folders = [getattr(places, name) for name in dir(Places) if name.endswith("_folder")]

    assert len(folders) > 5
    assert {folder.name for folder in folders} <= told
    assert re.search(r"^\| `log/` \|.*only copy.*\| \*\*never\*\*", table, re.MULTILINE)
