"""The files that lesson 09 writes: whose mistake an error is that a model sent to the studio."""

import sys
import types

import pytest
from notebook_parts import LESSONS, code_cells, read


class TritonModelException(Exception):
    """Stands in for the one of Triton's module."""


@pytest.fixture
def steps(monkeypatch):
    """steps.py of the lesson, with a Triton whose models answer with an error."""
    (lesson,) = (read(path) for path in LESSONS if path.name.startswith("09"))
    (source,) = (
        cell.source.partition("\n")[2]
        for cell in code_cells(lesson)
        if cell.source.startswith("%%writefile") and "steps.py" in cell.source.splitlines()[0]
    )
    module = types.SimpleNamespace(source=source, sentence="")
    response = types.SimpleNamespace(
        has_error=lambda: True,
        error=lambda: types.SimpleNamespace(message=lambda: module.sentence),
    )
    triton = types.ModuleType("triton_python_backend_utils")
    triton.TritonModelException = TritonModelException
    triton.Tensor = lambda name, array: (name, array)
    triton.InferenceRequest = lambda **_: types.SimpleNamespace(exec=lambda: response)
    monkeypatch.setitem(sys.modules, triton.__name__, triton)
    namespace = {}
    exec(source, namespace)
    module.run, module.Refused = namespace["run"], namespace["Refused"]
    return module


def test_a_sentence_about_the_picture_is_the_visitor_s_mistake(steps):
    steps.sentence = "the picture is empty; expected a JPEG, PNG or WebP"
    with pytest.raises(steps.Refused, match="the picture is empty"):
        steps.run("preprocess", ["IMAGE"], PICTURE=b"")


@pytest.mark.parametrize(
    "sentence",
    [
        "Stub process 'preprocess_0_0' is not healthy.",
        "Model preprocess - Error when running inference: Failed for execute the inference "
        "request. Model 'preprocess' is not ready.",
    ],
)
def test_a_dead_model_is_not(steps, sentence):
    steps.sentence = sentence
    with pytest.raises(TritonModelException):
        steps.run("preprocess", ["IMAGE"], PICTURE=b"")
