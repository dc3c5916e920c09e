"""A classifier of texts: in which language is this sentence? It takes int64 tokens.

Bring your own: export.py, the tests and the checks use only ``network`` and ``examples``.
"""

from pathlib import Path

import numpy as np
import oneflow as flow
from oneflow import nn

HERE = Path(__file__).resolve().parent
LABELS = ("English", "French", "German", "Spanish")
#: A graph has one length: shorter texts are filled up with 0, longer ones are cut.
LENGTH = 48


class LanguageNet(nn.Module):
    """Bytes to vectors, two convolutions along the text, the mean over what is text, scores."""

    def __init__(self, width=32):
        super().__init__()
        self.embed = nn.Embedding(256, width)
        self.conv1 = nn.Conv1d(width, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, padding=1)
        self.dropout = nn.Dropout(0.2)
        self.scores = nn.Linear(width, len(LABELS))

    def forward(self, tokens):
        """Return a score for each language, float32 (n, 4), of tokens, int64 (n, 48)."""
        x = self.embed(tokens).transpose(1, 2)
        x = flow.relu(self.conv1(x))
        x = flow.relu(self.conv2(x))
        is_text = (tokens != 0).to(flow.float32).unsqueeze(1)
        mean = (x * is_text).sum(dim=2) / (is_text.sum(dim=2) + 1)
        return self.scores(self.dropout(mean))


def network(version):
    """Return the network with the weights of a version, ready to be served."""
    module = LanguageNet()
    module.load_state_dict(flow.load(str(HERE / "weights" / str(version))))
    return module.eval()


def tokens_of(text):
    """Return the bytes of a text as tokens, int64 (48,)."""
    data = text.lower().encode()[:LENGTH]
    return np.pad(np.frombuffer(data, np.uint8), (0, LENGTH - len(data))).astype(np.int64)


def examples():
    """Return example rows for each input: 8 sentences as tokens."""
    texts = (
        "Where is the nearest station?",
        "Où est la gare la plus proche ?",
        "Wo ist der nächste Bahnhof?",
        "¿Dónde está la estación más cercana?",
        "This bread was baked this morning.",
        "Ce pain a été cuit ce matin.",
        "Dieses Brot wurde heute früh gebacken.",
        "Este pan fue horneado esta mañana.",
    )
    return [np.stack([tokens_of(text) for text in texts])]
