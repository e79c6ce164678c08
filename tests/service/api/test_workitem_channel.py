"""Event reports of work items over WebSocket (PS3.18 11.12): who is let in, and for how long."""

import pytest
from starlette.websockets import WebSocketDisconnect

from service.access import Role
from service.api import create_app, workitem_channel
from service.settings import Settings
from service.store import Store, people
from tests.seeds import MODEL
from tests.web_client import TestClient

pytestmark = pytest.mark.postgres

CHANNEL = "ws://127.0.0.1:8080/dicom-web/subscribers/WATCHER"


def channel_of(store: Store, settings: Settings) -> tuple[TestClient, dict[str, str], int]:
    """Client of a server that asks who somebody is, with a token's header and number."""
    app = create_app(store=store, settings=settings.model_copy(update={"access": "sign-in"}), model=MODEL)
    with store.transaction() as session:
        token, secret = people.make_token(session, "watcher", Role.SERVICE, actor="test")
    return (
        TestClient(app, base_url="http://127.0.0.1:8080"),
        {"Authorization": f"Bearer {secret}"},
        token.id,
    )


def test_a_channel_ends_when_its_token_is_revoked(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workitem_channel, "LOOK_EVERY_S", 0.05)
    client, headers, token = channel_of(store, settings)
    with client.websocket_connect(CHANNEL, headers=headers) as channel:
        channel.send_bytes(b"no words of ours")
        with store.transaction() as session:
            people.revoke_token(session, token, actor="test")
        with pytest.raises(WebSocketDisconnect) as ended:
            channel.receive_json()
    assert ended.value.code == workitem_channel.REFUSED


def test_channels_are_bounded_and_named_as_application_entities_are(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workitem_channel, "MOST_CHANNELS", 1)
    client, headers, _ = channel_of(store, settings)
    with client.websocket_connect(CHANNEL, headers=headers):
        with pytest.raises(WebSocketDisconnect) as full, client.websocket_connect(CHANNEL, headers=headers):
            pass
        assert full.value.code == workitem_channel.FULL
    with (
        pytest.raises(WebSocketDisconnect) as refused,
        client.websocket_connect(f"{CHANNEL}%00", headers=headers),
    ):
        pass
    assert refused.value.code == workitem_channel.REFUSED


@pytest.mark.parametrize(
    ("role", "headers", "is_let_in"),
    [
        (Role.SERVICE, {}, True),
        (Role.VIEWER, {}, False),
        (None, {}, False),
        (Role.SERVICE, {"Origin": "https://evil.example"}, False),
        (Role.SERVICE, {"Host": "evil.example"}, False),
    ],
)
def test_a_channel_opens_for_who_may(
    store: Store, settings: Settings, role: Role | None, headers: dict[str, str], is_let_in: bool
) -> None:
    app = create_app(store=store, settings=settings.model_copy(update={"access": "sign-in"}), model=MODEL)
    client = TestClient(app, base_url="http://127.0.0.1:8080")
    if role is not None:
        with store.transaction() as session:
            _, secret = people.make_token(session, "watcher", role, actor="test")
        headers = {"Authorization": f"Bearer {secret}", **headers}
    if is_let_in:
        with client.websocket_connect(CHANNEL, headers=headers):
            return
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(CHANNEL, headers=headers):
        pass
