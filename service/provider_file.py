"""The file of the identity provider (`VIGIL_OIDC`)."""

from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dicom_node.address import checked_url
from dicom_node.peer import is_loopback
from service.access import Role


class ProviderFile(BaseModel):
    """What `VIGIL_OIDC` names: the identity provider, and what its groups may do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str = Field(description="As the provider writes it in its tokens.")
    client_id: str = Field(min_length=1)
    client_secret_file: Path | None = Field(None, description="Unset: a public client, with PKCE alone.")
    address: str | None = Field(
        None,
        description="Of Vigil, as browsers see it; the provider sends them back there. Unset: VIGIL_ADDRESS.",
    )
    name: str = Field("Hospital account", min_length=1, max_length=80, description="On the button.")
    scopes: str = "openid profile"
    groups: str = Field("groups", description="Claim with the groups; dots lead into an object.")
    account: str = Field("preferred_username", description="Claim that names the account in lists.")
    roles: dict[str, Role] = Field(min_length=1, description="Group to role; the first that fits counts.")
    passwords: bool = Field(True, description="Whether local accounts may sign in with a password.")
    clock_skew_s: int = Field(60, ge=0, le=300)
    authorities: Path | None = Field(None, description="PEM file; unset: those of the system.")

    @field_validator("issuer", "address")
    @classmethod
    def _is_safe(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(checked_url(value))
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
            raise ValueError("must be an https address")
        return value

    @field_validator("roles")
    @classmethod
    def _are_for_people(cls, value: dict[str, Role]) -> dict[str, Role]:
        if Role.SERVICE in value.values():
            raise ValueError("`service` is for tokens of other systems, not for people")
        return value

    @classmethod
    def read(cls, path: Path, address: str | None) -> "ProviderFile":
        """What a file says, with the address of the settings where it says none.

        Raises
        ------
        OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError
            If the file cannot be read, or says something else than it should.
        """
        said = yaml.safe_load(path.read_text("utf-8"))
        if isinstance(said, dict) and said.get("address") is None:
            said = {**said, "address": address}
        return cls.model_validate(said)

    @property
    def home(self) -> str:
        """Address of Vigil, without a slash at its end."""
        return (self.address or "").rstrip("/")

    @model_validator(mode="after")
    def _has_a_way_back(self) -> Self:
        if self.address is None:
            raise ValueError("the provider must know where to send people back to; set VIGIL_ADDRESS")
        return self
