"""Many visitors of the demo's page for a while; no browser is needed for that."""

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from demo_page import photo_of

from serving_kit.client.images import decode_image
from serving_kit.stylenet.styles import STYLES

USERS = 32
SECONDS = 30
MOST_MEGABYTES = 400


class Visits:
    """What the visitors of a page met with."""

    def __init__(self, demo):
        self.demo = demo
        self.outcomes, self.waits, self.megabytes, self.files = Counter(), [], [], []
        self._over = threading.Event()

    def watch(self):
        while not self._over.wait(0.5):
            self.megabytes.append(self.demo.megabytes())
            self.files.append(len(self.demo.files()))

    def end(self):
        self._over.set()

    def visit(self, user, deadline):
        """Have paintings painted until a moment, at least one."""
        choose = random.Random(user)
        with self.demo.visitor() as visitor:
            while True:
                photo = visitor.upload(photo_of(user), f"{user}.jpg")
                began = time.monotonic()
                kind, answer = visitor.ask_to_paint(photo, choose.choice(STYLES))
                self.waits.append(time.monotonic() - began)
                self.outcomes[kind] += 1
                if kind == "complete":
                    painting = visitor.get(answer[1]["value"]["url"]).content
                    assert decode_image(painting).shape == (300, 300 + user, 3)
                if time.monotonic() > deadline:
                    return


@pytest.mark.long
def test_32_users_at_once_are_all_answered(demo):
    with demo.visitor() as visitor:
        visitor.paint(visitor.upload(photo_of(0)))  # what is loaded only now is no leak
    before, log = demo.megabytes(), demo.log()
    visits = Visits(demo)
    with ThreadPoolExecutor(USERS + 1) as pool:
        watching = pool.submit(visits.watch)
        deadline = time.monotonic() + SECONDS
        visiting = [pool.submit(visits.visit, user, deadline) for user in range(USERS)]
        try:
            for one in visiting:
                one.result()
        finally:
            visits.end()
        watching.result()
    rate = visits.outcomes["complete"] / SECONDS
    median, most = np.percentile(visits.waits, (50, 95))
    print(f"\n{USERS} users for {SECONDS} s: {dict(visits.outcomes)}, {rate:.1f} a second")
    print(f"wait {median:.1f} s (median), {most:.1f} s (95 %); {max(visits.files)} files at most")
    print(f"memory {before:.0f} MB before, {max(visits.megabytes):.0f} MB at most")
    assert set(visits.outcomes) == {"complete"}
    assert max(visits.megabytes) < before + MOST_MEGABYTES
    assert demo.log() == log  # nothing that it had to tell
