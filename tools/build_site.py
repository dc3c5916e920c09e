"""Build the course's site in English and Chinese: ``build/html/index.html`` and the rest.

``make html`` runs this. It writes the sources of each language into ``build/site/``, where links
lead from page to page, and has Sphinx make pages of them, with the outputs that the lessons were
saved with. The pages ask nothing of another host, and work as files and under any path. A link or a
picture that leads nowhere ends it.
"""

import argparse
import json
import os
import posixpath
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lesson_table import read_lesson
from site_api import write_api_pages
from site_landing import words_of, write_landing_page
from site_pages import Page, SiteError, Sources
from site_tree import Tree, read_tree, write_sources
from translations import write_tree

ROOT = Path(__file__).resolve().parent.parent
LANGUAGES = ("en", "zh")


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
    words = words_of(root, language)
    about = {
        posixpath.splitext(page.file)[0]: _about(tree, page, words) for page in tree.pages.values()
    }
    (folder / "pages.json").write_text(json.dumps(about), encoding="utf-8")
    return tree


def _about(tree: Tree, page: Page, words) -> dict:
    """Return what the template of a page says beside its text."""
    if page.notebook:
        lesson = read_lesson(tree.sources.root / page.source)
        return {
            "above": words("Lesson {number}").format(number=lesson.number),
            "beside": words("{minutes} minutes").format(minutes=lesson.minutes),
            "notebook": posixpath.basename(page.source),
            "source": page.source,
        }
    above = words("From the repository") if page.shows_files else words("Reference")
    return {"above": above, "beside": page.source}


def run_sphinx(root: Path, sources: Path, output: Path, language: str) -> None:
    """Have Sphinx make pages of the sources of a language.

    Raises:
        SiteError: Sphinx warned of something, or failed.
    """
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"]
    command += ["-c", root / "docs" / "site", "-d", sources.with_name(f"{language}-doctrees")]
    command += ["-t", language, sources, output]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    if done.returncode:
        raise SiteError(f"Sphinx does not accept the sources in {sources}:\n{done.stderr.strip()}")


def build(root: Path, folder: Path, output: Path, repository: str = "") -> dict[str, Tree]:
    """Build the site in both languages.

    Args:
        root: the repository.
        folder: where sources and what Sphinx keeps go.
        output: the folder of pages, replaced when all are made.
        repository: see ``stage``.

    Returns:
        What the pages of each language are made of.

    Raises:
        SiteError: a link or a picture leads nowhere, or Sphinx warned of something.
    """
    trees = {
        language: stage(root, folder / language, language, repository) for language in LANGUAGES
    }
    with ThreadPoolExecutor() as pool:
        runs = [
            pool.submit(run_sphinx, root, folder / one, folder / f"{one}-html", one)
            for one in LANGUAGES
        ]
    for run in runs:
        run.result()
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
        trees = build(
            ROOT, ROOT / "build" / "site", options.output, os.environ.get("SITE_REPOSITORY", "")
        )
    except SiteError as error:
        sys.exit(f"html: {error}")
    seconds = time.monotonic() - began
    size = sum(path.stat().st_size for path in options.output.rglob("*") if path.is_file())
    pages = sum(len(tree.pages) for tree in trees.values())
    print(f"{pages} pages in 2 languages, {size / 1e6:.1f} MB, in {seconds:.0f} s")
    print(f"open {options.output / 'index.html'}")


if __name__ == "__main__":
    main()
