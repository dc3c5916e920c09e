"""The files of a Triton in this process, and what cleans up after it."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from serving_kit.paths import MODEL_REPOSITORY
from serving_kit.server import cells, embedded, runs, supervisor
from serving_kit.server.spec import ServerSpec


class RunFolder:
    """The run folder of the server in this process; stop() it when the server has ended.

    A supervisor waits for the end of this process, however it ends, and then ends the processes of
    models, and removes their shared memory and this folder.

    Args:
        model_repository: the folder of models to serve.

    Raises:
        ServerError: something is missing that Triton needs here.
    """

    def __init__(self, model_repository: str | Path = MODEL_REPOSITORY):
        cells.begin(self)
        self._launcher = embedded.EmbeddedLauncher(ServerSpec(Path(model_repository).resolve()))
        self._launcher.check()
        runs.sweep()
        self._path = runs.new_run_dir()
        self._supervisor = subprocess.Popen(
            [sys.executable, Path(supervisor.__file__).parent, "own", self._path],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        # It is told nothing to start, so it cleans up when its input closes.
        self._path.mkdir(mode=0o700)
        (self._path / supervisor.PID_FILE).write_text(str(self._supervisor.pid))
        #: The model repository, and the backends.
        self.models = embedded.lay_out(self._path, self._launcher.spec.model_repository)
        self.backends = self._path / "backends"
        #: What the names of the shared memory of python models are to begin with.
        self.shm_prefix = supervisor.shm_prefix(self._path).encode()
        #: Triton's log.
        self.log = self._path / supervisor.LOG_FILE

    @contextlib.contextmanager
    def environment(self) -> Iterator[None]:
        """Let the processes of models that are loaded meanwhile find what they need.

        They inherit this process's environment, which is changed as long, and print into the log.
        """
        before = dict(os.environ)
        kept = [os.dup(number) for number in (1, 2)]
        with self.log.open("ab") as log:
            for number in (1, 2):
                os.dup2(log.fileno(), number)
        try:
            _set_environment(self._launcher.environment(self._path))
            yield
        finally:
            _set_environment(before)
            for number, file in zip((1, 2), kept, strict=True):
                os.dup2(file, number)
                os.close(file)

    def stop(self) -> None:
        """Remove the folder, with all that belongs to it; end the processes of models."""
        self._supervisor.stdin.close()
        self._supervisor.wait()


def _set_environment(variables: dict[str, str]) -> None:
    for name in set(os.environ) - set(variables):
        del os.environ[name]
    os.environ.update(variables)
