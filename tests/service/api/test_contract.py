"""Every operation is asked what its description allows, and what it forbids: schemathesis, in process."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.access import Role
from service.api import create_app
from service.calibrations import Calibrations
from service.settings import Settings
from service.store import Store, audit, feedback, people
from service.study import DeliveryStatus, State, Verdict
from tests.conftest import empty
from tests.seeds import MODEL, REGIONS, Seed, plant, study_key

pytestmark = pytest.mark.postgres

KEY = study_key("a")
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
HOST = {"Host": "127.0.0.1"}
USUAL, LONG = 2, 150  # examples of each operation and way
FAULTS_OF_THE_PLACE = {503}  # STOW-RS is off here; said so with what to set


@pytest.fixture(scope="module")
def planted(database_url: str) -> Iterator[Store]:
    """Store with a study of every kind, and something in every listing."""
    store = Store.open(database_url)
    empty(store)
    results = {"sr": {"pacs": DeliveryStatus.STORED}, "sc": {"pacs": DeliveryStatus.UNDELIVERED}}
    with store.transaction() as session:
        plant(session, Seed(name="a", regions=REGIONS, pictures=3, results=results))
        plant(session, *(Seed(name=state.value, state=state) for state in State))
        feedback.give(session, KEY, feedback.Opinion(verdict=Verdict.ARTEFACT), actor="ada")
    yield store
    with store.transaction() as session:
        audit.verify(session)  # whatever was asked, the trail is whole
    store.close()


@pytest.fixture(scope="module")
def api(planted: Store, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The description of the application, which asks the application itself."""
    app = create_app(
        store=planted,
        settings=Settings(data=tmp_path_factory.mktemp("data")),
        model=MODEL,
        calibrations=Calibrations(),
    )
    return schemathesis.openapi.from_asgi("/openapi.json", app, headers=HOST)


def operations(api: Any) -> Iterator[Any]:
    """Every operation whose answer ends."""
    for found in api.get_all_operations():
        operation = found.ok()
        if "text/event-stream" not in str(operation.definition.raw["responses"]):
            yield operation


def ask(api: Any, store: Store, mode: GenerationMode, examples: int) -> int:
    """Ask every operation; return how many questions were put."""
    asked = 0
    for number, operation in enumerate(operations(api)):
        with store.transaction() as session:  # a question may revoke the token it is asked with
            name = f"{mode.value} {examples} {number}"
            _, secret = people.make_token(session, name, Role.ADMIN, actor="test")
        asked += ask_one(operation, mode, examples, {**HOST, "Authorization": f"Bearer {secret}"})
    return asked


def ask_one(operation: Any, mode: GenerationMode, examples: int, headers: dict[str, str]) -> int:
    """Ask one operation; return how many questions were put."""
    is_right = mode is GenerationMode.POSITIVE
    checks = CHECKS if is_right else [*CHECKS, negative_data_rejection]
    asked = count()

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), is_known=st.booleans())
    def put(case: Any, is_known: bool) -> None:
        if is_known and is_right and "key" in (case.path_parameters or {}):
            case.path_parameters["key"] = KEY
        answer = case.call(headers=headers)
        next(asked)
        if answer.status_code not in FAULTS_OF_THE_PLACE:
            case.validate_response(answer, checks=checks)

    try:
        put()
    except Unsatisfiable:  # there is no wrong way to ask, say, for the health
        assert not is_right
    return next(asked)


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_operation_answers_as_it_is_described(api: Any, planted: Store, mode: GenerationMode) -> None:
    assert ask(api, planted, mode, USUAL) > len(list(operations(api)))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_operation_is_asked_at_length(api: Any, planted: Store, mode: GenerationMode) -> None:
    assert ask(api, planted, mode, LONG) > LONG
