"""Projects of lesson 14, made quickly: in this process, which has imported OneFlow already."""

import importlib.util
import sys

from serving_kit.projects import new_project

NAME = "my_model"
MODULES = ("network", "train", "export", "client")
TEXT_TENSORS = """
input [ { name: "INPUT_0" data_type: TYPE_INT64 dims: [ 48 ] } ]
output [ { name: "OUTPUT_0" data_type: TYPE_FP32 dims: [ 4 ] label_filename: "labels.txt" } ]
"""


def call_main(project, script, *arguments, **changes):
    """Call main() of a project's script, with some of its names changed.

    Python would take compiled code for that of a file which was changed within the same second.
    """
    before = {name: sys.modules.pop(name, None) for name in MODULES}
    writes_none, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, str(project))
    try:
        spec = importlib.util.spec_from_file_location(script, project / f"{script}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        vars(module).update(changes)
        module.main(*arguments)
    finally:
        sys.dont_write_bytecode = writes_none
        sys.path.remove(str(project))
        for name in MODULES:
            sys.modules.pop(name, None)
        sys.modules.update({name: module for name, module in before.items() if module})


def exported_project(folder, kind="text", versions=(1,)):
    """Make a project whose network was hardly trained, with some versions exported."""
    project = new_project(NAME, kind, folder)
    for version in versions:
        call_main(project, "train", version, STEPS={version: 2 * version})
        call_main(project, "export", version)
    return project


def configure(project, rows=1, more=""):
    text = f'name: "{NAME}"\nbackend: "oneflow"\nmax_batch_size: {rows}\n{TEXT_TENSORS}{more}'
    (project / "model_repository" / NAME / "config.pbtxt").write_text(text)
