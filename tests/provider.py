"""An identity provider on this machine, on authlib's server half. What it says can be made wrong."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin, grants
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core import OpenIDCode, UserInfo
from flask import Flask, Response, jsonify, request
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from werkzeug.serving import WSGIRequestHandler, make_server

CLIENT, SECRET = "vigil", "a secret with spaces & signs"

Claims = dict[str, Any]


class Person(dict[str, Any]):
    """Claims of somebody; the server asks for an id."""

    def get_user_id(self) -> str:
        return str(self["sub"])


@dataclass
class Client(ClientMixin):  # type: ignore[misc] # authlib ships no types
    """Vigil, as the provider knows it."""

    redirect: str

    def get_client_id(self) -> str:
        return CLIENT

    def get_default_redirect_uri(self) -> str:
        return self.redirect

    def get_allowed_scope(self, scope: str) -> str:
        return scope

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri == self.redirect

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == SECRET

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == "client_secret_basic" and endpoint == "token"

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "authorization_code"


@dataclass
class Code:
    """A code on its way, with what its token will say."""

    code: str
    redirect_uri: str
    scope: str
    user: Person
    nonce: str
    code_challenge: str
    code_challenge_method: str
    at: int = field(default_factory=lambda: int(time.time()))

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    def get_nonce(self) -> str:
        return self.nonce

    def get_auth_time(self) -> int:
        return self.at

    def get_acr(self) -> None:
        return None

    def get_amr(self) -> None:
        return None


@dataclass
class Idp:
    """The running provider.

    `person` signs in without being asked. `alter` changes the claims of the next tokens, `sign` replaces how
    they are signed; `rotate` changes the key, `publish` whether the new one is told.
    """

    issuer: str
    person: Person
    alter: Callable[[Claims], Claims] = lambda claims: claims
    sign: Callable[[Claims], str] | None = None
    keys: list[RSAKey] = field(default_factory=list)
    codes: dict[str, Code] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    userinfo: Claims = field(default_factory=dict)

    def rotate(self) -> None:
        number = len(self.asked) + len(self.keys)
        self.keys = [RSAKey.generate_key(2048, {"kid": f"key-{number}", "use": "sig"})]


def idp(issuer: str, redirect: str) -> tuple[Idp, Flask]:
    """Provider and its application."""
    provider = Idp(issuer, Person(sub="s-1", preferred_username="jane", groups=["radiologists"]))
    provider.rotate()
    app = Flask("provider")
    server = AuthorizationServer(app, lambda _: Client(redirect), lambda *_: None)

    class CodeGrant(grants.AuthorizationCodeGrant):  # type: ignore[misc]
        TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic",)

        def save_authorization_code(self, code: str, asked: Any) -> None:
            data = asked.payload.data
            provider.codes[code] = Code(
                code, data["redirect_uri"], data["scope"], asked.user, data["nonce"],
                data["code_challenge"], data["code_challenge_method"],
            )  # fmt: skip

        def query_authorization_code(self, code: str, client: Any) -> Code | None:
            del client
            return provider.codes.get(code)

        def delete_authorization_code(self, authorization_code: Code) -> None:
            del provider.codes[authorization_code.code]

        def authenticate_user(self, authorization_code: Code) -> Person:
            return authorization_code.user

    class IdToken(OpenIDCode):  # type: ignore[misc]
        def exists_nonce(self, nonce: str, asked: Any) -> bool:
            del asked
            return any(code.nonce == nonce for code in provider.codes.values())

        def generate_user_info(self, user: Person, scope: str) -> UserInfo:
            del scope
            return UserInfo(user)

        def encode_id_token(self, token: Mapping[str, Any], asked: Any) -> str:
            del token
            now = int(time.time())
            claims = provider.alter(
                {
                    **asked.user,
                    "iss": provider.issuer,
                    "aud": CLIENT,
                    "exp": now + 300,
                    "iat": now,
                    "nonce": asked.authorization_code.nonce,
                }
            )
            if provider.sign is not None:
                return provider.sign(claims)
            key = provider.keys[0]
            return jwt.encode({"alg": "RS256", "kid": key.kid}, claims, key)

    server.register_grant(CodeGrant, [IdToken(), CodeChallenge(required=True)])
    _routes(app, provider, server)
    return provider, app


def _routes(app: Flask, provider: Idp, server: AuthorizationServer) -> None:
    @app.before_request
    def note() -> None:
        provider.asked.append(request.path)

    @app.get("/.well-known/openid-configuration")
    def describe() -> Response:
        return jsonify(
            issuer=provider.issuer,
            authorization_endpoint=f"{provider.issuer}/authorize",
            token_endpoint=f"{provider.issuer}/token",
            jwks_uri=f"{provider.issuer}/keys",
            userinfo_endpoint=f"{provider.issuer}/userinfo",
            end_session_endpoint=f"{provider.issuer}/end",
            token_endpoint_auth_methods_supported=["client_secret_basic"],
        )

    @app.get("/keys")
    def keys() -> Response:
        return jsonify(KeySet(provider.keys).as_dict())

    @app.get("/userinfo")
    def userinfo() -> Response:
        return jsonify(provider.userinfo)

    @app.get("/authorize")
    def authorize() -> Response:
        grant = server.get_consent_grant(end_user=provider.person)
        return server.create_authorization_response(grant_user=provider.person, grant=grant)

    @app.post("/token")
    def token() -> Response:
        return server.create_token_response()


class _Silent(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def running(redirect: str) -> Iterator[Idp]:
    """Run a provider that sends people back to `redirect`."""
    server = make_server("127.0.0.1", 0, Flask("empty"), threaded=True, request_handler=_Silent)
    provider, server.app = idp(f"http://127.0.0.1:{server.server_port}", redirect)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
