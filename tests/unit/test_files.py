"""A file or a folder is replaced in one step, or not at all."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from serving_kit import files
from serving_kit.files import replaced_folder, write_file


def content(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def write(target, **files):
    with replaced_folder(target) as partial:
        for name, text in files.items():
            (partial / name).write_text(text)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "models" / "1"


def test_a_new_folder_appears_whole(target):
    with replaced_folder(target) as partial:
        (partial / "a").write_text("1")
        assert not target.exists()
    assert content(target) == {"a": "1"}
    assert list(target.parent.iterdir()) == [target]


def test_an_old_folder_is_replaced_whole(target):
    write(target, a="old", b="old")
    write(target, a="new")
    assert content(target) == {"a": "new"}
    assert list(target.parent.iterdir()) == [target]


def test_other_users_may_read_it(target):
    write(target, a="1")
    assert target.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_changes_nothing(target, error):
    write(target, a="old")
    with pytest.raises(error), replaced_folder(target) as partial:
        (partial / "a").write_text("half")
        raise error
    assert content(target) == {"a": "old"}
    assert list(target.parent.iterdir()) == [target]


def test_what_a_killed_writer_left_is_removed_by_the_next(target):
    write(target, a="old")
    code = (
        "import sys; from pathlib import Path; from serving_kit.files import replaced_folder\n"
        "with replaced_folder(Path(sys.argv[1])) as partial:\n"
        "    (partial / 'a').write_text('half'); print('writing', flush=True); sys.stdin.read()"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, target], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert writer.stdout.readline() == b"writing\n"
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate()
    assert content(target) == {"a": "old"}
    assert len(list(target.parent.iterdir())) == 2
    write(target, a="new")
    assert content(target) == {"a": "new"}
    assert list(target.parent.iterdir()) == [target]


def test_writers_wait_for_each_other(target):
    inside, overlaps = [], []

    def writer(name):
        with replaced_folder(target) as partial:
            overlaps.extend(inside)
            inside.append(name)
            for i in range(50):
                (partial / str(i)).write_text(name)
            inside.remove(name)

    threads = [threading.Thread(target=writer, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not overlaps
    assert len(set(content(target).values())) == 1


def test_a_file_system_that_cannot_exchange_names(target, monkeypatch):
    class Libc:
        @staticmethod
        def renameat2(*arguments):
            return -1

    write(target, a="old")
    monkeypatch.setattr(files.ctypes, "CDLL", lambda *arguments, **options: Libc)
    write(target, a="new")
    assert content(target) == {"a": "new"}
    assert list(target.parent.iterdir()) == [target]


def test_a_file_keeps_its_link_and_its_mode(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    real.chmod(0o600)
    link.symlink_to("real")
    write_file(link, "é")
    assert link.is_symlink() and real.read_text(encoding="utf-8") == "é"
    assert real.stat().st_mode & 0o777 == 0o600
    assert sorted(tmp_path.iterdir()) == [link, real]


def test_a_file_that_cannot_be_written_is_as_it_was(tmp_path):
    file = tmp_path / "new" / "file"
    write_file(file, "old")
    with pytest.raises(UnicodeEncodeError):
        write_file(file, "half \udcff")
    assert content(file.parent) == {"file": "old"}
