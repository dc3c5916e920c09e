"""The set-up's messages of docs/troubleshooting.md, with pretended machines."""

from provoking import of_another_test, provokes, run

set_up_tests = of_another_test("test_set_up")
bare, machine = set_up_tests.bare, set_up_tests.machine


@provokes("The machine is not x86-64 Linux")
def test_the_machine_is_not_x86_64_linux(machine):
    machine.command("uname", "case $1 in -s) echo Darwin ;; *) echo arm64 ;; esac")
    return machine.refusal()


@provokes("The C library is too old")
def test_the_c_library_is_too_old(machine):
    machine.command("getconf", "echo glibc 2.31")
    return machine.refusal()


@provokes("uv cannot be downloaded")
def test_uv_cannot_be_downloaded(bare):
    return bare.refusal()


@provokes("No usable Python 3.10")
def test_no_usable_python_3_10(bare):
    bare.stand_in()
    return bare.refusal()


@provokes("Not enough disk space")
def test_not_enough_disk_space(machine):
    machine.command("df", 'echo "file system"; echo "/dev/x 9999999 1 5242880 50% /"')
    return machine.refusal()


@provokes("environment.lock does not match environment.yml")
def test_environment_lock_does_not_match_environment_yml(machine):
    with (machine.kit / "environment.yml").open("a") as file:
        file.write("      - tqdm==4.70.1\n")
    return machine.refusal()


@provokes("The packages could not be installed")
def test_the_packages_could_not_be_installed(machine, tmp_path):
    machine.real_uv()
    return machine.set_up(UV_OFFLINE="1", UV_CACHE_DIR=str(tmp_path / "empty")).stderr


@provokes("serving_kit is not found")
def test_serving_kit_is_not_found(tmp_path):
    return run(set_up_tests.PYTHON, "-c", "import serving_kit", cwd=tmp_path)
