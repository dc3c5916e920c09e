"""What the supervisor decides, as functions of data; no Triton is started."""

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serving_kit.server import supervisor
from serving_kit.server.supervisor import (
    alone,
    api,
    children,
    leftovers,
    ports,
    restarts,
    stubs,
    watch,
)
from serving_kit.server.triton_log import restarts_in

UNLIMITED = resource.RLIM_INFINITY
MIB = 1 << 20


@pytest.mark.parametrize(
    ("ends", "pause"),
    [
        ([100], 0),
        ([100, 101], 1),
        ([100, 101, 103], 2),
        ([100, 101, 103, 106], 4),
        ([100, 101, 103, 106, 111], None),
        ([100, 110, 120, 130, 159.9], None),
        ([100, 110, 120, 130, 160], 4),  # the first is a minute ago
        ([100, 200, 300, 400, 500, 600], 0),
        ([100, 101, 103, 106, 165.9], 1),
    ],
)
def test_the_pauses_grow_and_the_fifth_end_within_a_minute_is_the_last(ends, pause):
    assert restarts.pause_after(ends) == pause


def test_what_is_said_about_an_end_is_found_in_the_log_again():
    crash = restarts.describe("Triton", -11, 312.4)
    assert crash == "Triton was ended by signal 11 (SIGSEGV) after 312 s"
    end = restarts.describe("Envoy", 1, 3)
    assert end == "Envoy ended with exit code 1 after 3 s"
    lines = [
        restarts.announce(crash, 1, 0),
        restarts.announce(end, 2, 1),
        restarts.announce(crash, 5, None),
    ]
    assert lines == [
        f"{crash}; started again (1st time)",
        f"{end}; started again in 1 s (2nd time)",
        f"{crash}, the 5th time within 60 s; not started again",
    ]
    log = "".join(f"I1129 server.cc] ready\nW supervisor: {line}\n" for line in lines)
    assert restarts_in(log) == [crash, end]


def test_ordinals():
    assert [restarts.ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th")
    ]


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        (8 * MIB, UNLIMITED, 64 * MIB),
        (8 * MIB, 32 * MIB, 32 * MIB),  # more is not allowed
        (256 * MIB, UNLIMITED, 256 * MIB),
        (UNLIMITED, UNLIMITED, 64 * MIB),  # which gives threads 2 MiB
    ],
)
def test_the_limit_of_the_stack(soft, hard, expected):
    assert children.stack_limit(soft, hard) == expected


def test_the_options_of_a_command_line():
    command = ["tritonserver", "--http-port=1", "--id", "me", "--x=a,b=1", "--x=c", "--http-port=2"]
    assert api.option(command, "http-port") == "2"
    assert api.option(command, "id") == "me"
    assert api.option(command, "x", "a,b=") == "1"
    assert api.option(command, "y") is None


def test_where_models_can_be_loaded_again():
    explicit = ["tritonserver", "--http-address=0.0.0.0", "--model-control-mode=explicit"]
    secret = "--http-restricted-api=model-repository:serving-kit-control=s3cret"
    closed, opened = api.Api([*explicit, secret]), api.Api([*explicit, "--http-port=9"])
    assert (closed.is_open, opened.is_open) == (False, True)
    header = ["serving-kit-control", "s3cret"]
    assert closed.control == {"address": "127.0.0.1", "port": 8000, "header": header}
    assert opened.control["port"] == 9
    assert api.Api(["tritonserver"]).control is None


def test_the_command_line_of_a_restart():
    command = ["tritonserver", "--load-model=a", "--load-model", "b", "--x"]
    once = watch.for_restart(command, None)
    assert once == [*command, "--exit-on-error=false"]
    assert watch.for_restart(once, ["b", "c"]) == [
        *("tritonserver", "--x", "--load-model=b", "--load-model=c", "--exit-on-error=false")
    ]


def test_the_ports_of_a_command_line():
    command = [
        *("tritonserver", "--http-address=127.0.0.1", "--http-port=8010", "--grpc-port", "8011"),
        "--metrics-address=::1",
    ]
    assert ports.ports_of(command) == [("127.0.0.1", 8010), ("0.0.0.0", 8011)]


def test_a_port_that_is_kept_is_had_by_its_number_and_by_nobody_else():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with ports.kept([("127.0.0.1", port)]):
        with socket.socket() as other, pytest.raises(OSError, match="already in use"):
            other.bind(("127.0.0.1", port))  # as those that take any: without SO_REUSEADDR
        with socket.create_server(("127.0.0.1", port)) as triton:
            assert triton.getsockname()[1] == port
            with ports.kept([("127.0.0.1", port)]):  # taken: for Triton to tell
                pass


def test_a_docker_command_is_not_stopped_before_it_has_noted_its_container(tmp_path):
    """As the engine makes the container, whatever happens to the command."""
    note = tmp_path / "container"
    script = f"trap 'exit 3' TERM; sleep 0.5; echo identity >{note}; while sleep 0.1; do :; done"
    docker = watch.Triton(["bash", "-c", script, f"--cidfile={note}"], 0, False, watch.TRITON)
    assert docker.stop(5) == 3
    docker._process.stdin.close()
    assert note.read_text() == "identity\n"


def test_process_1_knows_the_names_of_the_shared_memory():
    command = alone.completed(["tritonserver", "--x"])
    prefix = watch.prefix_of(command)
    assert command[:2] == ["tritonserver", "--x"] and prefix.startswith("triton-")
    assert alone.completed(command) == command


def test_process_1_can_load_models_again_and_nobody_else():
    command = alone.completed(["tritonserver"])
    assert "--load-model=*" in command
    found = api.Api(command)
    assert found.control["header"][1] and not found.is_open
    for mode in ("none", "poll", "explicit"):
        chosen = ["tritonserver", "--model-control-mode", mode]
        assert not any("load-model" in word for word in alone.completed(chosen))


def test_folders_of_the_python_backend_that_no_living_triton_made_are_removed(
    tmp_path, monkeypatch
):
    """One that is older than every Triton, and empty, is nobody's."""
    monkeypatch.setattr(leftovers, "ENVIRONMENTS", tmp_path)
    ages = {"python_env_old___": 50, "python_env_full__": 50, "python_env_young_": 10, "mine": 50}
    for name, age in ages.items():
        (tmp_path / name).mkdir()
        if "full" in name:
            (tmp_path / name / "environment").touch()
        made = time.time() - age
        os.utime(tmp_path / name, (made, made))
    starts = [time.time() - 5, time.time() - 30]
    monkeypatch.setattr(leftovers, "python_backend_starts", lambda: iter(starts))
    leftovers.sweep_environments()
    left = {folder.name for folder in tmp_path.iterdir()}
    assert left == {"python_env_full__", "python_env_young_", "mine"}
    starts.clear()
    leftovers.sweep_environments()
    assert {folder.name for folder in tmp_path.iterdir()} == {"python_env_full__", "mine"}


#: A stub that works for half a second, and then does nothing.
WORK = "import time\nwhile time.process_time() < 0.5: pass\ntime.sleep(600)\n"


def test_a_process_of_a_replaced_model_is_ended_once_it_does_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(stubs, "IDLE_SECONDS", 1)
    monkeypatch.setattr(stubs, "IDLE_TICKS", 0)
    program = tmp_path / "model" / "1" / "model.py"
    program.parent.mkdir(parents=True)
    program.write_text(WORK)
    start = f"(exec -a /any/{supervisor.STUB} {sys.executable} {program}) & echo $!; wait"
    with subprocess.Popen(["bash", "-c", start], stdout=subprocess.PIPE) as triton:
        pid = int(triton.stdout.readline())
        triton_stubs = stubs.Stubs(triton.pid, {}, sys.stderr.buffer)
        while pid not in triton_stubs._models:
            triton_stubs.look()
        triton_stubs._replaced.add(pid)
        ticks = 0
        while triton.poll() is None:
            ticks = stubs.ticks_of(pid) or ticks
            triton_stubs.look()
            time.sleep(0.02)
    assert ticks >= 0.4 * os.sysconf("SC_CLK_TCK")


@pytest.fixture
def image(tmp_path):
    """The supervisor as it is copied into the image, and a Python that knows no kit."""
    shutil.copytree(Path(supervisor.__file__).parent, tmp_path / "supervisor")

    def image(*command, **options):
        words = [sys.executable, "-I", "-S", tmp_path / "supervisor", "run", *command]
        return subprocess.run(
            words, capture_output=True, text=True, timeout=30, check=False, **options
        )

    return image


def test_in_the_image_another_program_than_triton_is_run_as_it_is(image):
    done = image("sh", "-c", "cat; exit 3", input="for cat")
    assert (done.returncode, done.stdout, done.stderr) == (3, "for cat", "")


@pytest.mark.parametrize(
    ("script", "code"), [("exit 3", 3), ("kill -SEGV $$", 139), ("sleep 600 & exit 3", 3)]
)
def test_in_the_image_a_triton_that_never_responded_is_not_started_again(
    image, tmp_path, script, code
):
    program = tmp_path / "tritonserver"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    done = image(program, stdin=subprocess.DEVNULL)
    said = r"W supervisor: Triton was ended by signal 11 \(SIGSEGV\) after \d+ s, before it "
    assert (done.returncode, done.stdout) == (code, "")
    assert re.fullmatch(f"{said}responded; not started again\n" if code == 139 else "", done.stderr)


def test_in_the_image_a_triton_that_is_not_there(image, tmp_path):
    done = image(tmp_path / "tritonserver")
    assert done.returncode == 127
    assert done.stderr == (
        f"W supervisor: {tmp_path}/tritonserver cannot be started: No such file or directory\n"
    )


def test_in_the_image_triton_ends_with_the_standard_input_of_an_owner(image, tmp_path):
    program = tmp_path / "tritonserver"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    owned = os.environ | {supervisor.OWNED_VARIABLE: "1"}
    done = image(program, input="", env=owned)
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "")


@pytest.fixture
def draining(tmp_path):
    """Process 1 with three seconds to drain, and a Triton that runs until it is asked to end."""
    program = tmp_path / "tritonserver"
    program.write_text("#!/bin/sh\necho started\nexec sleep 600\n")
    program.chmod(0o755)
    words = [sys.executable, "-I", "-S", Path(supervisor.__file__).parent, "run", program]
    drained = os.environ | {supervisor.DRAIN_VARIABLE: "3"}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, env=drained)
    with process:
        assert process.stdout.readline() == b"started\n"
        yield process
        process.kill()


@pytest.mark.parametrize(
    ("signals", "least", "most"),
    [
        (["TERM"], 3, 4.5),
        (["TERM", "TERM"], 0, 2),  # somebody is in a hurry
        (["INT"], 0, 2),
        (["HUP"], 0, 2),
    ],
)
def test_after_sigterm_triton_serves_on_for_the_time_to_drain(draining, signals, least, most):
    began = time.monotonic()
    for name in signals:
        draining.send_signal(signal.Signals[f"SIG{name}"])
        time.sleep(0.1)
    assert draining.wait(10) == 128 + signal.SIGTERM
    assert least <= time.monotonic() - began < most


@pytest.mark.parametrize("text", ["five", "-1", "inf", "nan", ""])
def test_a_time_to_drain_that_is_none(image, text):
    drained = os.environ | {supervisor.DRAIN_VARIABLE: text}
    done = image("tritonserver", stdin=subprocess.DEVNULL, env=drained)
    said = f"SERVING_KIT_DRAIN_SECONDS is {text!r}; set it to a number of seconds, such as 5"
    assert (done.returncode, done.stderr) == (2, f"W supervisor: {said}\n")
