"""Which part of the kit imports which: the contract is in pyproject.toml."""

import subprocess
import sys

import grimp
from importlinter.cli import lint_imports

from serving_kit.paths import ROOT


def test_imports_are_as_the_contract_has_them(capsys):
    code = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert code == 0, capsys.readouterr().out


def test_the_supervisor_imports_the_standard_library_only():
    """It outlives everything else, is run by its path, and is process 1 of the image."""
    graph = grimp.build_graph("serving_kit", include_external_packages=True, cache_dir=None)
    package = "serving_kit.server.supervisor"
    own = graph.find_descendants(package) | {package}
    imported = set().union(*map(graph.find_modules_directly_imported_by, own))
    outside = {name for name in imported - own if name != "supervisor"}  # as it names itself
    assert outside and outside <= sys.stdlib_module_names


def test_what_needs_no_oneflow_does_not_wait_for_it():
    """The styles' names too: ``stylenet`` imports its networks when they are asked for."""
    code = (
        "import sys, serving_kit.cli, serving_kit.client, serving_kit.repository\n"
        "import serving_kit.server, serving_kit.stylenet, serving_kit.models\n"
        "serving_kit.repository.check('model_repository')\n"
        "sys.exit('oneflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
