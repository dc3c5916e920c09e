"""What the site's search takes for words, in English and Chinese, offline.

An identifier is a word, and so are its parts: ``dynamic_batching`` is found by "dynamic batching".

Written Chinese has no spaces, and dictionaries of words do not know terms such as 动态批处理. So a
run of Chinese characters is indexed by each of its characters and each pair of neighbours, and a
query asks for all its pairs, as Lucene's CJKAnalyzer does.
"""

import re
from itertools import pairwise

import snowballstemmer
from sphinx.search import SearchLanguage, en

#: A Latin word, or a run of Chinese characters.
WORD = re.compile(r"[^\W\u3400-\u9fff\uf900-\ufaff]+|[\u3400-\u9fff\uf900-\ufaff]+")
FIRST_CHINESE = "\u3400"


def latin_words(word: str) -> list[str]:
    """Return a word, and its parts if it is an identifier."""
    return [word, *filter(None, word.split("_"))] if "_" in word else [word]


class SearchEnglish(en.SearchEnglish):
    """Sphinx's English with identifiers."""

    def split(self, text: str) -> list[str]:
        """Return the words of a text."""
        return [part for word in super().split(text) for part in latin_words(word)]


class SearchChinese(SearchLanguage):
    """Splits Chinese texts for Sphinx's index, and by JavaScript queries in the browser."""

    lang = "zh"
    language_name = "Chinese"
    stopwords = en.english_stopwords
    js_stemmer_code = en.js_porter_stemmer
    # Unlike texts, queries have single characters only where a character stands alone: all pairs
    # of a longer run have to be found.
    js_splitter_code = r"""
const CHINESE_OR_LATIN =
  /[\u3400-\u9fff\uf900-\ufaff]+|(?:(?![\u3400-\u9fff\uf900-\ufaff])[\p{Letter}\p{Number}_])+/gu;
var splitQuery = (query) =>
  (query.match(CHINESE_OR_LATIN) || []).flatMap((run) =>
    run < "\u3400" || run.length < 2
      ? [run]
      : [...run].slice(1).map((character, place) => run[place] + character));
"""

    def init(self, options: dict[str, str]) -> None:
        """Get the stemmer of Latin words."""
        self.stemmer = snowballstemmer.stemmer("porter")

    def split(self, text: str) -> list[str]:
        """Return the words of a text: Latin words, Chinese characters and their pairs."""
        words: list[str] = []
        for run in WORD.findall(text):
            is_latin = run < FIRST_CHINESE
            words += latin_words(run) if is_latin else [*run, *map("".join, pairwise(run))]
        return words

    def stem(self, word: str) -> str:
        """Return the stem of a Latin word, as the browser does."""
        return self.stemmer.stemWord(word.lower())

    def word_filter(self, word: str) -> bool:
        """Say whether a word is worth finding."""
        return word >= FIRST_CHINESE or (len(word) > 1 and word not in self.stopwords)
