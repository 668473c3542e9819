"""Latent Dirichlet allocation: words of documents from topics; the topic of a word summed out.

References:
    Blei, Ng & Jordan (2003), Latent Dirichlet Allocation, figure 1 with the smoothed topics of
    section 5.4.
"""

from __future__ import annotations

import pyro
import torch
from pyro import poutine
from pyro.distributions import Categorical, Dirichlet
from pyro.infer.autoguide import AutoNormal
from pyro.ops.indexing import Vindex

from tests.pairs.program import Program, generator

TOPICS, VOCABULARY = 2, 5


def model(words):
    """Words are numbered, shape (words of a document, documents)."""
    with pyro.plate("topics", TOPICS):
        topic_words = pyro.sample("topic_words", Dirichlet(torch.full((VOCABULARY,), 0.5)))
    with pyro.plate("documents", words.shape[1], dim=-1):
        doc_topics = pyro.sample("doc_topics", Dirichlet(torch.full((TOPICS,), 0.5)))
        with pyro.plate("words", words.shape[0], dim=-2):
            z = pyro.sample("z", Categorical(doc_topics), infer={"enumerate": "parallel"})
            chances = Vindex(topic_words)[z] if topic_words.dim() == 2 else _each(topic_words, z)
            pyro.sample("w", Categorical(chances), obs=words)


def _each(topic_words, z):
    """Word chances of chosen topics where particles have topics of their own."""
    table = topic_words.unsqueeze(-4)  # (..., 1, 1, topics, vocabulary) before documents
    return sum((z == k)[..., None] * table.select(-2, k) for k in range(TOPICS))


def data():
    source = generator(2)
    topics = torch.tensor([[0.45, 0.45, 0.05, 0.03, 0.02], [0.02, 0.03, 0.05, 0.45, 0.45]])
    shares = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5], [0.95, 0.05]])
    chances = shares @ topics
    return torch.multinomial(chances, 8, replacement=True, generator=source).T


def pair():
    guide = AutoNormal(poutine.block(model, hide=["z"]))
    return Program(model, guide, data(), outside="topic_words", summed_out=("z",))
