"""How a command ends when it is interrupted in the middle of something."""

import signal
import subprocess
import sys

import pytest

#: A library's object that cannot be closed before it is whole, as a client of tritonclient.
PROGRAM = """
import os, sys
from serving_kit.programs import run_program

class Client:
    def __init__(self):
        os.kill(os.getpid(), int(sys.argv[1]))
        self.closed = False
    def __del__(self):
        self.closed

def work():
    client = Client()

sys.exit(run_program(work))
"""
INTERRUPTED = "\ninterrupted; everything that was started is stopped\n"


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGINT, 130, INTERRUPTED), (signal.SIGTERM, 143, ""), (signal.SIGHUP, 129, "")],
)
def test_what_was_being_made_says_nothing(number, code, said):
    command = [sys.executable, "-c", PROGRAM, str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (code, said)
