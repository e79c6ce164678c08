"""The machine of compose.yaml and its override: what stands in them is there, closed and without a secret."""

import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dicom_node.peers import Peers
from service.settings import Settings
from service.study import Pool
from service.supervisor import STOP_TIMEOUT_S

ROOT = Path(__file__).resolve().parent.parent
COMPOSE, OVERRIDE = (
    yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    for name in ("compose.yaml", "compose.override.yaml")
)
# Only `migrate` stands in both.
SERVICES: dict[str, dict[str, Any]] = {
    **COMPOSE["services"],
    **OVERRIDE["services"],
    "migrate": COMPOSE["services"]["migrate"] | OVERRIDE["services"]["migrate"],
}
SECRETS = COMPOSE["secrets"] | OVERRIDE["secrets"]
ROLES = {"migrate", "node", "worker", "deliver", "shadow", "api"}


def test_docker_compose_finds_nothing_wrong() -> None:
    if shutil.which("docker-compose") is None:
        pytest.skip("needs docker-compose")
    assert set(configured()["services"]) == set(SERVICES)


def configured(*files: str) -> dict[str, Any]:
    """What docker-compose makes of the files, or of those that it finds by itself."""
    named = [word for name in files for word in ("--file", name)]
    done = subprocess.run(
        ["docker-compose", *named, "--profile", "shadow", "config"],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )
    config: dict[str, Any] = yaml.safe_load(done.stdout)
    return config


def test_a_site_with_a_database_of_its_own_starts_none_and_reaches_it() -> None:
    if shutil.which("docker-compose") is None:
        pytest.skip("needs docker-compose")

    services = configured("compose.yaml", "deploy/compose/own-database.yaml")["services"]

    assert set(services) == set(SERVICES) - {"database", "pacs"}
    for role in ROLES:
        assert set(services[role]["networks"]) == {"inside", "outside"}, role
        assert set(services[role].get("depends_on", ())) <= set(services), role


def test_a_worker_reaches_a_bucket_while_the_database_is_a_container() -> None:
    if shutil.which("docker-compose") is None:
        pytest.skip("needs docker-compose")

    files = ("compose.yaml", "compose.override.yaml", "deploy/compose/own-database.yaml")
    services = configured(*files)["services"]

    assert set(services) == set(SERVICES)
    assert set(services["worker"]["networks"]) == {"inside", "outside"}
    assert set(services["database"]["networks"]) == {"inside"}


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_peers_file_that_another_takes_the_place_of_is_followed(role: str) -> None:
    """A file that is mounted alone stays what it was at the start; a folder shows what stands in it."""
    service = SERVICES[role]
    peers = Path(service["environment"]["VIGIL_PEERS"])
    sources = {target: source for source, target, *_ in (one.split(":") for one in service["volumes"])}

    assert (ROOT / sources[str(peers.parent)]).is_dir()
    assert (ROOT / sources[str(peers.parent)] / peers.name).is_file()


def test_every_secret_is_a_file_that_is_made_and_never_committed(tmp_path: Path) -> None:
    shutil.copy(ROOT / "deploy/compose/make-secrets", tmp_path)
    for _ in range(2):
        subprocess.run([tmp_path / "make-secrets"], check=True, timeout=120)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}

    named = {Path(secret["file"]).name for secret in SECRETS.values()} | {"orthanc-users.json"}
    assert set(made) == named
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert made["database-password"] in made["database-url"]
    assert len(made["site-key"]) == 64
    assert "deploy/compose/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_secrets_that_are_there_stay(tmp_path: Path) -> None:
    script = tmp_path / "make-secrets"
    shutil.copy(ROOT / "deploy/compose/make-secrets", script)
    subprocess.run([script], check=True, timeout=120)
    before = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}

    subprocess.run([script], check=True, timeout=120)

    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == before


def test_no_password_stands_in_the_file() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if "PASSWORD" in variable or "SECRET" in variable or "URL" in variable:
                assert str(value).startswith("/run/secrets/"), (name, variable)


def test_only_the_node_is_open_to_other_machines() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert ports.pop("node") == ["11112:11112"]
    assert ports
    assert all(port.startswith("127.0.0.1:") for published in ports.values() for port in published)
    assert COMPOSE["networks"]["inside"]["internal"] is True
    assert SERVICES["database"]["networks"] == ["inside"]


@pytest.mark.parametrize("role", sorted(ROLES))
def test_every_role_runs_with_as_little_as_it_needs(role: str) -> None:
    service = SERVICES[role]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert {"site-key", "database-url"} <= set(service["secrets"])
    settings = {name for name in service["environment"] if name.startswith("VIGIL_")}
    assert settings <= {f"VIGIL_{name.upper()}" for name in Settings.model_fields}


def test_every_pool_has_its_service_and_time_to_stop() -> None:
    pools = {
        service["command"][2] for service in SERVICES.values() if service.get("command", [""])[0] == "worker"
    }

    # The process of deliveries tells messages too.
    assert pools == set(Pool) - {Pool.MESSAGE}
    for role in ROLES:
        assert float(SERVICES[role]["stop_grace_period"].removesuffix("s")) > STOP_TIMEOUT_S


def test_every_image_has_a_tag_and_every_file_is_there() -> None:
    for service in SERVICES.values():
        assert re.fullmatch(r"[\w./-]+:[\w.-]+", service["image"])
        assert not service["image"].endswith(":latest")
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("./") and "/secrets/" not in source:
                assert (ROOT / source).exists(), source


def test_prometheus_asks_every_role_where_it_answers() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yaml").read_text(encoding="utf-8"))
    asked = {
        target: group["labels"]["role"]
        for job in config["scrape_configs"]
        for group in job["static_configs"]
        for target in group["targets"]
    }
    answers = {
        f"{role}:{value}": role
        for role, service in SERVICES.items()
        for name, value in service.get("environment", {}).items()
        if name.endswith("_METRICS_PORT")
    }

    assert asked == answers | {"api:8080": "api"}


def test_a_database_that_still_sets_itself_up_is_waited_for() -> None:
    """Its image does so with a server that listens on no address; a restore asks only once."""
    (ready,) = (word for word in SERVICES["database"]["healthcheck"]["test"] if word.startswith("--host="))
    page = (ROOT / "docs" / "compose.md").read_text(encoding="utf-8")

    assert ready == "--host=127.0.0.1"
    assert re.search(rf"up --detach database\nuntil .*pg_isready {ready}; do .*\n.* restore ", page)


def test_the_example_peers_can_be_read() -> None:
    (pacs,) = Peers.load(ROOT / "deploy/compose/peers/peers.yaml").destinations

    assert pacs.host in SERVICES


def test_grafana_finds_the_dashboard_and_its_data_source() -> None:
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "vigil.yaml").read_text())["providers"]
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    mounted = [volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]]

    assert f"{provider['options']['path']}/vigil.json" in mounted
    assert f'"uid": "{source["uid"]}"' in (ROOT / "deploy" / "grafana" / "vigil.json").read_text()
    assert source["url"].removeprefix("http://").split(":")[0] in SERVICES
