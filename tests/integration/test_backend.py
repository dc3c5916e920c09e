"""The backend "oneflow" in a real Triton: right responses, and one sentence for what is wrong."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import oneflow as flow
import pytest
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

from oneflow_backend.saved_graph import SavedGraph
from serving_kit.client.inference import infer
from serving_kit.stylenet.cpu_network import load_multi_style
from serving_kit.stylenet.styles import style_weights


def random_image(size, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (1, 3, size, size)).astype(np.float32)


@pytest.fixture
def client(server):
    with httpclient.InferenceServerClient(server.url) as client:
        yield client


def test_served_and_in_process_results_are_equal(server):
    image = random_image(256)
    served = infer(image, url=server.url)
    with SavedGraph(server.model_repository / "fast_neural_style" / "1" / "model") as graph:
        assert np.array_equal(graph(image)[0], served)


def test_the_original_guides_configuration_is_served(client):
    config = client.get_model_config("fast_neural_style")
    assert (config["backend"], config["max_batch_size"]) == ("oneflow", 1)
    assert config["input"][0]["dims"] == config["output"][0]["dims"] == [3, 256, 256]


def test_multi_style_takes_any_blend_a_row(server):
    picture = random_image(256)
    styles = ["starry_night", {"red_ember": 0.5, "inked_porcelain": 0.5}]
    weights = np.concatenate([style_weights(style) for style in styles])
    both = infer(np.repeat(picture, 2, axis=0), weights, model="multi_style", url=server.url)
    assert both.shape == (2, 3, 256, 256)
    night = infer(picture, url=server.url)  # the same style, folded into fast_neural_style
    assert np.abs(both[:1] - night).max() < 0.05
    with flow.no_grad():
        blend = load_multi_style()(flow.tensor(picture), flow.tensor(weights[1:])).numpy()
    assert np.abs(both[1:] - blend).max() < 0.05
    assert np.abs(both[1] - both[0]).mean() > 10


def test_triton_refuses_what_does_not_fit(client):
    for name, shape, datatype in (
        ("INPUT_0", (1, 3, 64, 64), "FP32"),
        ("INPUT_0", (2, 3, 256, 256), "FP32"),
        ("INPUT_0", (1, 3, 256, 256), "FP64"),
        ("INPUT_1", (1, 3, 256, 256), "FP32"),
    ):
        tensor = httpclient.InferInput(name, shape, datatype)
        dtype = {"FP32": np.float32, "FP64": np.float64}[datatype]
        tensor.set_data_from_numpy(np.zeros(shape, dtype))
        with pytest.raises(InferenceServerException) as caught:
            client.infer("fast_neural_style", [tensor])
        assert caught.value.status() == "400"
    assert client.is_model_ready("fast_neural_style")


#: One of each kind; tests/unit/test_graph_folder.py and test_backend_config.py have the others.
BROKEN = {
    "half copied, before its tensors are read": (
        lambda model: (
            cut(model / "1" / "model" / "model.mlir"),
            (model / "config.pbtxt").write_text('backend: "oneflow"'),
        ),
        "model.mlir ends too early (partly copied?)",
    ),
    "missing variable": (
        lambda model: (model / "1" / "model" / "module.b" / "out").unlink(),
        "module.b/out is missing: the graph has a variable module.b, float32 [3]; copy the whole",
    ),
    "an operator that OneFlow does not have": (
        lambda model: misspell(model / "1" / "model" / "model.mlir"),
        "OneFlow's process died while it loaded the graph: OneFlow 0.9.0 does not know the "
        "operator sigmoidal, or not in the form that the graph uses; was",
    ),
    "wrong dims": (
        lambda model: edit(model, "[ 3 ]", "[ 4 ]"),
        "config.pbtxt of {name}: INPUT_0 has dims [4], but the graph has [3] (without the batch",
    ),
    "a mistyped parameter": (
        lambda model: append(
            model, 'parameters { key: "max_retrys" value: { string_value: "2" } }'
        ),
        "parameter max_retrys is unknown; the backend has: batch_sizes, ",
    ),
    "a GPU that is not there": (
        lambda model: edit(model, "KIND_CPU", "KIND_GPU gpus: [ 0 ]"),
        "specifies invalid or unsupported gpu id 0",
    ),
}


def cut(file):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def misspell(mlir):
    text = mlir.read_text()
    assert '"oneflow.sigmoid"' in text
    mlir.write_text(text.replace('"oneflow.sigmoid"', '"oneflow.sigmoidal"'))


def edit(model, old, new):
    config = model / "config.pbtxt"
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))


def append(model, text):
    with (model / "config.pbtxt").open("a") as config:
        config.write(text)


@pytest.fixture(scope="module")
def refusals(make_tiny_model):
    """What Triton says about each of the broken models; they are loaded side by side."""

    def refusal(model):
        with pytest.raises(InferenceServerException) as caught:
            model.load()
        return str(caught.value)

    models = {case: make_tiny_model() for case in BROKEN}
    for case, (break_it, _) in BROKEN.items():
        break_it(models[case].folder)
    with ThreadPoolExecutor(2) as pool:
        said = pool.map(refusal, models.values())
        return {case: (models[case].name, text) for case, text in zip(models, said, strict=True)}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_with_a_model_is_told_at_load(refusals, case):
    name, text = refusals[case]
    assert BROKEN[case][1].format(name=name) in text
