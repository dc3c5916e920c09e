"""Build the course's site in English and Chinese: ``build/html/index.html`` and the rest.

``make html`` runs this. It writes the sources of each language into ``build/site/``, where links
lead from page to page, and has Sphinx make pages of them, with the outputs that the lessons were
saved with. The pages ask nothing of another host, and work as files and under any path. A link or a
picture that leads nowhere ends it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lesson_table import read_lesson
from site_api import write_api_pages
from site_landing import write_landing_page
from site_pages import Page, SiteError, Sources
from site_tree import Tree, read_tree, write_sources
from site_words import SITE, WORDS
from translations import counterpart, write_tree

ROOT = Path(__file__).resolve().parent.parent
LANGUAGES = ("en", "zh")
#: What the theme brings along and no page of ours loads: icons that site.css draws, translations.
UNUSED = ("vendor", "locales", "images")


def stage(root: Path, folder: Path, language: str, repository: str = "") -> Tree:
    """Write the sources of the site in a language.

    Args:
        root: the repository.
        folder: what Sphinx will read, written anew.
        language: "en" or "zh".
        repository: the address of the published repository, to which links to source files lead;
            empty: they lead to pages that show the files.

    Raises:
        SiteError: a link or a picture leads nowhere, or to another host.
    """
    shutil.rmtree(folder, ignore_errors=True)
    translated = None
    if language != "en":
        translated = folder.with_name(f"{folder.name}-texts")
        shutil.rmtree(translated, ignore_errors=True)
        write_tree(root, translated)
    published = f"{repository.rstrip('/')}/blob/main" if repository else ""
    tree = read_tree(Sources(root, language, translated, published))
    write_sources(tree, folder)
    write_landing_page(tree, folder, write_api_pages(folder))
    about = {page.address.removesuffix(".html"): _about(tree, page) for page in tree.pages.values()}
    if language != "en":  # Sphinx looks there for words of its own, and of templates
        catalog = folder / "locale" / "zh_CN" / "LC_MESSAGES" / "sphinx.po"
        catalog.parent.mkdir(parents=True)
        shutil.copy(root / WORDS, catalog)
    (folder / "pages.json").write_text(json.dumps(about), encoding="utf-8")
    return tree


def _about(tree: Tree, page: Page) -> dict:
    """Return what a page's template has to know about it."""
    sources = tree.sources
    about = {
        "source": page.source,
        "shows_files": page.shows_files,
        "is_foreign": not page.shows_files
        and sources.language != "en"
        and not sources.is_translated(page.source),
    }
    if page.notebook:
        lesson = read_lesson(sources.root / page.source)
        about |= {"number": lesson.number, "minutes": lesson.minutes}
    return about


def run_sphinx(sources: Path, output: Path, language: str) -> None:
    """Have Sphinx make pages of the sources of a language.

    Raises:
        SiteError: Sphinx warned of something, or failed.
    """
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"]
    command += ["-c", SITE, "-d", sources.with_name(f"{language}-doctrees")]
    command += ["-t", language, sources, output]
    path = os.pathsep.join(map(str, (SITE, Path(__file__).parent)))
    environment = os.environ | {"PYTHONPATH": path, "GLOG_minloglevel": "3"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SiteError(f"Sphinx does not accept the sources in {sources}:\n{done.stderr.strip()}")


def finish(tree: Tree, output: Path) -> None:
    """Put each notebook beside its page, to be downloaded; remove what no page uses."""
    for page in tree.pages.values():
        if page.notebook:
            is_english = tree.sources.language == "en"
            file = page.source if is_english else counterpart(page.source)
            shutil.copy(tree.sources.root / file, output / page.source)
    for name in UNUSED:
        shutil.rmtree(output / "_static" / name)
    for template in (output / "_static").glob("*.html"):
        template.unlink()


def build(root: Path, output: Path, repository: str = "") -> dict[str, Tree]:
    """Build the site in both languages.

    Args:
        root: the repository.
        output: the folder of pages, replaced when all are made; the sources are in ``site`` beside.
        repository: see ``stage``.

    Returns:
        What the pages of each language are made of.

    Raises:
        SiteError: a link or a picture leads nowhere, or Sphinx warned of something.
    """
    folder = output.with_name("site")
    trees = {
        language: stage(root, folder / language, language, repository) for language in LANGUAGES
    }
    with ThreadPoolExecutor() as pool:
        runs = [
            pool.submit(run_sphinx, folder / one, folder / f"{one}-html", one) for one in LANGUAGES
        ]
    for run in runs:
        run.result()
    for language in LANGUAGES:
        finish(trees[language], folder / f"{language}-html")
    shutil.rmtree(output, ignore_errors=True)
    shutil.move(folder / "en-html", output)
    shutil.move(folder / "zh-html", output / "zh")
    return trees


def main() -> None:
    """Build the site; say where it is, or what is wrong with it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "html", metavar="FOLDER")
    options = parser.parse_args()
    began = time.monotonic()
    try:
        trees = build(ROOT, options.output, os.environ.get("SITE_REPOSITORY", ""))
    except SiteError as error:
        sys.exit(f"html: {error}")
    seconds = time.monotonic() - began
    size = sum(path.stat().st_size for path in options.output.rglob("*") if path.is_file())
    pages = sum(len(tree.pages) for tree in trees.values())
    print(f"{pages} pages in 2 languages, {size / 1e6:.1f} MB, in {seconds:.0f} s")
    print(f"open {options.output / 'index.html'}")


if __name__ == "__main__":
    main()
