"""Under which address people reach the pages, and whether they choose passwords there."""

import yaml
from pydantic import ValidationError

from service.provider_file import ProviderFile
from service.settings import Settings


def public_address(settings: Settings) -> str | None:
    """Address of the pages as browsers see it, without a slash at its end; None where nobody named one.

    A site with single sign-on may have named it in the file of its provider alone.
    """
    if settings.address is not None:
        return settings.address.rstrip("/")
    file = _provider_file(settings)
    return None if file is None else file.home


def page_address(settings: Settings) -> str:
    """Address for a link to a page: the public one, or that of this machine."""
    return public_address(settings) or f"http://{settings.api_host}:{settings.api_port}"


def takes_passwords(settings: Settings) -> bool:
    """Whether there are local accounts; False where the identity provider alone vouches for people."""
    file = _provider_file(settings)
    return file is None or file.passwords


def _provider_file(settings: Settings) -> ProviderFile | None:
    if settings.oidc is None:
        return None
    try:
        return ProviderFile.read(settings.oidc, settings.address)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError):  # told where the provider is asked
        return None
