"""A model card as a page shows it: the structure of its Markdown, none of its HTML, links or pictures."""

from markdown_it import MarkdownIt
from markupsafe import Markup

_BELOW = 2  # the page's own headings stand above those of the card
_DEEPEST = 6
_READER = MarkdownIt("js-default", {"html": False, "linkify": False, "typographer": False}).disable(
    ["image", "link", "autolink", "html_inline", "html_block"], ignoreInvalid=True
)


def render(text: str) -> Markup:
    """Markdown of a stranger as markup that is safe to show.

    Headings, paragraphs, lists, tables, emphasis and code; everything else stays the text it is, escaped.
    """
    tokens = _READER.parse(text)
    for token in tokens:
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(int(token.tag[1:]) + _BELOW, _DEEPEST)}"
    return Markup(_READER.renderer.render(tokens, _READER.options, {}))  # noqa: S704 - escaped by the renderer
