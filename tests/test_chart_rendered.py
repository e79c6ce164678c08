"""The chart as Helm renders it: what a cluster would be told, for the defaults and for every example."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import typer.main
import yaml
from sqlalchemy import text

from dicom_node.peers import Peers
from service.cli import app
from service.engine import Pool, depth, enqueue
from service.settings import Settings
from service.store import Store
from service.supervisor import STOP_TIMEOUT_S

CHART = Path(__file__).resolve().parent.parent / "helm"
EXAMPLES = {"defaults": None, **{path.stem: path for path in sorted((CHART / "ci").glob("*.yaml"))}}
# The oldest that Chart.yaml allows, and the newest that the package knows.
KUBERNETES = ("1.27", "1.30")
CUSTOM: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parent / "custom_resources.yaml").read_text(encoding="utf-8")
)

COMMITTING = '{"name": "x", "aet": "X", "host": "h", "roles": ["destination"], "confirm": "commitment"}'

INGRESS = "api.ingress.host=vigil.example,api.ingress.tlsSecretName=web"

Objects = list[dict[str, Any]]


@pytest.fixture(scope="module")
def helm() -> str:
    found = shutil.which("helm", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        pytest.skip("needs helm: python -m tests.helm_program")
    return found


def render(helm: str, values: Path | None, *options: str) -> subprocess.CompletedProcess[str]:
    chosen = ["--values", str(values)] if values else []
    command = [helm, "template", "site", str(CHART), *chosen, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module", params=EXAMPLES)
def objects(helm: str, request: pytest.FixtureRequest) -> Objects:
    done = render(helm, EXAMPLES[request.param])
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


@pytest.fixture(scope="module")
def site(helm: str) -> Objects:
    """What the example of a whole site comes to."""
    return [found for found in yaml.safe_load_all(render(helm, EXAMPLES["values-site"]).stdout) if found]


def of_kind(objects: Objects, kind: str) -> Objects:
    return [found for found in objects if found["kind"] == kind]


def pods(objects: Objects) -> dict[str, dict[str, Any]]:
    """Pod templates by the name of what makes them."""
    return {
        found["metadata"]["name"]: found["spec"]["template"]
        for found in objects
        if found["kind"] in {"Deployment", "Job"}
    }


def selected(objects: Objects, selector: dict[str, Any]) -> set[str]:
    """Names of those whose pods a selector means."""
    wanted = selector.items()
    return {name for name, pod in pods(objects).items() if wanted <= pod["metadata"]["labels"].items()}


def containers(objects: Objects) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for pod in pods(objects).values():
        (container,) = pod["spec"]["containers"]
        yield pod["spec"], container


@pytest.mark.parametrize("values", EXAMPLES.values(), ids=EXAMPLES)
def test_helm_finds_nothing_wrong(helm: str, values: Path | None) -> None:
    chosen = ["--values", str(values)] if values else []
    command = [helm, "lint", "--strict", str(CHART), *chosen]

    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_object_is_what_kubernetes_takes(objects: Objects) -> None:
    for found in objects:
        custom = CUSTOM.get(f"{found['apiVersion']}/{found['kind']}")
        if custom is not None:
            jsonschema.validate(found, {"definitions": CUSTOM["definitions"], **custom})
            continue
        for version in KUBERNETES:
            kubernetes_validate.validate(found, version, strict=True)


def test_every_name_is_one_and_fits(objects: Objects) -> None:
    names = [(found["kind"], found["metadata"]["name"]) for found in objects]

    assert len(set(names)) == len(names)
    assert all(len(name) <= 63 for _, name in names)


def test_a_deployment_a_service_a_budget_and_a_policy_each_mean_one_role(objects: Objects) -> None:
    for kind in ("Deployment", "PodDisruptionBudget"):
        for found in of_kind(objects, kind):
            name = found["metadata"]["name"]
            assert selected(objects, found["spec"]["selector"]["matchLabels"]) == {name}
    for found in of_kind(objects, "Service"):
        (role,) = selected(objects, found["spec"]["selector"])
        ports = {port["name"] for port in pods(objects)[role]["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in found["spec"]["ports"]} <= ports
    services = {found["metadata"]["name"]: found for found in of_kind(objects, "Service")}
    for found in of_kind(objects, "Ingress"):
        (rule,) = found["spec"]["rules"]
        (path,) = rule["http"]["paths"]
        called = services[path["backend"]["service"]["name"]]["spec"]["ports"]
        assert path["backend"]["service"]["port"]["name"] in {port["name"] for port in called}
        assert found["spec"]["tls"][0]["hosts"] == [rule["host"]]
    closed = set()
    for found in of_kind(objects, "NetworkPolicy"):
        assert "Ingress" in found["spec"]["policyTypes"]
        closed |= selected(objects, found["spec"]["podSelector"]["matchLabels"])
    assert closed == {found["metadata"]["name"] for found in of_kind(objects, "Deployment")}


def test_every_pod_is_what_a_restricted_namespace_lets_in(objects: Objects) -> None:
    for pod, container in containers(objects):
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"]["memory"]


def test_what_is_mounted_is_there_and_every_file_a_role_is_told_is_mounted(objects: Objects) -> None:
    for pod, container in containers(objects):
        volumes = {volume["name"] for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert set(mounts.values()) == volumes
        for variable in container["env"]:
            if variable["value"].startswith("/"):
                assert any(variable["value"].startswith(path) for path in mounts), variable


def test_no_secret_is_in_an_environment(objects: Objects) -> None:
    for _, container in containers(objects):
        assert all(set(variable) == {"name", "value"} for variable in container["env"])


def test_settings_and_arguments_of_every_role_are_those_of_the_program(
    objects: Objects,
) -> None:
    for _, container in containers(objects):
        names = [variable["name"] for variable in container["env"]]
        assert len(set(names)) == len(names)
        values = {
            variable["name"].removeprefix("VIGIL_").lower(): variable["value"]
            for variable in container["env"]
        }
        # A file whose content would be read is not here.
        url = values.pop("database_url_file")
        values = {name: value for name, value in values.items() if not name.endswith("_key_file")}
        settings = Settings.model_validate(values | {"database_url": f"postgresql://vigil@host{url}"})
        assert set(values) <= set(Settings.model_fields)
        assert settings.landing in {"files", "log"}
        command: Any = typer.main.get_command(app)
        rest = [str(argument) for argument in container["args"]]
        while rest and hasattr(command, "commands"):
            command = command.commands[rest.pop(0)]
        command.make_parser(command.context_class(command)).parse_args(rest)


def test_every_role_of_a_machine_is_there(site: Objects) -> None:
    roles = {
        argument
        for found in of_kind(site, "Deployment")
        for argument in found["spec"]["template"]["spec"]["containers"][0]["args"][::2]
    }
    arguments = {
        tuple(found["spec"]["template"]["spec"]["containers"][0]["args"][:3])
        for found in of_kind(site, "Deployment")
    }

    assert {"node", "api"} <= roles
    # The process of deliveries tells messages too.
    assert {pool for _, option, pool in arguments if option == "--pool"} == set(Pool) - {Pool.MESSAGE}


def test_a_role_has_more_time_to_stop_than_it_takes(objects: Objects) -> None:
    for found in of_kind(objects, "Deployment"):
        assert found["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > STOP_TIMEOUT_S


def test_roles_that_wait_for_a_database_do_not_keep_a_machine_from_being_drained(site: Objects) -> None:
    """None of them is ready then, and no budget for healthy pods would ever let one go."""
    budgets = of_kind(site, "PodDisruptionBudget")

    assert {found["metadata"]["name"] for found in budgets} >= {"site-api", "site-worker-infer"}
    assert {found["spec"].get("unhealthyPodEvictionPolicy") for found in budgets} == {"AlwaysAllow"}


def test_two_nodes_never_share_a_spool_and_workers_need_no_second_gpu(site: Objects) -> None:
    strategy = {
        found["metadata"]["name"]: found["spec"].get("strategy") for found in of_kind(site, "Deployment")
    }

    assert strategy["site-node"] == {"type": "Recreate"}
    assert strategy["site-worker-infer"]["rollingUpdate"]["maxSurge"] == 0


def test_the_node_reads_the_peers_file_that_the_chart_writes(site: Objects, tmp_path: Path) -> None:
    (config,) = of_kind(site, "ConfigMap")
    path = tmp_path / "peers.yaml"
    path.write_text(config["data"]["peers.yaml"], encoding="utf-8")

    peers = Peers.load(path)

    given = yaml.safe_load((CHART / "ci" / "values-site.yaml").read_text(encoding="utf-8"))
    assert [peer.name for peer in peers.all] == [peer["name"] for peer in given["peers"]]
    assert [channel.name for channel in peers.channels] == [channel["name"] for channel in given["channels"]]


def test_a_changed_peer_restarts_nothing(helm: str, site: Objects) -> None:
    done = render(helm, EXAMPLES["values-site"], "--set-json", "peers=[]")
    changed = [found for found in yaml.safe_load_all(done.stdout) if found]

    assert of_kind(changed, "ConfigMap") != of_kind(site, "ConfigMap")
    assert of_kind(changed, "Deployment") == of_kind(site, "Deployment")


def test_the_schema_is_migrated_by_a_hook_that_uses_nothing_of_the_chart(objects: Objects) -> None:
    (job,) = of_kind(objects, "Job")
    pod = job["spec"]["template"]["spec"]

    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert "serviceAccountName" not in pod
    assert {key for volume in pod["volumes"] for key in volume} == {"name", "secret", "emptyDir"}
    assert [
        args for _, args in ((spec, one["args"]) for spec, one in containers(objects)) if "upgrade" in args
    ] == [["db", "upgrade"]]


def test_the_job_finds_the_authority_that_the_databases_address_names(helm: str) -> None:
    """`sslrootcert=/etc/vigil/files/...` in the URL of the Secret is a file of every role, the job's too."""
    done = render(helm, None, "--set", "files.secretName=vigil-files")
    rendered = [found for found in yaml.safe_load_all(done.stdout) if found]

    found = dict.fromkeys(pods(rendered), "")
    for name, pod in pods(rendered).items():
        secrets = {volume["name"]: volume.get("secret", {}) for volume in pod["spec"]["volumes"]}
        for mount in pod["spec"]["containers"][0]["volumeMounts"]:
            if mount["mountPath"] == "/etc/vigil/files":
                found[name] = secrets[mount["name"]]["secretName"]
    assert "site-migration" in found
    assert set(found.values()) == {"vigil-files"}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ([], {"name": "vigil-database", "key": "url"}),
        (["--set", "autoscaling.secretName=scaler"], {"name": "scaler", "key": "url"}),
        (
            ["--set", "autoscaling.secretName=scaler", "--set", "autoscaling.secretKey=address"],
            {"name": "scaler", "key": "address"},
        ),
    ],
    ids=["the roles' own", "another secret", "another key"],
)
def test_keda_reads_the_address_that_is_meant_for_it(
    helm: str, options: list[str], named: dict[str, str]
) -> None:
    """KEDA asks from a pod of its own, which has none of the files that the roles' URL may name."""
    pools = [f"worker.{pool}.autoscaling.enabled=true" for pool in ("infer", "deliver")]
    done = render(helm, None, "--set", ",".join(pools), *options)
    rendered = [found for found in yaml.safe_load_all(done.stdout) if found]

    references = [found["spec"]["secretTargetRef"] for found in of_kind(rendered, "TriggerAuthentication")]
    assert references == [[{"parameter": "connection", **named}]] * 2


@pytest.mark.parametrize(
    ("options", "addresses"),
    [
        ([], []),
        (["--set", INGRESS], ["https://vigil.example"]),
        (["--set", INGRESS, "--set", "settings.address=https://board.example"], ["https://board.example"]),
    ],
    ids=["no ingress", "an ingress", "a proxy in front of it"],
)
def test_a_link_leads_to_the_ingress(helm: str, options: list[str], addresses: list[str]) -> None:
    """`vigil people invite` and messages would otherwise name the address on which the API listens."""
    rendered = [found for found in yaml.safe_load_all(render(helm, None, *options).stdout) if found]

    for role in ("site-api", "site-worker-deliver"):
        environment = pods(rendered)[role]["spec"]["containers"][0]["env"]
        assert [one["value"] for one in environment if one["name"] == "VIGIL_ADDRESS"] == addresses


def test_a_node_with_a_large_spool_has_ten_minutes_to_begin(site: Objects) -> None:
    probe = pods(site)["site-node"]["spec"]["containers"][0]["startupProbe"]

    assert probe["failureThreshold"] * probe["periodSeconds"] >= 600


def test_a_digest_decides_over_the_tag(helm: str) -> None:
    digest = f"sha256:{'0' * 64}"

    done = render(helm, None, "--set", f"image.digests.node={digest}", "--set", "image.tag=9.9.9")

    assert f'image: "registry.example/vigil-node@{digest}"' in done.stdout
    assert 'image: "registry.example/vigil-api:9.9.9"' in done.stdout


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--set", "worker.shadow.replicas=1", "--set", "store.url=s3://bucket/x"], "shared folder"),
        (["--set", "settings.accept_stow=true", "--set", "store.url=s3://bucket/x"], "accept_stow"),
        (
            ["--set-json", f"peers=[{COMMITTING}]", "--set", "store.url=s3://bucket/x"],
            "confirm: query",
        ),
        (["--set", "settings.tls_certificate=/x"], "tls_certificate"),
        (["--set-json", 'peers=[{"name": "x", "aet": "X", "host": "h", "roles": ["guest"]}]'], "roles"),
    ],
    ids=[
        "shadow with a bucket",
        "uploads with a bucket",
        "commitment with a bucket",
        "a setting of the chart",
        "an unknown role",
    ],
)
def test_helm_refuses_what_would_fail_later(helm: str, options: list[str], word: str) -> None:
    done = render(helm, None, *options)

    assert done.returncode != 0
    assert word in done.stderr


@pytest.mark.postgres
def test_autoscaling_counts_the_jobs_that_are_due(site: Objects, store: Store) -> None:
    """KEDA's own query, on the engine's table, as a connection of its own that knows no search path."""
    (scaled,) = of_kind(site, "ScaledObject")
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]
    with store.transaction() as session:
        for row in (1, 2):
            enqueue(session, Pool.INFER, row, priority=0)
        enqueue(session, Pool.DELIVER, 3, priority=0)
        session.execute(text("SET LOCAL search_path TO public"))
        counted = session.scalar(text(query))
    with store.transaction() as session:
        assert counted == depth(session)[Pool.INFER].waiting == 2


@pytest.mark.postgres
def test_the_process_that_delivers_grows_with_the_messages_too(helm: str, store: Store) -> None:
    done = render(helm, EXAMPLES["values-site"], "--set", "worker.deliver.autoscaling.enabled=true")
    found = [one for one in yaml.safe_load_all(done.stdout) if one]
    query = next(
        one["spec"]["triggers"][0]["metadata"]["query"]
        for one in of_kind(found, "ScaledObject")
        if one["metadata"]["name"].endswith("deliver")
    )
    with store.transaction() as session:
        for pool in (Pool.DELIVER, Pool.MESSAGE, Pool.INFER):
            enqueue(session, pool, 1, priority=0)
        session.execute(text("SET LOCAL search_path TO public"))
        assert session.scalar(text(query)) == 2
