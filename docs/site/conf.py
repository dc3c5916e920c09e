"""How Sphinx makes the course's site; ``tools/build_site.py`` gives it the sources."""

from pathlib import Path

from site_words import NAME, words_of

language = "zh_CN" if tags.has("zh") else "en"  # noqa: F821
project = words_of(Path(__file__).parents[2], language)(NAME)
html_title = project
# Where build_site.py puts the site's own words and the theme's in the page's language
locale_dirs = ["locale"]
smartquotes_action = "D"  # dashes only: "--" comes from the API's descriptions
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinx.ext.githubpages",
    "course",
]

# Lessons as they were saved
nb_execution_mode = "off"
myst_heading_anchors = 4
myst_links_external_new_tab = False

# The API
autodoc_typehints = "description"
autodoc_typehints_format = "short"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "groupwise"
autodoc_preserve_defaults = True
add_module_names = False
napoleon_numpy_docstring = False

# How it looks
html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
templates_path = ["_templates"]
html_css_files = ["site.css", "pages.css"]
html_search_scorer = str(Path(__file__).with_name("scorer.js"))
html_context = {"default_mode": "auto"}
html_favicon = "_static/icon.svg"
html_copy_source = False
html_use_index = False
html_domain_indices = False
html_show_copyright = False
html_show_sphinx = False
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "article_header_start": ["header-start.html"],
    "article_header_end": ["header-end.html"],
    "footer_content_items": [],
    # A page's sections are in the contents at the left, so that code has room
    "secondary_sidebar_items": [],
}
html_sidebars = {"**": ["sidebar-top.html", "contents.html"]}
copybutton_selector = "div:not(.output) > div.highlight > pre"
