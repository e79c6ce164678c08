"""Signing in at the hospital's identity provider: OpenID Connect, code flow with PKCE, state and nonce.

Who a person is, is issuer and subject together, which a provider never gives to another person; a mail
address or a name may move on. What a person may do is what the provider's groups say at the sign-in; a group
that the file does not name grants nothing (OpenID Connect Core 1.0, RFC 7636, RFC 9207).
"""

import secrets
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx
import yaml
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from authlib.oidc.discovery import get_well_known_url
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry
from pydantic import ValidationError

from service.access import Role
from service.errors import SettingsError, TriageError
from service.provider_file import ProviderFile

# Signatures of a private key alone: `none` proves nothing, and with HS256 the client's secret would forge.
ALGORITHMS = [
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"),
    *("EdDSA", "Ed25519"),
]
KEY_KINDS = frozenset({"RSA", "EC", "OKP"})
TIMEOUT_S = 10.0
MOST_BYTES = 1024 * 1024  # of any answer of the provider
FRESH_S = 3600.0  # a provider's description is read again after this long
KEYS_PAUSE_S = 10.0  # between two looks for a key that is not known
LONGEST_SUBJECT = 255  # characters (OpenID Connect Core 2)
RETURN_PATH = "/sign-in/provider/return"


class ProviderError(TriageError):
    """The identity provider vouched for nobody. Try again, or ask an administrator."""

    code = "refused"


class ProviderAwayError(ProviderError):
    """The identity provider does not answer. Try again in a minute, or use a local account."""

    code = "provider_away"


class NoRoleError(ProviderError):
    """The identity provider knows you, but none of your groups may use Vigil. Ask an administrator."""

    code = "no_role"


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """One person's way to the provider and back.

    Attributes
    ----------
    state, nonce, verifier : str
        Secrets of this errand: they tie the answer to the browser, the token to the question, and the code
        to us.
    target : str
        Where the person wanted to go.
    """

    state: str
    nonce: str
    verifier: str
    target: str

    @classmethod
    def begin(cls, target: str) -> "Errand":
        """New errand with secrets of its own."""
        return cls(
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(48),
            target=target,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """Whom the provider vouches for.

    Attributes
    ----------
    subject : str
        Issuer and subject.
    name : str
    role : Role
    """

    subject: str
    name: str
    role: Role


@dataclass(slots=True)
class Provider:
    """An identity provider, as its file and its own description say.

    Attributes
    ----------
    file : ProviderFile
    """

    file: ProviderFile
    _secret: str | None
    _verify: ssl.SSLContext
    _described: dict[str, Any] = field(default_factory=dict)
    _described_at: float = 0.0
    _keys: KeySet | None = None
    _keys_at: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, path: Path, address: str | None) -> "Provider":
        """Provider that a file describes; asks it nothing yet.

        Parameters
        ----------
        path : Path
        address : str or None
            Of the pages, by the settings; the file need not say it again.

        Raises
        ------
        SettingsError
            If the file or one it names cannot be read, or says something else than it should.
        """
        try:
            file = ProviderFile.read(path, address)
            kept = file.client_secret_file
            secret = None if kept is None else kept.read_text("utf-8").strip()
            verify = ssl.create_default_context(cafile=file.authorities)
        except ValidationError as error:
            told = "; ".join(
                f"{'.'.join(map(str, one['loc'])) or 'file'}: {one['msg']}" for one in error.errors()
            )
            raise SettingsError(f"VIGIL_OIDC: {told}. See docs/access.md.") from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise SettingsError(f"VIGIL_OIDC: {type(error).__name__}. See docs/access.md.") from error
        if address is not None and file.home != address.rstrip("/"):
            raise SettingsError("VIGIL_OIDC: address: is another than VIGIL_ADDRESS. Leave it out here.")
        return cls(file, secret, verify)

    def check(self) -> None:
        """Ask the provider for its description and its keys.

        Raises
        ------
        ProviderAwayError
            If it does not answer.
        ProviderError
            If it calls itself otherwise than its file does.
        """
        self._described_address("authorization_endpoint")
        self._described_address("token_endpoint")
        self._key_set()

    @property
    def redirect(self) -> str:
        """Where the provider sends people back to."""
        return f"{self.file.home}{RETURN_PATH}"

    def start(self, errand: Errand) -> str:
        """Address at the provider where a person proves who they are.

        Raises
        ------
        ProviderAwayError
            If the provider does not answer.
        """
        question = {
            "response_type": "code",
            "client_id": self.file.client_id,
            "redirect_uri": self.redirect,
            "scope": self.file.scopes,
            "state": errand.state,
            "nonce": errand.nonce,
            "code_challenge": create_s256_code_challenge(errand.verifier),
            "code_challenge_method": "S256",
        }
        address = self._described_address("authorization_endpoint")
        return f"{address}{'&' if urlsplit(address).query else '?'}{urlencode(question)}"

    def finish(self, errand: Errand, code: str, *, issuer: str | None = None) -> Vouched:
        """Person that the provider vouches for.

        Parameters
        ----------
        errand : Errand
        code : str
            From the address that the browser came back to; empty where the provider refused.
        issuer : str, optional
            Who sent the browser back, where the provider says so (RFC 9207).

        Raises
        ------
        ProviderAwayError
            If the provider does not answer.
        NoRoleError
            If none of the person's groups may use Vigil.
        ProviderError
            If the answer is not the provider's, not for us, not for this errand or too old.
        """
        if not code or (issuer is not None and issuer != self.file.issuer):
            raise ProviderError(ProviderError.__doc__)
        answer = self._exchange(errand, code)
        claims = self._read(str(answer.get("id_token", "")), errand, str(answer.get("access_token", "")))
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= LONGEST_SUBJECT:
            raise ProviderError(ProviderError.__doc__)
        if _claim(claims, self.file.groups) is None and "userinfo_endpoint" in self._description():
            more = self._userinfo(str(answer.get("access_token", "")))
            if more.get("sub") != subject:  # OpenID Connect Core 5.3.2
                raise ProviderError(ProviderError.__doc__)
            claims = more | claims
        return Vouched(
            subject=f"{self.file.issuer} {subject}",
            name=str(_claim(claims, self.file.account) or subject).strip()[:80] or "unnamed",
            role=self._role(claims),
        )

    def end_address(self) -> str | None:
        """Where a person ends the session at the provider too; None where it offers none or is away."""
        try:
            ends = self._description().get("end_session_endpoint")
        except ProviderAwayError:
            return None
        if not isinstance(ends, str) or urlsplit(ends).scheme not in {"https", "http"}:
            return None
        back = f"{self.file.home}/sign-in"
        return f"{ends}?{urlencode({'client_id': self.file.client_id, 'post_logout_redirect_uri': back})}"

    def _role(self, claims: Mapping[str, Any]) -> Role:
        told = _claim(claims, self.file.groups)
        groups = {told} if isinstance(told, str) else {*map(str, told)} if isinstance(told, list) else set()
        for group, role in self.file.roles.items():
            if group in groups:
                return role
        raise NoRoleError(NoRoleError.__doc__)

    def _exchange(self, errand: Errand, code: str) -> dict[str, Any]:
        """Token response for a code. The secret goes as the provider wants it."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect,
            "code_verifier": errand.verifier,
        }
        known = self._description().get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        authority = None
        if self._secret is not None and "client_secret_basic" in known:
            # RFC 6749 2.3.1: both are form-encoded first.
            authority = httpx.BasicAuth(quote(self.file.client_id, ""), quote(self._secret, ""))
        else:
            form["client_id"] = self.file.client_id
            if self._secret is not None:
                form["client_secret"] = self._secret
        return self._ask(
            "POST", self._described_address("token_endpoint"), data=form, auth=authority or httpx.Auth()
        )

    def _userinfo(self, token: str) -> dict[str, Any]:
        address = self._described_address("userinfo_endpoint")
        return self._ask("GET", address, headers={"Authorization": f"Bearer {token}"})

    def _read(self, token: str, errand: Errand, access_token: str) -> dict[str, Any]:
        """Claims of an identity token whose signature, issuer, audience, times and nonce are right."""
        registry = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
        try:
            try:
                read = jwt.decode(token, self._key_set(), registry=registry)
            except InvalidKeyIdError:  # the provider has changed its keys
                read = jwt.decode(token, self._key_set(missing=True), registry=registry)
            claims = CodeIDToken(
                read.claims,
                read.header,
                {
                    "iss": {"essential": True, "value": self.file.issuer},
                    "aud": {"essential": True, "value": self.file.client_id},
                },
                {"nonce": errand.nonce, "client_id": self.file.client_id, "access_token": access_token},
            )
            claims.validate(leeway=self.file.clock_skew_s)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise ProviderError(ProviderError.__doc__) from error
        return dict(claims)

    def _key_set(self, *, missing: bool = False) -> KeySet:
        """The provider's public keys; read again where one is `missing`, but not for every forger."""
        with self._lock:
            age_s = time.monotonic() - self._keys_at
            if self._keys is not None and age_s < (KEYS_PAUSE_S if missing else FRESH_S):
                return self._keys
        told = self._ask("GET", self._described_address("jwks_uri")).get("keys", [])
        usable = [key for key in told if key.get("kty") in KEY_KINDS and key.get("use", "sig") == "sig"]
        keys = KeySet.import_key_set({"keys": usable})
        with self._lock:
            self._keys, self._keys_at = keys, time.monotonic()
        return keys

    def _description(self) -> dict[str, Any]:
        """What the provider says of itself (OpenID Connect Discovery 1.0)."""
        with self._lock:
            if self._described and time.monotonic() - self._described_at < FRESH_S:
                return self._described
        told = self._ask("GET", get_well_known_url(self.file.issuer, external=True))
        if told.get("issuer") != self.file.issuer:
            raise ProviderError("The identity provider calls itself otherwise than VIGIL_OIDC does.")
        with self._lock:
            self._described, self._described_at = told, time.monotonic()
        return told

    def _described_address(self, name: str) -> str:
        address = self._description().get(name)
        if not isinstance(address, str) or urlsplit(address).scheme not in {"https", "http"}:
            raise ProviderAwayError(ProviderAwayError.__doc__)
        if urlsplit(self.file.issuer).scheme == "https" and urlsplit(address).scheme != "https":
            raise ProviderError(ProviderError.__doc__)
        return address

    def _ask(self, method: str, url: str, **what: Any) -> dict[str, Any]:
        """One answer, a JSON object of bounded size."""
        client = httpx.Client(timeout=TIMEOUT_S, verify=self._verify, headers={"Accept": "application/json"})
        try:
            with client, client.stream(method, url, **what) as answer:
                body = bytearray()
                for piece in answer.iter_bytes():
                    body += piece
                    if len(body) > MOST_BYTES:
                        raise ProviderAwayError(ProviderAwayError.__doc__)
                if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    raise ProviderAwayError(ProviderAwayError.__doc__)
                if answer.status_code != HTTPStatus.OK:
                    raise ProviderError(ProviderError.__doc__)
            told = httpx.Response(HTTPStatus.OK, content=bytes(body)).json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise ProviderAwayError(ProviderAwayError.__doc__) from error
        if not isinstance(told, dict):
            raise ProviderAwayError(ProviderAwayError.__doc__)
        return told


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """A claim by its name; else, where the name has dots, by the way through the objects that it tells."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(part)
    return found
