"""The guard: validation chooses which sources a target is given, and how strongly, down to none."""

from __future__ import annotations

from collections.abc import Sequence

from graftrec.transfer.base import Phase, Transfer, at_least_one
from graftrec.transfer.joint import Joint


class Auto(Transfer):
    """A strategy with the sources and shared tasks that helped on validation, each as strongly as it helped.

    It trains the target with nothing, with each source alone and with those that helped together, each with several
    ``seeds``, and never looks at the test: see `choose` for the rule. Each of these trainings has the full number of
    epochs, since a target that has trained for fewer gains more from a source than it will in the end. What is chosen
    is then trained like any other plan, with the run's own seeds, which the search did not see: it is judged by
    trainings that did not choose it. Without a source that is the twin itself.

    Args:
        epochs: of `Joint`, the strategy that is tried unless another one is given, 4 by default. trials: trainings of
        the search, at most: each candidate takes as many as there are seeds. strengths: in (0, 1], what a source's
        weight is multiplied with; the next weaker one is tried where a stronger one did not help. strategy: another
        one than `Joint`, with epochs of its own. seeds: with which each candidate is trained, at least 3; with half of
        them alone where these do not look promising.
    """

    def __init__(
        self,
        epochs: int | None = None,
        trials: int = 72,
        strengths: Sequence[float] = (1.0, 0.3),
        strategy: Transfer | None = None,
        seeds: int = 6,
    ) -> None:
        at_least_one(trials=trials)
        if seeds < 3:
            raise ValueError(f"seeds should be at least 3: fewer do not tell luck from gain. Found {seeds}.")
        if trials < 2 * seeds:
            raise ValueError(
                f"trials should be at least {2 * seeds}: {seeds} without a source and {seeds} with one. Found {trials}."
            )
        if not strengths or not all(0 < strength <= 1 for strength in strengths):
            raise ValueError(f"strengths should be in (0, 1]. Found {list(strengths)}.")
        if isinstance(strategy, Auto):
            raise ValueError("strategy should be a fixed one. Found auto itself.")
        if strategy is not None and epochs is not None:
            raise ValueError(f"epochs are joint's, and strategy has its own. Found epochs {epochs}; set epochs=null.")
        self.seeds = seeds
        self.trials, self.strengths = trials, tuple(sorted(set(strengths), reverse=True))
        self.strategy = strategy or (Joint() if epochs is None else Joint(epochs))

    def phases(self) -> list[Phase]:
        """The plan of the strategy, whatever it is given."""
        return self.strategy.phases()
