"""The set-up's messages of docs/troubleshooting.md, with pretended machines."""

from provoking import of_another_test, provokes, run

set_up_tests = of_another_test("test_set_up")
bare, machine = set_up_tests.bare, set_up_tests.machine


@provokes("Another kind of machine")
def test_another_kind_of_machine(machine):
    machine.command("uname", "case $1 in -s) echo Darwin ;; *) echo arm64 ;; esac")
    return machine.refusal()


@provokes("An old C library")
def test_an_old_c_library(machine):
    machine.command("getconf", "echo glibc 2.31")
    return machine.refusal()


@provokes("No uv")
def test_no_uv(bare):
    return bare.refusal()


@provokes("No Python 3.10")
def test_no_python_3_10(bare):
    bare.stand_in()
    return bare.refusal()


@provokes("No room on the disk")
def test_no_room_on_the_disk(machine):
    machine.command("df", 'echo "file system"; echo "/dev/x 9999999 1 5242880 50% /"')
    return machine.refusal()


@provokes("The list of packages was changed")
def test_the_list_of_packages_was_changed(machine):
    with (machine.kit / "environment.yml").open("a") as file:
        file.write("      - tqdm==4.70.1\n")
    return machine.refusal()


@provokes("The packages could not be installed")
def test_the_packages_could_not_be_installed(machine, tmp_path):
    machine.real_uv()
    return machine.set_up(UV_OFFLINE="1", UV_CACHE_DIR=str(tmp_path / "empty")).stderr


@provokes("The kit is not there")
def test_the_kit_is_not_there(tmp_path):
    return run(set_up_tests.PYTHON, "-c", "import serving_kit", cwd=tmp_path)
