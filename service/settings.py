"""Every setting of Vigil, in one place. The only reader of the environment."""

import os
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from dicom_node.address import checked_url
from dicom_node.kinds import ResultKind, read_kinds
from dicom_node.peer import is_loopback
from service.access import Masking
from service.errors import SettingsError
from service.places import Places
from service.study import LONGEST_UNREAD_S

Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(Places):
    """Settings of one machine, from ``VIGIL_*`` variables and the command line. Built once, passed down.

    Attributes are documented by their field descriptions, from which the table in the documentation is
    made.
    """

    model_config = SettingsConfigDict(env_prefix="VIGIL_", frozen=True, extra="ignore")

    database_url: str | None = Field(
        None,
        description="PostgreSQL to use: postgresql://user@host/name. Unset: the embedded one.",
    )
    database_url_file: Path | None = Field(
        None,
        description="File whose one line is the database's URL, for a URL with a password: it then stands in "
        "no environment. Instead of VIGIL_DATABASE_URL.",
    )
    model: Path | None = Field(None, description="Artefact folder to score with. Unset: the shipped model.")

    site: str = Field("", description="What the site calls itself in the groups of a calibration.")
    commission_studies: int = Field(
        200,
        ge=19,
        le=10_000,
        description="Consecutive studies of a scanner without a calibration that make one to be proposed; a "
        "false-flag rate of alpha needs at least 1 / alpha - 1.",
    )

    aet: str = Field("VIGIL", pattern=r"^[\x21-\x5b\x5d-\x7e]{1,16}$", description="AE title of the node.")
    host: str = Field("127.0.0.1", description="Address the node listens on.")
    port: Port = Field(11112, description="Port of the node; 0 takes a free one.")
    tls_certificate: Path | None = Field(
        None,
        description="PEM file of the node's certificate and key. Set: every peer needs a certificate too.",
    )
    tls_authorities: Path | None = Field(
        None, description="PEM file of the authorities whose peers may connect; needed with a certificate."
    )
    hl7_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port on which the node takes HL7 orders over MLLP, from the channels of the peers file "
        "that may send them, with the node's TLS where it has any. Unset: none.",
    )
    api_host: str = Field("127.0.0.1", description="Address the API and pages listen on.")
    api_port: Port = Field(8080, description="Port of the API and pages; 0 takes a free one.")
    address: str | None = Field(
        None,
        pattern=r"^https?://[^@/?#]+/?$",
        description="Address of the pages as browsers see it, where a proxy stands in front, such as "
        "https://vigil.hospital.example: answered besides this machine's own, and the begin of links.",
    )
    access: str = Field(
        "sign-in",
        pattern="^(sign-in|open)$",
        description="Who may use API and pages: who signs in or shows a token, or with `open` anybody on "
        "this machine, as an operator.",
    )
    masking: Masking = Field(
        Masking.INITIALS,
        description="What the list shows of a patient: full, initials (with age and sex) or none.",
    )

    oidc: Path | None = Field(
        None,
        description="YAML file of the identity provider where people sign in (OpenID Connect). "
        "Unset: local accounts alone.",
    )
    proxies: str = Field(
        "",
        description="Addresses or networks of the proxies in front of the API, by comma, whose "
        "X-Forwarded-For and X-Forwarded-Proto count. Unset: nobody's.",
    )
    audit_syslog: str | None = Field(
        None,
        pattern=r"^([^:\[\]]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5}$",
        description="HOST:PORT of the audit repository, which gets the audit trail as DICOM audit messages "
        "by syslog over TLS. Unset: none.",
    )
    audit_syslog_authorities: Path | None = Field(
        None, description="PEM file of the authorities of the audit repository. Unset: the system's."
    )
    audit_syslog_certificate: Path | None = Field(
        None,
        description="PEM file of our certificate and key for the audit repository. Unset: none is shown.",
    )

    receiver: str = Field(
        "fast",
        pattern="^(fast|stock)$",
        description="`fast`: Vigil's receiver; `stock`: pynetdicom's, about ten times slower, for "
        "comparison.",
    )
    receiver_processes: int | None = Field(
        None, ge=1, le=16, description="Processes that receive. Unset: one per processor, at most two."
    )
    landing: str = Field(
        "log",
        pattern="^(files|log)$",
        description="First home of instances: a log on a local disk, or files at once (network disks).",
    )
    log_mb: int = Field(
        512,
        ge=64,
        description="Megabytes of the log, written at the first start; a burst may use four times.",
    )

    store: str | None = Field(
        None,
        description="Where complete studies and results are kept for workers on other machines: a shared "
        "folder, or s3://bucket/prefix. Unset: workers read the data folder.",
    )
    store_endpoint: str | None = Field(
        None,
        pattern="^https?://[^@/]+/?$",
        description="Address of the bucket's server; http:// for one without TLS. Unset: Amazon's.",
    )
    store_access_key_file: Path | None = Field(
        None,
        description="File of the bucket's access key. Unset: the AWS variables or the machine's role.",
    )
    store_secret_key_file: Path | None = Field(
        None, description="File of the bucket's secret key; needed with the access key's."
    )
    keep_received_hours: float | None = Field(
        None,
        ge=0,
        description="Hours after a study ended when its received files leave the node, its pack being in the "
        "store. Unset: they stay as long as the study.",
    )
    scratch_mb: int | None = Field(
        None, ge=1, description="Most megabytes of scratch one process uses. Unset: what the disk has."
    )
    spool_quota_mb: int | None = Field(
        None,
        ge=1,
        description="Megabytes of received studies above which the node answers out of resources (0xA700). "
        "Unset: only the free-space mark counts.",
    )
    keep_scored_days: float | None = Field(
        None,
        ge=0,
        description="Days after which a scored study is deleted, every result confirmed. Unset: never.",
    )
    keep_not_assessable_days: float | None = Field(
        None, ge=0, description="The same for a study that is not assessable. Unset: never."
    )
    keep_failed_days: float | None = Field(
        None, ge=0, description="The same for a failed study, once a person has waived it. Unset: never."
    )
    keep_quarantine_days: float | None = Field(
        None, ge=0, description="Days after which a file of the quarantine is deleted. Unset: never."
    )

    quiet_s: float = Field(
        60.0, gt=0, description="Seconds without a new instance after which a study is complete, per sender."
    )
    offer_commitment: bool = Field(
        False,
        description="Whether the node answers storage commitment requests. A modality may then delete what "
        "the node holds: only where the node keeps studies for good.",
    )
    accept_stow: bool = Field(
        False,
        description="Whether the API takes instances by STOW-RS, from operators and tokens of the role "
        "`service`.",
    )
    longest_wait_s: float = Field(
        900.0,
        gt=0,
        description="Longest a quiet study waits for instances that its modality or archive announced.",
    )
    free_mark_mb: int = Field(
        1024, ge=1, description="Free megabytes below which the node answers out of resources (0xA700)."
    )
    max_instance_mb: int = Field(1024, ge=1, description="Largest instance accepted, in megabytes.")
    max_voxels: int = Field(
        512 * 1024 * 1024, ge=1, description="Largest volume read for scoring, in voxels."
    )
    results: str = Field(
        "seg,sc,sr",
        description="Kinds of results to build, by comma: seg, sc, sr, pm, ko, pr, seg_fractional, "
        "seg_labelmap. What a study cannot have is left out; sr is always there.",
    )
    infer_attempts: int = Field(3, ge=1, description="Attempts on a study before it counts as failed.")
    deliver_attempts: int = Field(
        60, ge=1, description="Attempts on a delivery, about a day, before it is undelivered."
    )
    longest_queue_s: float = Field(
        14_400.0,
        gt=0,
        description="Seconds of waiting after which a study passes all but STAT; it climbs there in steps. "
        "Screening never does.",
    )
    longest_unread_s: float = Field(
        LONGEST_UNREAD_S,
        gt=0,
        le=315_360_000,
        description="Seconds after which a study that no reader has seen leads its band of the list, after "
        "STAT, the longest waiting first. Screening never does.",
    )
    stalled_s: float = Field(
        30.0, gt=0, description="Seconds without a heartbeat after which a worker's jobs are queued again."
    )
    triton: str | None = Field(
        None,
        pattern=r"^https?://[^/]+$",
        description="URL of an inference server with the KServe v2 protocol (Triton) that runs the network, "
        "under the artefact's hash as its name. Unset: the worker runs it.",
    )
    threads: int = Field(1, ge=1, description="Threads of one run of the network on the CPU.")
    infer_jobs: int = Field(
        3,
        ge=1,
        le=32,
        description="Studies an inference worker has in hand at a time: one is scored while others are read "
        "and their results built.",
    )
    batch_wait_ms: float = Field(
        20.0,
        ge=0,
        description="Longest that slices wait for those of another study to fill a batch, in milliseconds.",
    )
    memory_mb: int = Field(
        2048,
        ge=64,
        description="Megabytes that the studies in hand of an inference worker may share; a study waits for "
        "its part, and one that needs more runs alone, its voxels on disk.",
    )
    worker_metrics_port: Port | None = Field(
        None, description="Port on which an inference worker answers Prometheus. Unset: none."
    )
    deliver_metrics_port: Port | None = Field(
        None, description="Port on which a delivery worker answers Prometheus. Unset: none."
    )
    node_metrics_port: Port | None = Field(
        None, description="Port on which the node answers Prometheus. Unset: none."
    )
    metrics_host: str | None = Field(
        None, description="Address on which node and workers answer Prometheus. Unset: that of the API."
    )
    traces: str | None = Field(
        None,
        pattern=r"^https?://[^@/]+(/.*)?$",
        description="Address of an OpenTelemetry collector (OTLP over HTTP) that gets a trace of each study, "
        "such as http://127.0.0.1:4318/v1/traces. Needs the extra `traces`. Unset: none.",
    )
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least level logged.")

    @model_validator(mode="after")
    def _is_open_to_this_machine_alone(self) -> Self:
        if self.access == "open" and not is_loopback(self.api_host):
            raise ValueError("`open` access needs an API that listens on a loopback address alone")
        if self.access == "open" and (self.address is not None or self.proxies):
            raise ValueError("`open` access is for no site with a proxy: everybody behind it is an operator")
        return self

    @model_validator(mode="after")
    def _has_one_database(self) -> Self:
        if self.database_url is not None and self.database_url_file is not None:
            raise ValueError("give VIGIL_DATABASE_URL or VIGIL_DATABASE_URL_FILE, not both")
        return self

    @field_validator("database_url")
    @classmethod
    def _is_not_empty(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():  # the embedded one in its place would be an empty list
            raise ValueError("is empty; unset it for the embedded database")
        return value

    @field_validator("results")
    @classmethod
    def _names_known_results(cls, value: str) -> str:
        read_kinds(value)
        return value

    @field_validator("store")
    @classmethod
    def _is_a_place(cls, value: str | None) -> str | None:
        """Refuse what names no place, or would put a secret where everybody reads it."""
        if value is None:
            return None
        scheme, separator, rest = value.partition("://")
        if separator and (scheme not in {"file", "s3"} or not rest.strip("/")):
            raise ValueError("names no store; give a folder, file:///folder or s3://bucket/prefix")
        if separator and "@" in rest.partition("/")[0]:
            raise ValueError("must not hold credentials; see VIGIL_STORE_ACCESS_KEY_FILE")
        return value if separator else str(Path(value).absolute())

    @field_validator("audit_syslog")
    @classmethod
    def _is_a_receiver(cls, value: str | None) -> str | None:
        if value is not None:
            checked_url(f"tls://{value}")
        return value

    @field_validator("address", "store_endpoint", "triton", "traces")
    @classmethod
    def _leads_somewhere(cls, value: str | None) -> str | None:
        return None if value is None else checked_url(value)

    @field_validator("offer_commitment")
    @classmethod
    def _keeps_its_word(cls, value: bool, info: ValidationInfo) -> bool:
        """Refuse to delete what peers were told they may delete themselves."""
        ages = ("keep_scored_days", "keep_not_assessable_days", "keep_failed_days", "keep_received_hours")
        if value and any(info.data.get(age) is not None for age in ages):
            raise ValueError(
                "a node that commits to keep studies deletes none; unset the VIGIL_KEEP_... settings"
            )
        return value

    @property
    def result_kinds(self) -> frozenset[ResultKind]:
        """Kinds of results to build."""
        return read_kinds(self.results)

    @property
    def has_embedded_database(self) -> bool:
        """Whether the database is the one in the data folder."""
        return self.database_url is None and self.database_url_file is None

    def site_database_url(self) -> str | None:
        """URL of the site's own database, also where it stands in a file; None: the embedded one.

        Raises
        ------
        SettingsError
            If the file cannot be read, or is empty.
        """
        if self.database_url_file is None:
            return self.database_url
        try:
            url = self.database_url_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"VIGIL_DATABASE_URL_FILE: the file cannot be read ({type(error).__name__})."
            ) from error
        if not url:
            raise SettingsError("VIGIL_DATABASE_URL_FILE: the file is empty. Write the URL into it.")
        return url

    @property
    def metrics_address(self) -> str:
        """Where node and workers answer Prometheus."""
        return self.metrics_host or self.api_host

    def environment(self) -> dict[str, str]:
        """Variables that make a child process see the same settings."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {**os.environ, **{f"VIGIL_{name.upper()}": str(value) for name, value in values.items()}}


def load_settings(**overrides: object) -> Settings:
    """Settings from the environment, with command-line values on top.

    Parameters
    ----------
    **overrides
        Values from the command line; ``None`` leaves the environment's value.

    Raises
    ------
    SettingsError
        Naming the setting and what is wrong with it.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        settings = Settings.model_validate({**Settings().model_dump(exclude_unset=True), **given})
    except ValidationError as error:
        problems = "; ".join(
            "".join(f"VIGIL_{part}: ".upper() for part in item["loc"])
            + item["msg"].removeprefix("Value error, ")
            for item in error.errors()
        )
        raise SettingsError(f"{problems}. See docs/settings.md.") from error
    return settings.model_copy(update={"data": settings.data.absolute()})
