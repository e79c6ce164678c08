import pytest

from models.catalogue import SHIPPED
from service.web.card import render


def test_headings_lists_tables_and_code_keep_their_structure() -> None:
    html = render("# Name\n\n## Limits\n\n- *one*\n- `two`\n\n| a | b |\n|---|---|\n| 1 | 2 |\n")

    assert "<h3>Name</h3>" in html  # below the headings of the page
    assert "<h4>Limits</h4>" in html
    assert "<li><em>one</em></li>" in html
    assert "<li><code>two</code></li>" in html
    assert "<td>1</td>" in html


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "text <img src=x onerror=alert(1)> text",
        "[here](javascript:alert(1))",
        "[here](https://example.org)",
        "![picture](https://example.org/x.png)",
        "<https://example.org>",
        "https://example.org",
        '| a |\n|---|\n| <b onclick="x"> |',
        "```html\n<script>\n```",
        '# <svg onload="x">',
    ],
)
def test_nothing_runs_is_loaded_or_leads_away(hostile: str) -> None:
    html = render(hostile).lower()

    assert not [tag for tag in ("<script", "<img", "<a ", "<b ", "<svg") if tag in html]


def test_every_shipped_card_is_shown_whole() -> None:
    for path in SHIPPED.glob("*/MODEL_CARD.md"):
        html = render(path.read_text(encoding="utf-8"))
        assert "<h3>" in html
        assert "<script" not in html
