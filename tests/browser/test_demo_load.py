"""Many visitors of the demo's page at once; no browser is needed for that."""

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from demo_page import CAT

from serving_kit.client.images import decode_image
from serving_kit.stylenet.styles import STYLES

USERS = 32
#: More at once than are painted and may wait.
CROWD = 80
MOST_MEGABYTES = 400


def photo_of(user):
    """A photo that no other user has: its width tells whose it is."""
    return cv2.imencode(".jpg", cv2.imread(str(CAT))[:, : 300 + user])[1].tobytes()


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


def test_32_users_at_once_are_all_answered(demo, soak):
    with demo.visitor() as visitor:
        visitor.paint(visitor.upload(photo_of(0)))  # what is loaded only now is no leak
    before, log = demo.megabytes(), demo.log()
    visits = Visits(demo)
    seconds = 60 if soak else 15
    with ThreadPoolExecutor(USERS + 1) as pool:
        watching = pool.submit(visits.watch)
        deadline = time.monotonic() + seconds
        visiting = [pool.submit(visits.visit, user, deadline) for user in range(USERS)]
        try:
            for one in visiting:
                one.result()
        finally:
            visits.end()
        watching.result()
    rate = visits.outcomes["complete"] / seconds
    median, most = np.percentile(visits.waits, (50, 95))
    print(f"\n{USERS} users for {seconds} s: {dict(visits.outcomes)}, {rate:.1f} a second")
    print(f"wait {median:.1f} s (median), {most:.1f} s (95 %); {max(visits.files)} files at most")
    print(f"memory {before:.0f} MB before, {max(visits.megabytes):.0f} MB at most")
    assert set(visits.outcomes) == {"complete"}
    assert max(visits.megabytes) < before + MOST_MEGABYTES
    assert demo.log() == log  # nothing that it had to tell


def test_a_crowd_is_painted_or_refused_politely(demo):
    with demo.visitor() as visitor:
        photo = visitor.upload(photo_of(0))

    def ask(_):
        with demo.visitor() as visitor:
            return visitor.ask_to_paint(photo)

    with ThreadPoolExecutor(CROWD) as pool:
        answers = list(pool.map(ask, range(CROWD)))
    outcomes = Counter(kind for kind, _ in answers)
    assert set(outcomes) == {"complete", "refused"}
    assert all("full" in str(told) for kind, told in answers if kind == "refused")
    with demo.visitor() as visitor:
        assert visitor.paint(photo)
