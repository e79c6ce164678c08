from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from service.access import Role
from service.errors import AccountError
from service.store import Store, audit, people, sign_ins
from service.store.tables import PersonRow, SessionRow, TokenRow

PASSWORD = "correct horse battery"  # noqa: S105 - of nobody


def admin(store: Store, name: str = "ada") -> None:
    with store.transaction() as session:
        secret = people.invite(session, Role.ADMIN, actor="vigil")
    with store.transaction() as session:
        assert people.accept(session, secret, name=name, password=PASSWORD) == name


def test_the_first_admin_comes_by_a_link_that_works_once(store: Store) -> None:
    with store.transaction() as session:
        assert people.is_empty(session)
        secret = people.invite(session, Role.ADMIN, actor="vigil")
        assert people.is_invited(session, secret)
    with store.transaction() as session:
        people.accept(session, secret, name="ada", password=PASSWORD)
    with store.transaction() as session:
        assert not people.is_empty(session)
        assert not people.is_invited(session, secret)
        with pytest.raises(people.InvitationError):
            people.accept(session, secret, name="eve", password=PASSWORD)


def test_a_link_of_yesterday_is_refused(store: Store) -> None:
    with store.transaction() as session:
        secret = people.invite(session, Role.ADMIN, actor="vigil")
        row = session.scalars(select(people.InvitationRow)).one()
        row.expires_at = datetime.now(UTC) - timedelta(seconds=1)
    with store.transaction() as session, pytest.raises(people.InvitationError):
        people.accept(session, secret, name="ada", password=PASSWORD)


@pytest.mark.parametrize("password", ["short", "x" * 129])
def test_a_bad_password_leaves_the_link_unused(store: Store, password: str) -> None:
    with store.transaction() as session:
        secret = people.invite(session, Role.READER, actor="ada")
    with store.transaction() as session, pytest.raises(AccountError, match="12 to 128"):
        people.accept(session, secret, name="rea", password=password)
    with store.transaction() as session:
        assert people.is_invited(session, secret)


def test_a_session_says_who_asks_until_it_is_signed_out(store: Store) -> None:
    admin(store)
    with store.transaction() as session:
        secret = people.sign_in(session, "ada", PASSWORD)
    with store.transaction() as session:
        caller = people.caller_of_session(session, secret)
    assert caller is not None
    assert (caller.name, caller.role) == ("ada", Role.ADMIN)
    assert caller.csrf
    with store.transaction() as session:
        people.sign_out(session, secret)
        assert people.caller_of_session(session, secret) is None


@pytest.mark.parametrize(("name", "password"), [("ada", "wrong password!"), ("nobody", PASSWORD), ("", "")])
def test_a_refused_sign_in_does_not_say_what_was_wrong(store: Store, name: str, password: str) -> None:
    admin(store)
    with store.transaction() as session, pytest.raises(people.SignInError) as refused:
        people.sign_in(session, name, password)
    assert str(refused.value) == people.SignInError.__doc__


def test_a_session_ends_by_rest_and_by_age(store: Store) -> None:
    admin(store)
    with store.transaction() as session:
        secret = people.sign_in(session, "ada", PASSWORD)
        now = datetime.now(UTC)
        assert people.caller_of_session(session, secret, now=now + timedelta(minutes=59))
        # The look above counted as a use.
        assert people.caller_of_session(session, secret, now=now + timedelta(minutes=118))
        assert people.caller_of_session(session, secret, now=now + timedelta(minutes=200)) is None
        row = session.scalars(select(SessionRow)).one()
        row.used_at = now + timedelta(hours=13)
        assert people.caller_of_session(session, secret, now=now + timedelta(hours=13)) is None
        row.expires_at = now
        sign_ins.sweep(session)
        assert session.scalars(select(SessionRow)).all() == []


def test_no_secret_is_in_the_database(store: Store) -> None:
    admin(store)
    with store.transaction() as session:
        secret = people.sign_in(session, "ada", PASSWORD)
        _, token = people.make_token(session, "ris", Role.SERVICE, actor="ada")
    with store.transaction() as session:
        kept = [
            *session.scalars(select(SessionRow.digest)),
            *session.scalars(select(TokenRow.digest)),
            *session.scalars(select(PersonRow.password_hash)),
        ]
    assert len(kept) == 3
    assert not any(told in str(value) for told in (secret, token, PASSWORD) for value in kept)


def test_a_token_speaks_for_its_system_until_it_is_revoked_or_old(store: Store) -> None:
    with store.transaction() as session:
        token, secret = people.make_token(session, "ris", Role.SERVICE, actor="ada", life=timedelta(days=30))
        caller = people.caller_of_token(session, secret)
        assert caller is not None
        assert (caller.name, caller.role, caller.csrf) == ("token:ris", Role.SERVICE, None)
        later = datetime.now(UTC) + timedelta(days=31)
        assert people.caller_of_token(session, secret, now=later) is None
        assert people.revoke_token(session, token.id, actor="ada")
        assert not people.revoke_token(session, token.id, actor="ada")
        session.expire_all()
        assert people.caller_of_token(session, secret) is None
        assert people.caller_of_token(session, "vigil_guess") is None
        with pytest.raises(AccountError):
            people.make_token(session, "ris", Role.ADMIN, actor="ada")


def test_the_last_administrator_stays(store: Store) -> None:
    admin(store)
    with store.transaction() as session:
        with pytest.raises(AccountError, match="last administrator"):
            people.end_account(session, "ada", actor="ada")
        with pytest.raises(AccountError, match="last administrator"):
            people.change_role(session, "ada", Role.READER, actor="ada")
    admin(store, "grace")
    with store.transaction() as session:
        secret = people.sign_in(session, "ada", PASSWORD)
        people.end_account(session, "ada", actor="grace")
        assert people.caller_of_session(session, secret) is None
        with pytest.raises(people.SignInError):
            people.sign_in(session, "ada", PASSWORD)
        assert [(one.name, one.is_active) for one in people.accounts(session)] == [
            ("ada", False),
            ("grace", True),
        ]


def test_a_new_password_ends_the_sessions_of_the_old(store: Store) -> None:
    admin(store)
    with store.transaction() as session:
        old = people.sign_in(session, "ada", PASSWORD)
        link = people.invite(session, Role.ADMIN, actor="ada", name="ada")
        people.accept(session, link, name="ignored", password=f"{PASSWORD} staple")
        assert people.caller_of_session(session, old) is None
        people.sign_in(session, "ada", f"{PASSWORD} staple")


def test_a_subject_keeps_its_account_and_takes_the_role_of_today(store: Store) -> None:
    admin(store, "Jane Doe")
    with store.transaction() as session:
        first = people.sign_in_subject(session, "https://idp s1", name="Jane Doe", role=Role.READER)
        again = people.sign_in_subject(session, "https://idp s1", name="Jane Doe", role=Role.OPERATOR)
        callers = [people.caller_of_session(session, secret) for secret in (first, again)]
    assert len({caller.name for caller in callers if caller}) == 1
    assert [caller.role for caller in callers if caller] == [Role.OPERATOR, Role.OPERATOR]
    assert callers[0] is not None
    assert callers[0].name != "Jane Doe"


def test_every_change_is_in_the_audit_trail(store: Store) -> None:
    admin(store)
    with store.transaction() as session:
        secret = people.sign_in(session, "ada", PASSWORD)
        people.sign_out(session, secret)
        token, _ = people.make_token(session, "ris", Role.SERVICE, actor="ada")
        people.revoke_token(session, token.id, actor="ada")
    with store.transaction() as session:
        audit.verify(session)
        told = session.scalars(select(audit.AuditRow.action).order_by(audit.AuditRow.number)).all()
    assert told == [
        "person.invited",
        "person.added",
        "person.signed_in",
        "person.signed_out",
        "token.made",
        "token.revoked",
    ]


@pytest.mark.parametrize("name", ["token:pacs", "Operator", "nobody", "first start", "ada\x1b[2J"])
def test_nobody_takes_a_name_that_the_trail_has_for_something_else(store: Store, name: str) -> None:
    with store.transaction() as session:
        secret = people.invite(session, Role.READER, actor="ada")
    with store.transaction() as session, pytest.raises(AccountError, match="another name"):
        people.accept(session, secret, name=name, password=PASSWORD)
    with store.transaction() as session:
        people.sign_in_subject(session, "https://idp s9", name=name, role=Role.READER)
        (account,) = people.accounts(session)
    assert account.name.endswith(")")
    assert ":" not in account.name
