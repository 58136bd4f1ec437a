"""A language model that writes token by token: what it has read comes back with each step."""

import torch
from torch import nn

import addax


class Decoder(nn.Module):
    """One layer of attention over a past that grows; random weights stand for trained ones."""

    def __init__(self, words: int = 50, dim: int = 32) -> None:
        super().__init__()
        self.embed, self.qkv = nn.Embedding(words, dim), nn.Linear(dim, 3 * dim, bias=False)
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, words)

    def forward(self, token: torch.Tensor, past: dict[str, torch.Tensor]) -> dict:
        x = self.embed(token)
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        keys, values = torch.cat([past["keys"], k], 1), torch.cat([past["values"], v], 1)
        x = x + torch.softmax(q @ keys.mT / q.shape[-1] ** 0.5, -1) @ values
        return {"logits": self.head(x), "past": {"keys": keys, "values": values}}


def main() -> None:
    """Write twenty tokens."""
    past = {name: torch.zeros(1, 3, 32) for name in ("keys", "values")}
    token = torch.tensor([[7]])
    grows = {"token": None, "past": {name: {1: "length"} for name in past}}
    fast = addax.optimize(Decoder().eval(), (token, past), dynamic_shapes=grows)
    for _ in range(20):
        step = fast(token, past)  # dicts in and out, as the module's
        token, past = step["logits"].argmax(-1), step["past"]
        print(int(token), end=" ", flush=True)


if __name__ == "__main__":
    main()
