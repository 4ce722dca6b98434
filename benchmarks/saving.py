"""Share of a run's time that saving its state takes.

python benchmarks/saving.py digits mnist=path/to/mnist
"""

from __future__ import annotations

import sys
import tempfile
import time

import calibrae as cb
from calibrae.training import Trainer


def main() -> None:
    """Print the share for each data set, with the default network and settings."""
    clocks = []
    run = Trainer.run

    def noted(self: Trainer, **given: bool) -> list[dict[str, float]]:
        clocks.append(self.clock)
        return run(self, **given)

    Trainer.run = noted  # type: ignore[method-assign]
    for asked in sys.argv[1:] or ["digits"]:
        name, _, place = asked.partition("=")
        epochs = 60 if name == "digits" else 3
        data = cb.load_data(place or name)
        model = cb.build("sigma-vae", data_shape=data.spec.data_shape, latent_dim=16)
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            cb.fit(model, data, f"{folder}/run", epochs=epochs, quiet=True, pictures=False)
        seconds, clock = time.perf_counter() - began, clocks[-1]
        print(
            f"{name}: {epochs} epochs in {seconds:.1f} s, of which saving took {clock.total:.2f} s, {clock.total / seconds:.1%}"
        )


if __name__ == "__main__":
    main()
