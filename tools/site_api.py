"""The pages about the API of the site: what lessons and programs of one's own may import."""

from pathlib import Path

#: Packages, whose ``__init__`` exports what their modules define.
PACKAGES = (
    "serving_kit.client",
    "serving_kit.server",
    "serving_kit.export",
    "serving_kit.repository",
    "serving_kit.stylenet",
    "serving_kit.exercises",
    "serving_kit.projects",
)
MODULES = (
    "serving_kit.models",
    "serving_kit.in_process",
    "serving_kit.errors",
    "serving_kit.paths",
    "oneflow_backend.saved_graph",
    "oneflow_backend.graph_folder",
    "oneflow_backend.openblas",
)
#: What has paths of this machine for values.
ABSOLUTE = ("serving_kit.paths", "serving_kit.server")
PAGE = """# `{module}`

```{{eval-rst}}
.. automodule:: {module}
   :members:
"""


def write_api_pages(folder: Path) -> list[str]:
    """Write a page for each package and module; return their names for the contents."""
    (folder / "api").mkdir()
    for module in (*PACKAGES, *MODULES):
        text = PAGE.format(module=module) + "   :imported-members:\n" * (module in PACKAGES)
        text += "   :no-value:\n" * (module in ABSOLUTE)
        (folder / "api" / f"{module}.md").write_text(f"{text}```\n", encoding="utf-8")
    return [f"api/{module}" for module in (*PACKAGES, *MODULES)]
