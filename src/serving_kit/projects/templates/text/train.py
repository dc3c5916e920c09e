"""Train the network for some seconds, on the sentences below: python train.py [VERSION].

Delete this file once you bring weights of your own.
"""

import shutil
import sys

import numpy as np
import oneflow as flow
from oneflow import nn

from network import HERE, LABELS, LanguageNet, examples, tokens_of

STEPS = {1: 60, 2: 180}  # version 2 is trained for longer
TEXTS = (
    "the weather will be fine tomorrow, and we want to walk along the river with our children. "
    "when the shop opens, he buys milk, cheese and two apples. what is your name? she has not "
    "written to her brother for a long time, because there was so much work in the office. is "
    "there another train this evening? they were late, so the door had been closed.",
    "demain il fera beau, et nous voulons marcher le long de la rivière avec nos enfants. quand "
    "le magasin ouvre, il achète du lait, du fromage et deux pommes. comment tu t'appelles ? elle "
    "n'a pas écrit à son frère depuis longtemps, parce qu'il y avait trop de travail au bureau. "
    "y a-t-il un autre train ce soir ? ils étaient en retard, la porte avait été fermée.",
    "morgen wird das wetter schön, und wir wollen mit unseren kindern am fluss spazieren gehen. "
    "wenn der laden öffnet, kauft er milch, käse und zwei äpfel. wie heißt du? sie hat ihrem "
    "bruder lange nicht geschrieben, weil es im büro so viel arbeit gab. fährt heute abend noch "
    "ein zug? sie kamen zu spät, deshalb war die tür schon geschlossen worden.",
    "mañana hará buen tiempo, y queremos pasear por el río con nuestros niños. cuando abre la "
    "tienda, él compra leche, queso y dos manzanas. ¿cómo te llamas? ella no ha escrito a su "
    "hermano desde hace mucho tiempo, porque había demasiado trabajo en la oficina. ¿hay otro "
    "tren esta noche? llegaron tarde, así que la puerta ya estaba cerrada.",
)


def batch(random, rows):
    """Return pieces of the texts as tokens, and the numbers of their languages."""
    labels = np.arange(rows) % len(LABELS)
    pieces = []
    for label in labels:
        start = random.integers(len(TEXTS[label]) - 40)
        pieces.append(tokens_of(TEXTS[label][start : start + random.integers(20, 48)]))
    return flow.tensor(np.stack(pieces)), flow.tensor(labels)


def main(version=1):
    """Train, test on sentences that the network has not seen, and save the weights."""
    flow.manual_seed(0)
    random = np.random.default_rng(0)
    module = LanguageNet()
    optimizer = flow.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(STEPS.get(version, 180)):
        tokens, labels = batch(random, 32)
        loss = nn.functional.cross_entropy(module(tokens), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with flow.no_grad():
        found = module.eval()(flow.tensor(examples()[0])).numpy().argmax(1)
    right = int((found == np.arange(len(found)) % len(LABELS)).sum())
    weights = HERE / "weights" / str(version)
    shutil.rmtree(weights, ignore_errors=True)
    weights.parent.mkdir(exist_ok=True)
    flow.save(module.state_dict(), str(weights))
    print(f"version {version}: the language of {right} of {len(found)} new sentences is recognised")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
