"""The networks that every contender trains: plain modules, so that nobody has an advantage from them."""

from __future__ import annotations

from torch import Tensor, nn

SHAPES = {"conv": (3, 32, 32), "mlp": (1, 28, 28)}
LATENTS = {"conv": 64, "mlp": 16}
WIDTHS = (64, 128, 256)  # of the conv net, whose maps are 16, 8 and 4 pixels wide
HIDDEN = 512  # of the MLP


def build(name: str) -> tuple[nn.Module, nn.Module]:
    """Encoder, from images to `[B, 2 d]`, and decoder, from `[B, d]` to images."""
    return _conv() if name == "conv" else _mlp()


def _conv() -> tuple[nn.Module, nn.Module]:
    a, b, c = WIDTHS
    latents = LATENTS["conv"]
    encoder = nn.Sequential(
        nn.Conv2d(3, a, 4, 2, 1), nn.ReLU(), nn.Conv2d(a, b, 4, 2, 1), nn.ReLU(), nn.Conv2d(b, c, 4, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(c * 16, 2 * latents),
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.Linear(latents, c * 16), nn.Unflatten(1, (c, 4, 4)), nn.ReLU(),
        nn.ConvTranspose2d(c, b, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(b, a, 4, 2, 1), nn.ReLU(),
        nn.ConvTranspose2d(a, 3, 4, 2, 1),
    )  # fmt: skip
    return encoder, decoder


def _mlp() -> tuple[nn.Module, nn.Module]:
    latents = LATENTS["mlp"]
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * latents))
    decoder = nn.Sequential(nn.Linear(latents, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 784), nn.Unflatten(1, (1, 28, 28)))
    return encoder, decoder


class PlainVAE(nn.Module):
    """Half the squared error and the KL, batch means, as anybody writes it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.encoder, self.decoder = build(name)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """The loss of a batch."""
        mu, log_var = self.encoder(x).chunk(2, 1)
        x_hat = self.decoder(mu + (0.5 * log_var).exp() * noise)
        sse = (x_hat.float() - x).square().flatten(1).sum(1)
        kl = -0.5 * (1.0 + log_var - mu.square() - log_var.exp()).sum(1)
        return (0.5 * sse + kl).mean()
