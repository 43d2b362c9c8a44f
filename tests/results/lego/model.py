"""A small transformer that answers LEGO's questions.

It sees bytes, four at a time: a clause is one position, its vector the sum of its bytes'
embeddings, of which each of the four places has its own. All positions see each other; one block's
weights are used in every layer, as following a chain takes the same step again and again. The
answer is predicted over all bytes from the position that asks. Knows nothing of mixing."""
import torch
from torch import nn
from torch.nn import functional as F

from lego import texts

WIDTH, LAYERS, HEADS = 64, 5, 2
VOCABULARY = 257  # bytes and the end-of-document token


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        n, length, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        seen = F.softmax(q @ k.transpose(-1, -2) * (WIDTH // HEADS) ** -0.5, dim=-1) @ v
        x = x + self.out(seen.transpose(1, 2).reshape(n, length, WIDTH))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        positions = texts.LENGTH // texts.CLAUSE
        self.embedding = nn.Embedding(texts.CLAUSE * VOCABULARY, WIDTH)
        nn.init.normal_(self.embedding.weight, std=0.3)
        self.position = nn.Parameter(torch.randn(positions, WIDTH) * 0.02)
        self.block, self.norm = Block(), nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY)
        self.register_buffer("places", torch.arange(texts.CLAUSE) * VOCABULARY, persistent=False)

    def forward(self, tokens):
        """Logits of the answer for int64 tokens [n, LENGTH], whatever stands from it on."""
        tokens = tokens.clone()
        tokens[:, texts.ANSWER:] = VOCABULARY - 1
        pieces = tokens.view(len(tokens), -1, texts.CLAUSE) + self.places
        x = self.embedding(pieces).sum(dim=2) + self.position
        for _ in range(LAYERS):
            x = self.block(x)
        return self.head(self.norm(x[:, -1]))

    def losses(self, tokens):
        """For each example the answer's loss in nats, and whether it would have been given."""
        logits, answers = self(tokens), tokens[:, texts.ANSWER]
        return F.cross_entropy(logits, answers, reduction="none"), logits.argmax(1) == answers
