"""How Sphinx makes the course's site; ``tools/build_site.py`` gives it the sources."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "tools")]

language = "zh_CN" if tags.has("zh") else "en"  # noqa: F821
project = "OneFlow 模型部署教程" if language == "zh_CN" else "OneFlow, served"
html_title = project
smartquotes = False
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
autodoc_member_order = "groupwise"
autodoc_preserve_defaults = True
add_module_names = False
napoleon_numpy_docstring = False

# How it looks
html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
templates_path = ["_templates"]
html_css_files = ["site.css"]
html_context = {"default_mode": "auto"}
html_favicon = "_static/icon.svg"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_theme_options = {
    "logo": {"text": project},
    "use_download_button": False,
    "use_fullscreen_button": False,
    "article_header_start": ["toggle-primary-sidebar.html", "brand.html"],
    "article_header_end": ["language.html", "download.html", "article-header-buttons.html"],
    "footer_content_items": [],
    # A page's sections are in the contents at the left, so that code has room
    "secondary_sidebar_items": [],
}
html_sidebars = {"**": ["navbar-logo.html", "search-button-field.html", "contents.html"]}
copybutton_selector = "div:not(.output) > div.highlight > pre"
