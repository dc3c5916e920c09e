"""What the course's site needs of Sphinx beyond its own settings.

The pages' anchors are GitHub's, pictures of cells have alternative texts, tables that cells printed
can be told from lines that wrap, each page knows the same page in the other language, and Chinese
can be searched.
"""

import json
import re
from pathlib import Path

from docutils import nodes
from pbtxt import PbtxtLexer
from search_words import SearchChinese, SearchEnglish
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

from site_words import other_language

ROOT = Path(__file__).resolve().parents[2]
#: Of a printed table, in characters. Longer lines are prose, such as what a check found.
WIDEST_TABLE = 100
#: What an option in a line of text begins with.
OPTION = re.compile(r'(<span class="pre">)(-{1,2}\w)')


def has_columns(text: str) -> bool:
    """Say whether a cell printed a table; a narrow screen scrolls it and wraps all else."""
    lines = text.splitlines()
    aligned = [line for line in lines if re.search(r"\S {2,}\S", line)]
    return len(aligned) > 1 and max(map(len, lines)) <= WIDEST_TABLE


class Anchors(SphinxTransform):
    """Gives sections the anchors that GitHub gives them, in every language."""

    default_priority = 10  # before anything refers to them

    def apply(self) -> None:
        """Rename the sections of a page."""
        slugs = self.env.metadata[self.env.docname].get("myst_slugs", {})
        taken = set()
        for section in self.document.findall(nodes.section):
            slug = section.get("slug")
            if not slug or slug in taken:
                continue
            taken.add(slug)
            line, old, text = slugs[slug]
            section["ids"] = [slug, *(one for one in section["ids"] if one != old)]
            self.document.ids[slug] = section
            slugs[slug] = line, slug, text


class Outputs(SphinxTransform):
    """Completes what cells showed: alternative texts of pictures, tables that must not wrap."""

    default_priority = 10

    def apply(self) -> None:
        """Complete the outputs of a page."""
        for bundle in self.document.findall(_is_bundle):
            text = next(bundle.findall(nodes.literal_block), None)
            for image in bundle.findall(nodes.image):
                image["alt"] = text.astext()
        for block in self.document.findall(nodes.literal_block):
            if "output" in block["classes"] and has_columns(block.astext()):
                block["classes"].append("aligned")


def _is_bundle(node: nodes.Node) -> bool:
    return isinstance(node, nodes.container) and node.get("nb_element") == "mime_bundle"


def about_page(app: Sphinx, pagename: str, template: str, context: dict, doctree: object) -> None:
    """Give a page's template what ``tools/build_site.py`` wrote about the page; mark options."""
    context["body"] = OPTION.sub(r'\1<span class="dash">\2</span>', context.get("body", ""))
    pages = app.config.course_pages
    context["course"] = pages.get(pagename, {})
    language = "en" if app.config.language == "en" else "zh"
    context["other_language"] = other_language(language, f"{pagename}.html")


def read_about_pages(app: Sphinx) -> None:
    """Read what ``tools/build_site.py`` wrote about the pages."""
    app.config.course_pages = json.loads((Path(app.srcdir) / "pages.json").read_text())


def keep_colons(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list):
    """Keep Napoleon from taking "One line: all of it" for an attribute of the type "One line"."""
    if what in ("attribute", "data", "property"):
        lines.insert(0, "\\ ")  # nothing in reStructuredText, and a line without a colon


def shorten_paths(
    app: Sphinx, what: str, name: str, thing: object, options: object, signature: str, returns: str
) -> tuple[str, str] | None:
    """Show a default path as it is in the repository, not on the machine that built the site."""
    if signature:
        return signature.replace(f"PosixPath('{ROOT}/", "Path('"), returns
    return None


def setup(app: Sphinx) -> dict:
    """Register all of it with Sphinx."""
    app.add_transform(Anchors)
    app.add_transform(Outputs)
    app.add_lexer("pbtxt", PbtxtLexer)
    app.add_search_language(SearchEnglish)
    app.add_search_language(SearchChinese)
    app.connect("builder-inited", read_about_pages)
    app.connect("html-page-context", about_page)
    app.connect("autodoc-process-docstring", keep_colons, priority=400)
    app.connect("autodoc-process-signature", shorten_paths)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
