"""The folders of a repository: what belongs there, what is missing, and what is strange."""

import json
import os
import random
import shutil

import pytest

from serving_kit.paths import MODEL_REPOSITORY
from serving_kit.repository import check, has_errors, to_json, to_text
from serving_kit.repository.checks import folders


def test_a_healthy_repository(chain, put_gpus):
    gpu = (chain / "net/config.pbtxt").read_text().replace("KIND_CPU", "KIND_GPU gpus: 0")
    (chain / "net/configs").mkdir()
    (chain / "net/config.pbtxt").rename(chain / "net/configs/cpu.pbtxt")
    chain.write("net/config.pbtxt", gpu)
    assert chain.findings() == []
    chain.has_one(
        "kind-gpu",
        ".",
        "no GPU for net, so serve configs/cpu.pbtxt of each, with tritonserver --model-config-name",
        severity="warning",
    )
    put_gpus("0, NVIDIA A10, 8.6")
    assert check(chain.path) == []


def test_the_committed_repository_is_healthy():
    assert [f for f in check(MODEL_REPOSITORY) if f.code not in ("no-version", "kind-gpu")] == []


def test_folders_that_belong_there(repository):
    for name in ("net/configs", "net/warmup", "net/initial_state", "net/.1.partial-abc"):
        (repository / name).mkdir()
    (repository / ".net.partial-abc").mkdir()
    repository.save_graph("net/2/model")
    repository.write("README.md", "a file beside the models does no harm")
    assert check(repository.path) == []


def test_what_triton_completes_may_be_left_out(repository):
    repository.write("net/config.pbtxt", 'backend: "oneflow"\nmax_batch_size: 1\n')
    (repository / "py/config.pbtxt").unlink()
    repository.save_graph("other.oneflow/1/model")
    assert check(repository.path) == []


# --- configurations -----------------------------------------------------------------------------


def test_configurations_of_one_model_that_differ(repository):
    text = (repository / "net/config.pbtxt").read_text()
    repository.write("net/configs/cpu.pbtxt", text.replace("size: 1", "size: 2"))
    assert repository.findings() == []
    repository.has_one(
        "variants-differ",
        "net/configs/cpu.pbtxt:3",
        "max_batch_size differ from config.pbtxt, so the model is another one with configs/cpu.pb",
        severity="warning",
    )


def test_kind_gpu_in_the_configuration_for_the_cpu(repository):
    repository.change("net/config.pbtxt", "KIND_CPU", "KIND_GPU")
    (repository / "net/configs").mkdir()
    shutil.copy(repository / "net/config.pbtxt", repository / "net/configs/cpu.pbtxt")
    places = [finding[:2] for finding in repository.findings()]
    assert places == [
        ("kind-gpu", "net/config.pbtxt:20"), ("kind-gpu", "net/configs/cpu.pbtxt:20")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["Config.pbtxt", "config.pbtx", "config.pbtxt.txt", "conf.pbtxt", "config (copy).pbtxt"]
)
def test_a_misspelt_config(repository, name):
    (repository / "net/config.pbtxt").rename(repository / "net" / name)
    sentence = f"Triton reads config.pbtxt, which is not there, and not {name}; rename it"
    repository.has_one("config-misspelt", f"net/{name}", sentence)


def test_a_missing_config(repository):
    repository.write("net/config.json", "{}")  # not like config.pbtxt
    (repository / "net/configs").mkdir()
    (repository / "net/config.pbtxt").rename(repository / "net/configs/cpu.pbtxt")
    place = "net/config.pbtxt"
    repository.has_one("config-missing", place, "serves only where --model-config-name=cpu")
    shutil.rmtree(repository / "net/configs")
    repository.has_one("config-missing", place, 'a file with one line, backend: "oneflow"')


# --- versions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code", "place", "sentence"),
    [
        ("v1", "no-version", "py",
         "a version's folder is called by a number without leading zeros, as 1, but here is v1"),
        ("01", "no-version", "py", "but here is 01; rename it"),
        ("latest", "no-version", "py", "but here is latest"),
        ("1.0", "version-name", "py/1.0", 'takes the folder "1.0" for version 1, by the number'),
        ("1_old", "version-name", "py/1_old", "call it 1, or move it out of the model's folder"),
        ("+1", "version-name", "py/+1", "call it 1, or move"),
        ("-1", "version-name", "py/-1", "call it 1, or move"),
    ],
)  # fmt: skip
def test_a_version_that_is_no_number(repository, name, code, place, sentence):
    (repository / "py/1").rename(repository / "py" / name)
    repository.has_one(code, place, sentence)


@pytest.mark.parametrize(
    ("name", "severity", "sentence"),
    [
        ("best", "warning", 'is "best" meant to be one?'),
        ("2_old", "error", 'takes the folder "2_old" for version 2, by the number at its begin'),
        (str(2**63), "error", "which ends Triton itself; rename the"),
    ],
)
def test_a_strange_version_beside_a_good_one(repository, name, severity, sentence):
    shutil.copytree(repository / "py/1", repository / "py" / name)
    repository.has_one("version-name", f"py/{name}", sentence, severity=severity)
    assert severity == "error" or repository.findings() == []


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("net", "the saved graph belongs in 1/model; export it (make models)"),
        ("py", "expected a folder 1 with the model in it"),
        (
            "chain",
            "an ensemble needs a version folder too, though an empty one; make 1/ with a fil",
        ),
    ],
)
def test_no_version(chain, model, sentence):
    shutil.rmtree(chain / model / "1")
    findings = [finding for finding in chain.findings() if finding[1] == model]
    assert [finding[0] for finding in findings] == ["no-version"]
    assert sentence in findings[0][2]


def test_a_version_that_is_a_file(repository):
    shutil.rmtree(repository / "py/1")
    repository.write("py/1", "")
    repository.has_one("no-version", "py", "1 is a file, but a version is a folder")


@pytest.mark.parametrize(
    ("policy", "severity", "sentence"),
    [
        ("specific { versions: [ 2 ] }", "error", "names version 2, but the model's folder has 1"),
        ("specific { versions: [ 1, 3 ] }", "warning", "names version 3, but the model's folder"),
        ("latest { num_versions: 0 }", "error", "serves no version, but the model's folder has 1"),
    ],
)
def test_a_version_policy_without_its_versions(repository, policy, severity, sentence):
    repository.append("py/config.pbtxt", f"version_policy {{ {policy} }}\n")
    repository.has_one("version-policy", "py/config.pbtxt:6", sentence, severity=severity)


@pytest.mark.parametrize("policy", ["", "all { }"])
def test_policies_that_serve_all_versions(repository, policy):
    repository.append("py/config.pbtxt", f"version_policy {{ {policy} }}\n")
    shutil.copytree(repository / "py/1", repository / "py/3")
    (repository / "py/2").mkdir()
    repository.has_one("python-model", "py/2/model.py", "is missing")


# --- folders around, and what else lies there ---------------------------------------------------


def test_what_is_no_repository(repository, tmp_path):
    repository.has_one("no-repository", "nowhere", "is not a folder; expected", below="nowhere")
    right = f'and Triton wants the folder around it; give it "{repository.path}"'
    repository.has_one("repository-is-model", "net", right, below="net")
    repository.has_one("repository-inside", ".", "is a model repository itself", below="..")
    (tmp_path / "empty").mkdir()
    repository.has_one("no-model", "../empty", "has no model in it; expected", below="../empty")


def test_two_models_of_one_name(repository, tmp_path):
    shutil.copytree(repository / "py", tmp_path / "other/py")
    (finding,) = repository.findings(tmp_path / "other")
    assert finding[:2] == ("name-twice", "../other/py")
    assert f"{repository.path}/py has the same name, and Triton serves neither" in finding[2]


def test_a_space_in_a_name(repository):
    repository.change("py/config.pbtxt", '"py"', '"py two"')
    (repository / "py").rename(repository / "py two")
    repository.has_one("space-in-name", "py two", "waits forever", 'to "py_two" for example')


def test_broken_links(repository):
    (repository / "lost").symlink_to("nowhere")
    repository.has_one("broken-link", "lost", "refuses a whole repository with such a link")
    (repository / "lost").rename(repository / "py/lost")
    repository.has_one("broken-link", "py/lost", "Triton refuses a model with such a link")


@pytest.mark.parametrize("name", [".ipynb_checkpoints", ".git", "notes"])
def test_a_folder_that_triton_takes_for_a_model(repository, name):
    (repository / name).mkdir()
    ((code, place, message),) = repository.findings()
    assert code == ("left-over" if name == ".ipynb_checkpoints" else "no-model")
    assert place == name
    assert "as a model" in message


@pytest.mark.parametrize(
    "left",
    [".ipynb_checkpoints/", "1/.ipynb_checkpoints/", "configs/.ipynb_checkpoints/",
     "config.pbtxt~", "config.pbtxt.bak", ".config.pbtxt.swp", "config.pbtxt.orig",
     "config (copy).pbtxt", "configs/cpu.pbtxt~", "configs/cpu-checkpoint.pbtxt",
     "config - Copy.pbtxt", "#config.pbtxt#", "1/model~"],
)  # fmt: skip
def test_what_editors_leave(repository, left):
    (repository / "net/configs").mkdir()
    if left.endswith("/"):
        (repository / "net" / left).mkdir()
    else:
        repository.write(f"net/{left}", "whatever")
    assert repository.findings() == []
    left = left.rstrip("/")
    repository.has_one(
        "left-over", f"net/{left}", f"Triton does not need {left}, which", severity="warning"
    )


def test_many_left_overs_are_one_warning(repository):
    for i in range(20):
        repository.write(f"net/{i}.bak", "")
    sentence = "need 0.bak, 1.bak, 10.bak and 17 more, which"
    repository.has_one("left-over", "net/0.bak", sentence, severity="warning")


# --- hostile trees ------------------------------------------------------------------------------


def make_garbage(place):
    place.write_bytes(random.Random(0).randbytes(100_000))


def make_huge(place):
    with place.open("wb") as file:
        file.truncate(10**12)


STRANGE = {
    "fifo": os.mkfifo,
    "folder": lambda place: place.mkdir(),
    "garbage": make_garbage,
    "huge": make_huge,
    "link_loop": lambda place: place.symlink_to(place.name),
    "link_to_itself": lambda place: place.symlink_to(place.parent, target_is_directory=True),
    "endless": lambda place: place.symlink_to("/dev/zero"),
    # Reading it fails, for root too.
    "unreadable": lambda place: place.symlink_to("/proc/self/mem"),
}


@pytest.mark.parametrize("thing", STRANGE)
@pytest.mark.parametrize(
    "name",
    ["strange", "net", "net/config.pbtxt", "net/configs", "net/configs/cpu.pbtxt", "net/1",
     "net/1/model", "net/1/model/model.mlir", "net/1/model/w/out", "py/1/model.py"],
)  # fmt: skip
def test_strange_things_are_found_and_never_raise(chain, thing, name):
    (chain / "net/configs").mkdir()
    shutil.copy(chain / "net/config.pbtxt", chain / "net/configs/cpu.pbtxt")
    place = chain / name
    if place.is_dir():
        shutil.rmtree(place)
    elif place.exists():
        place.unlink()
    STRANGE[thing](place)
    findings = check(chain.path)
    json.loads(to_json(findings))
    to_text(findings).encode()
    is_file = thing in ("fifo", "garbage", "huge", "endless", "unreadable")
    harmless = name == "net/configs" or (name == "strange" and is_file)
    assert harmless or has_errors(findings)


def test_names_that_cannot_be_printed(repository):
    strange = os.fsdecode(bytes(repository.path) + b"/\xff\n\x1b[31m")
    os.mkdir(strange)  # noqa: PTH102
    text = to_text(check(repository.path))
    text.encode()
    assert r"\udcff\n\x1b[31m" in text
    assert len(text.splitlines()) == 3  # two errors, their number


def test_folders_that_may_not_be_read(repository, tmp_path):
    """Root may read everything, so the check runs as another user there."""
    closed = repository / "net", repository / "py/1"
    for folder in closed:
        folder.chmod(0)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o077 == 0:
            folder.chmod(0o755)
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    try:
        findings = check(repository.path)
    finally:
        if me == 0:
            os.seteuid(0)
        for folder in closed:
            folder.chmod(0o755)
    assert {f.file for f in findings if "Permission denied" in f.message} == set(closed)


def test_a_deep_and_a_wide_tree(repository, monkeypatch):
    monkeypatch.setattr(folders, "MOST_ENTRIES", 100)
    deep = repository / "net/1/model"
    for _ in range(300):
        deep = deep / "d"
    deep.mkdir(parents=True)
    for i in range(120):
        (repository / f"py/1/{i}").touch()
    assert repository.findings() == []


# --- how findings are shown ---------------------------------------------------------------------


def test_findings_as_text_and_json(repository, monkeypatch):
    repository.change("py/config.pbtxt", "max_batch_size", "max_batchsize")
    shutil.copytree(repository / "net/1", repository / "net/best")
    monkeypatch.chdir(repository.path.parent)
    findings = check("models")
    assert to_text(findings).splitlines() == [
        'error    models/py/config.pbtxt:3  there is no field "max_batchsize" here; write '
        '"max_batch_size"',
        'warning  models/net/best  version folders are called 1, 2, 3, ...; is "best" meant to be '
        "one? Rename it, or move it out of the model's folder",
        "1 error, 1 warning",
    ]
    answer = json.loads(to_json(findings))
    assert (answer["errors"], answer["warnings"]) == (1, 1)
    assert answer["findings"][0] == {
        "severity": "error",
        "code": "config-unreadable",
        "file": "models/py/config.pbtxt",
        "line": 3,
        "message": 'there is no field "max_batchsize" here; write "max_batch_size"',
        "model": "py",
    }
    assert to_text([]) == "no mistakes found"
