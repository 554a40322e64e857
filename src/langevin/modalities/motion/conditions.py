"""Conditions of motions: actions, captions or both."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.noise import SampleNoise
from langevin.modalities.captions import CaptionVocabulary
from langevin.modalities.motion.data import Motions
from langevin.modalities.paths import did_you_mean


@dataclass(frozen=True, kw_only=True)
class Said:
    """What b motions are conditioned on: indices of actions (-1: unknown) and captions ("": unknown)."""

    actions: tuple[int, ...]
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True, kw_only=True)
class Known:
    """The actions and the words of captions that a run was trained with."""

    actions: tuple[str, ...]
    vocabulary: CaptionVocabulary | None

    @property
    def anything(self) -> bool:
        return bool(self.actions) or self.vocabulary is not None

    def port(self, said: Said, mask: Tensor) -> Condition:
        """The condition of motions, with the data mask (b, ...) of x; what is unknown is withheld."""
        actions = texts = None
        if self.actions:
            index = torch.tensor(said.actions, dtype=torch.int64)
            actions = Port(tensor=index.clamp_min(0), keep=None if bool((index >= 0).all()) else index >= 0)
        if self.vocabulary is not None:
            words = self.vocabulary.encode(said.texts)
            some = torch.tensor([bool(text) for text in said.texts])
            texts = Port(tensor=words, mask=words > 0, keep=None if bool(some.all()) else some)
        return Condition(global_=actions, cross=texts, data_mask=mask)

    def of(self, part: Motions, items: Sequence[int]) -> Said:
        """What is said of some motions of a part."""
        index = {name: i for i, name in enumerate(self.actions)}
        return Said(
            actions=tuple(index.get(part.actions[i] or "", -1) for i in items),
            texts=tuple(part.texts[i] or "" for i in items),
        )

    def index(self, name: str) -> int:
        """The index of an action. Raises `ValueError` that names the nearest if there is none."""
        if name in self.actions:
            return self.actions.index(name)
        if not self.actions:
            raise ValueError(
                f"this run was trained without actions, so it cannot be asked for '{name}': leave --action out"
            )
        raise ValueError(
            f"no action is called '{name}'{did_you_mean(name, self.actions)}; known are {', '.join(self.actions)}"
        )

    def requested(
        self, actions: Sequence[str], texts: Sequence[str], count: int, *, seed: int, data: Motions | None
    ) -> Said:
        """Conditions of `count` motions: those given, repeated; else all actions in turn, or captions of the data.

        Raises:
            ValueError: an unknown action, or a condition that the run was not trained with."""
        if texts and self.vocabulary is None:
            raise ValueError(
                "this run was trained without captions, so it cannot be told what happens: leave --text out"
            )
        chosen = [self.index(name) for name in actions]
        if not chosen:
            chosen = [-1] if texts or not self.actions else list(range(len(self.actions)))
        words = list(texts)
        if not words and self.vocabulary is not None and not actions and data is not None:
            every = [text for text in data.texts if text] or [""]
            u = SampleNoise(seeds=torch.tensor([seed]), steps=torch.tensor([-12])).uniform(torch.empty(1, count))[0]
            words = [every[int(v * len(every))] for v in u.tolist()]
        words = words or [""]
        return Said(
            actions=tuple(chosen[i % len(chosen)] for i in range(count)),
            texts=tuple(words[i % len(words)] for i in range(count)),
        )

    def names(self, said: Said) -> tuple[str, ...]:
        """Each condition in words; empty without conditions."""
        if not self.anything:
            return ()
        return tuple(
            ": ".join(part for part in (self.actions[a] if a >= 0 else "", text) if part)
            for a, text in zip(said.actions, said.texts, strict=True)
        )

    def remarks(self, texts: Sequence[str]) -> list[str]:
        """Warnings about words that were never seen."""
        if self.vocabulary is None:
            return []
        return [f"'{text}': {line}" for text in dict.fromkeys(texts) for line in self.vocabulary.complaints(text)]


def fitted_actions(train: Motions) -> tuple[str, ...]:
    """The names of the actions, sorted; empty without two or more."""
    names = sorted({action for action in train.actions if action})
    return tuple(names) if len(names) > 1 else ()


def fitted_vocabulary(train: Motions) -> CaptionVocabulary | None:
    """The words of the captions; None without captions."""
    texts = [text for text in train.texts if text]
    return CaptionVocabulary.fit(texts) if texts else None
