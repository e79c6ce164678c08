import re
from datetime import timedelta
from html.parser import HTMLParser

import pytest
from sqlalchemy import text, update

from models.groups import Group
from service.store import Store
from service.store.tables import StudyRow
from service.study import CONTENT_CONFLICT, DeliveryStatus, State
from service.web import words
from tests.seeds import (
    CALIBRATION_SHA256,
    GROUP,
    MODEL,
    MODEL_SHA256,
    MORNING,
    REGIONS,
    Seed,
    plant,
    plant_watch,
    study_key,
)
from tests.web_client import TestClient

pytestmark = pytest.mark.postgres

HOSTILE = '<script>alert(1)</script> "><img src=x onerror=alert(2)> {{ 7 * 7 }}'
UNSCORED = sorted(set(State) - {State.SCORED})


class Page(HTMLParser):
    """Words a person reads, and what a browser would load or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def having(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def opened(browser: TestClient, url: str) -> Page:
    answer = browser.get(url)
    assert answer.status_code == 200
    return Page(answer.text)


def planted(store: Store, *seeds: Seed) -> None:
    with store.transaction() as session:
        plant(session, *seeds)


def test_an_empty_list_says_so(browser: TestClient) -> None:
    text = opened(browser, "/").text
    assert "No study waits for a person." in text
    assert "Nothing is pending on this page." in text


def test_the_list_says_that_a_scanner_has_changed(browser: TestClient, store: Store) -> None:
    assert "not calibrated any more" not in opened(browser, "/").text
    with store.transaction() as session:
        plant_watch(session, Group(modality="MR", manufacturer="ONE"), alarmed_at=MORNING)

    assert "1 scanner is not calibrated any more" in opened(browser, "/").text


def test_the_list_shows_the_order_of_the_bands(browser: TestClient, store: Store) -> None:
    planted(
        store,
        Seed(name="p", description="pending study", state=State.QUEUED),
        Seed(name="u", description="usual study", p_value=0.9),
        Seed(name="n", description="declined study", state=State.NOT_ASSESSABLE, reason="missing_slices"),
        Seed(name="a", description="unusual study", p_value=0.1),
    )
    text = opened(browser, "/").text
    places = [text.index(f"{what} study") for what in ("declined", "unusual", "usual", "pending")]
    assert places == sorted(places)
    assert words.REASONS["missing_slices"] in text
    assert "Low percentile = unusual." in text


def test_the_list_names_what_every_number_stands_on(browser: TestClient, store: Store) -> None:
    planted(store, Seed(name="a", p_value=1 / 7))
    page = opened(browser, "/")
    assert "14.3" in page.text
    assert f"{MODEL.name} {MODEL.version} · {MODEL_SHA256[:8]}" in page.text
    assert f"{GROUP}, n = 6 · {CALIBRATION_SHA256[:8]}" in page.text
    titles = {attributes.get("title") for attributes in page.having("span")}
    assert titles >= {f"model {MODEL_SHA256}", f"calibration {CALIBRATION_SHA256}"}


@pytest.mark.parametrize("state", State)
def test_a_conflict_stands_on_the_page_of_a_study_in_every_state(
    browser: TestClient, store: Store, state: State
) -> None:
    seed = Seed(name="a", state=state)
    planted(store, seed)
    with store.transaction() as session:
        session.execute(update(StudyRow).values(flag=CONTENT_CONFLICT))

    for url in ("/", f"/studies/{seed.key}"):
        assert words.FLAGS[CONTENT_CONFLICT] in opened(browser, url).text


def test_a_study_without_a_score_that_is_revealed_alone_does_not_wait(
    browser: TestClient, store: Store
) -> None:
    seed = Seed(name="a", state=State.NOT_ASSESSABLE)
    planted(store, seed)

    text = Page(browser.post(f"/studies/{seed.key}/reveal").text).text
    assert "Why there is no score" in text
    assert "What it waits for" not in text


@pytest.mark.parametrize("state", UNSCORED)
@pytest.mark.parametrize("revisions", [1, 2])
def test_no_page_shows_a_number_for_what_was_not_scored(
    browser: TestClient, store: Store, state: State, revisions: int
) -> None:
    seed = Seed(
        name="a", state=state, p_value=0.4142, study_score=27.18, revisions=revisions, regions=REGIONS
    )
    planted(store, seed)
    for url in ("/", f"/studies/{seed.key}"):
        page = opened(browser, url)
        assert not page.having("circle")  # the mark on the percentile's scale
        for number in ("41.4", "0.414", "27.18", "27.2", "0.71", "0.0412"):
            assert number not in page.text
        assert not re.search(r"\bRank \d", page.text)


@pytest.mark.parametrize("state", [State.NOT_ASSESSABLE, State.FAILED])
def test_a_study_without_a_score_says_why_in_words(browser: TestClient, store: Store, state: State) -> None:
    seed = Seed(name="a", state=state, reason="constant_pixels", detail="every voxel is 0")
    planted(store, seed)
    page = opened(browser, f"/studies/{seed.key}")
    assert "No score: a person must look at this study" in page.text
    assert words.REASONS["constant_pixels"] in page.text
    assert "every voxel is 0" in page.text
    assert "constant_pixels" in page.text
    assert not [item for item in page.having("img") if "pictures" in str(item["src"])]


def test_a_scored_study_tells_percentile_regions_series_results_and_timeline(
    browser: TestClient, store: Store
) -> None:
    results = {"sc": {"archive": DeliveryStatus.DELIVERED}, "sr": {"archive": DeliveryStatus.UNDELIVERED}}
    seed = Seed(name="a", p_value=1 / 7, regions=REGIONS, pictures=8, results=results)
    planted(store, seed, Seed(name="b", p_value=0.9))
    page = opened(browser, f"/studies/{seed.key}")
    assert "None of the 6 reference studies (T1 brain, adults) is as unusual as this one." in page.text
    assert "Rank 1 of 2 scored studies" in page.text
    assert "0.93 0.61 4.21" in page.text  # the strongest region: peak, mean, ml
    assert words.REASONS["localiser"] in page.text
    assert "✗ not delivered" in page.text
    assert "Complete, queued for scoring" in page.text
    assert MODEL_SHA256 in {attributes.get("title") for attributes in page.having("code")}


def test_the_strongest_slice_is_shown_large_until_another_is_asked_for(
    browser: TestClient, store: Store
) -> None:
    seed = Seed(name="a", regions=REGIONS, pictures=8)
    planted(store, seed)
    for query, frame in (("", 2), ("?frame=0", 0), ("?frame=7", 7), ("?frame=99", 7)):
        large = opened(browser, f"/studies/{seed.key}{query}").having("img")[1]
        assert large["src"] == f"/api/v1/studies/{seed.key}/pictures/{frame}.png"
        assert large["alt"] == f"Heatmap, slice {frame + 1} of 8"


def test_every_picture_has_words_for_those_who_cannot_see_it(browser: TestClient, store: Store) -> None:
    seed = Seed(name="a", regions=REGIONS, pictures=8)
    planted(store, seed)
    pictures = [
        item
        for item in opened(browser, f"/studies/{seed.key}").having("img")
        if "pictures" in str(item["src"])
    ]
    assert len(pictures) == 1 + 8
    assert all(item["alt"] for item in pictures)


def test_a_strangers_description_is_only_text(browser: TestClient, store: Store) -> None:
    seed = Seed(name="a", description=HOSTILE, state=State.FAILED, detail=HOSTILE, reason=HOSTILE)
    planted(store, seed)
    for url in ("/", f"/studies/{seed.key}"):
        page = opened(browser, url)
        assert all(str(item.get("src")).startswith("/static/") for item in page.having("script"))
        assert not [item for item in page.having("img") if "onerror" in item]
        assert "<script>alert(1)</script>" in page.text
        assert "{{ 7 * 7 }}" in page.text


def test_nothing_is_loaded_from_elsewhere_and_no_script_or_style_stands_in_a_page(
    browser: TestClient, store: Store
) -> None:
    seed = Seed(name="a", regions=REGIONS, pictures=8)
    planted(store, seed)
    for url in ("/", f"/studies/{seed.key}", "/studies/nobody"):
        page = Page(browser.get(url).text)
        links = [
            value
            for _, attributes in page.tags
            for name, value in attributes.items()
            if name in {"src", "href"}
        ]
        assert all(str(link)[0] in "/?#" and not str(link).startswith("//") for link in links)
        assert all(item["src"] for item in page.having("script"))  # no script stands in a page
        assert not page.having("style")
        assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
        assert not [attributes for _, attributes in page.tags if "style" in attributes]


def test_the_list_reads_itself_again_until_paused(browser: TestClient) -> None:
    assert [item for item in opened(browser, "/").having("meta") if item.get("http-equiv") == "refresh"]
    assert not [
        item for item in opened(browser, "/?live=off").having("meta") if item.get("http-equiv") == "refresh"
    ]


def test_a_long_list_is_turned_over_in_pages(browser: TestClient, store: Store) -> None:
    planted(store, *(Seed(name=str(index), p_value=(index + 1) / 300) for index in range(103)))
    first = opened(browser, "/")
    (following,) = [link["href"] for link in first.having("a") if "cursor=" in (link["href"] or "")]
    second = opened(browser, str(following))
    assert "100 of 103" in first.text
    assert "3 of 103" in second.text
    assert study_key("102") in second.text
    assert study_key("102") not in first.text


def test_a_list_without_a_worker_warns_that_nothing_is_scored(browser: TestClient, store: Store) -> None:
    assert "No worker answers." in opened(browser, "/").text
    with store.transaction() as session:
        session.execute(text("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now())"))
    assert "No worker answers." not in opened(browser, "/").text


def test_late_images_are_announced(browser: TestClient, store: Store) -> None:
    seed = Seed(name="a", is_pending=True, received_at=MORNING + timedelta(days=1))
    planted(store, seed)
    for url in ("/", f"/studies/{seed.key}"):
        assert "More images are arriving; this score does not include them." in opened(browser, url).text


@pytest.mark.parametrize("key", [study_key("nobody"), "nobody", "a" * 4000, "%00", "..%2f..%2fetc"])
def test_an_unknown_study_is_a_page_with_a_way_back(browser: TestClient, key: str) -> None:
    answer = browser.get(f"/studies/{key}")
    assert answer.status_code == 404
    assert "Back to the worklist" in answer.text


def test_the_disclaimer_stands_on_every_page(browser: TestClient, store: Store) -> None:
    planted(store, Seed(name="a"))
    for url in ("/", f"/studies/{study_key('a')}", "/nowhere"):
        assert MODEL.disclaimer in browser.get(url).text
