"""Alert rules, dashboard and runbooks: right in themselves, and about metrics that there are."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest

from service.api import create_app
from service.meters import DeliveryMeters, Meters, NodeMeters
from service.settings import Settings
from service.store import Store
from tests.seeds import MODEL
from tests.web_client import TestClient

ROOT = Path(__file__).resolve().parent.parent
RULES = ROOT / "deploy" / "prometheus" / "alerts.yaml"
RULES_TEST = RULES.with_name("alerts_test.yaml")
DASHBOARD = ROOT / "deploy" / "grafana" / "vigil.json"
RUNBOOKS = ROOT / "docs" / "runbooks"
PARTS = ("## Symptom", "## What it means", "## What to do", "## Commands")

RULE_GROUPS = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
ALERTS = [rule for group in RULE_GROUPS for rule in group["rules"] if "alert" in rule]
RECORDED = {rule["record"] for group in RULE_GROUPS for rule in group["rules"] if "record" in rule}

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")


def expressions(panels: list[dict[str, Any]]) -> Iterator[str]:
    for panel in panels:
        yield from (target["expr"] for target in panel.get("targets", ()))
        yield from expressions(panel.get("panels", []))


def dashboard() -> list[str]:
    return list(expressions(json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]))


def rules() -> list[str]:
    return [rule["expr"] for group in RULE_GROUPS for rule in group["rules"]]


def promtool(*arguments: str) -> None:
    done = subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    promtool("check", "rules", str(RULES))
    promtool("check", "config", "--syntax-only", str(RULES.with_name("prometheus.yaml")))


@needs_promtool
def test_a_healthy_site_alarms_nobody_and_each_fault_its_alert() -> None:
    promtool("test", "rules", str(RULES_TEST))


@needs_promtool
def test_promtool_understands_every_panel_of_the_dashboard(tmp_path: Path) -> None:
    panels = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(dashboard())]
    assert panels
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": panels}]}))

    promtool("check", "rules", "--lint=none", str(file))


@needs_promtool
def test_the_dashboard_adds_failed_studies_to_those_that_nobody_could_judge(tmp_path: Path) -> None:
    """Two APIs tell the same; the greater number of the two states would hide the other."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    (panel,) = (panel for panel in panels if panel["title"] == "Not ranked")
    (told,) = expressions([panel])
    series = [
        {"series": f'vigil_studies{{instance="{api}", state="{state}"}}', "values": f"{number}x9"}
        for api in ("api-1", "api-2")
        for state, number in (("failed", 3), ("not_assessable", 800), ("scored", 9000))
    ]
    asked = {"expr": told, "eval_time": "5m", "exp_samples": [{"labels": "{}", "value": 803}]}
    file = tmp_path / "panel.yaml"
    test = {"interval": "1m", "input_series": series, "promql_expr_test": [asked]}
    file.write_text(yaml.safe_dump({"tests": [test]}))

    promtool("test", "rules", str(file))


@needs_promtool
def test_the_dashboard_calls_nothing_delivered_that_nobody_could_count(tmp_path: Path) -> None:
    """With the database away no destination is told of: that is no zero."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    (told,) = expressions([panel for panel in panels if panel["title"] == "Undelivered"])
    zero = [{"labels": "{}", "value": 0}]
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": "vigil_database_up", "values": f"{is_up}x9"}]
            if is_up is not None
            else [],
            "promql_expr_test": [{"expr": told, "eval_time": "5m", "exp_samples": samples}],
        }
        for is_up, samples in ((1, zero), (0, []), (None, []))
    ]
    file = tmp_path / "panel.yaml"
    file.write_text(yaml.safe_dump({"tests": tests}))

    promtool("test", "rules", str(file))


def test_what_the_dashboard_shows_as_now_is_of_now() -> None:
    """The last value of a range goes on shining when nobody tells any more."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    targets = [target for panel in panels if panel["type"] == "stat" for target in panel["targets"]]

    assert targets
    assert all(target.get("instant") for target in targets)


def test_every_alert_was_seen_to_fire() -> None:
    tests = yaml.safe_load(RULES_TEST.read_text(encoding="utf-8"))["tests"]

    assert {alert["alert"] for alert in ALERTS} == {test["name"] for test in tests[1:]}


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    pages = {alert["annotations"]["runbook"]: alert["alert"] for alert in ALERTS}

    assert len(pages) == len(ALERTS)
    assert {ROOT / page for page in pages} == set(RUNBOOKS.glob("*.md")) - {RUNBOOKS / "README.md"}
    for page, alert in pages.items():
        text = (ROOT / page).read_text(encoding="utf-8")
        assert text.startswith(f"# {alert}\n")
        assert [line for line in text.splitlines() if line.startswith("## ")] == list(PARTS)


def test_every_alert_says_how_urgent_it_is_and_stands_in_the_table() -> None:
    table = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    for alert in ALERTS:
        severity = alert["labels"]["severity"]
        assert severity in {"critical", "warning"}
        assert f"| [{alert['alert']}]({Path(alert['annotations']['runbook']).name}) | {severity} |" in table


def test_every_rule_that_the_dashboard_reads_is_recorded() -> None:
    read = {name for expr in dashboard() for name in re.findall(r"vigil:[a-z0-9_:]+", expr)}

    assert read
    assert read <= RECORDED


@pytest.mark.postgres
def test_every_metric_of_rules_and_dashboard_is_in_a_scrape(store: Store, tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, access="open", audit_syslog="audit.example:6514", spool_quota_mb=1)
    (tmp_path / "scratch").mkdir()
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / ".used").write_text("0")
    client = TestClient(
        create_app(store=store, settings=settings, model=MODEL), base_url="http://127.0.0.1:8080"
    )
    scraped = client.get("/metrics").text + "".join(
        generate_latest(meters.registry).decode()
        for meters in (NodeMeters(settings), Meters(), DeliveryMeters())
    )
    families = set(re.findall(r"^# TYPE (\S+)", scraped, re.MULTILINE))

    asked = {name for expr in (*rules(), *dashboard()) for name in re.findall(r"\bvigil_[a-z_]+", expr)}

    assert asked
    assert {name for name in asked if re.sub(r"_(bucket|sum|count)$", "", name) not in families} == set()
