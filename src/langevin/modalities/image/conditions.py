"""Conditions of images: classes, captions or both, as requested by the user or taken from the data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition, Port, class_port
from langevin.diffusion.noise import SampleNoise
from langevin.modalities.captions import CaptionVocabulary, split_words
from langevin.modalities.image.data import Images

Open = Callable[[], tuple[Images, Images]]


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Labels (n,) int64, -1 where there is none, and captions of n images, either or both, and the port `concat`
    (n, c + 1, size, size) of an enlarger; `names` to show, and `remarks` for the user."""

    labels: Tensor | None = None
    captions: list[str] | None = None
    concat: Tensor | None = None
    names: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def encoded(self, vocabulary: CaptionVocabulary | None) -> Condition | None:
        """The network's condition; None if there is nothing to be conditioned on."""
        return encode(self.labels, self.captions, vocabulary, concat=self.concat)


def encode(
    labels: Tensor | None,
    captions: list[str] | None,
    vocabulary: CaptionVocabulary | None,
    device: torch.device = torch.device("cpu"),  # noqa: B008
    *,
    concat: Tensor | None = None,
) -> Condition | None:
    """The network's condition for labels (b,) int64, b captions and smaller images, or some of them; None without any. A
    label of -1 is withheld."""
    if labels is None and (captions is None or vocabulary is None) and concat is None:
        return None
    text = vocabulary.encode(captions).to(device) if captions is not None and vocabulary is not None else None
    return Condition(
        global_=None if labels is None else class_port(labels.to(device)),
        cross=None if text is None else Port(tensor=text, mask=text > 0),
        concat=None if concat is None else Port(tensor=concat.to(device)),
    )


def items_like(part: Images, count: int) -> Tensor:
    """The items (count,) int64 of a part of the data that as many samples are to be like."""
    return torch.arange(count) * len(part) // count % len(part)


@dataclass(frozen=True, kw_only=True)
class Known:
    """The classes and the vocabulary of captions that a run's network was trained with.

    Args:
        smaller: of an enlarger: from a part of the data and items (n,) to the port `concat`.
    """

    classes: tuple[str, ...]
    vocabulary: CaptionVocabulary | None
    smaller: Callable[[Images, Tensor], Tensor] | None = None

    def requested(self, given: Sequence[str], count: int, *, seed: int, data: Open) -> Conditions:
        """Conditions of `count` images: the `given` class names or captions, repeated.

        If none are given: all classes in turn, or random captions of the training data. An enlarger is given images of the
        validation part, with what they show.

        Raises:
            ValueError: an unknown class, or conditions given to an unconditional run or to an enlarger."""
        if self.smaller is not None:
            if given:
                raise ValueError(
                    f"this run enlarges images of the validation part, which show what they show, and not {given[0]!r}: "
                    "draw from a smaller run with --enlarge and this one"
                )
            return self.like(data()[1], count)
        if self.classes and self.vocabulary is not None:
            return self._both(given, count, data()[0])
        if self.classes:
            unknown = [name for name in given if name not in self.classes]
            if unknown:
                known = ", ".join(self.classes)
                raise ValueError(f"no class is called '{unknown[0]}'; the run's classes are {known}")
            indices = [self.classes.index(name) for name in given] or list(range(len(self.classes)))
            return self._of_classes(torch.tensor([indices[i % len(indices)] for i in range(count)]))
        if self.vocabulary is not None:
            if not given:
                known = data()[0].captions or ("",)
                name = SampleNoise(seeds=torch.tensor([seed]), steps=torch.tensor([0]))
                given = [known[int(u * len(known))] for u in name.uniform(torch.empty(1, count))[0]]
            remarks = [
                f"caption '{caption}': {complaint}"
                for caption in dict.fromkeys(given)
                for complaint in self.vocabulary.complaints(caption)
            ]
            captions = [given[i % len(given)] for i in range(count)]
            return Conditions(captions=captions, names=tuple(captions), remarks=tuple(remarks))
        if given:
            raise ValueError(
                f"this run was trained without classes or captions, so it cannot be conditioned on {given[0]!r}"
            )
        return Conditions()

    def blank(self, count: int) -> Conditions:
        """Conditions of `count` images that are not shown to the network: any, to be withheld."""
        labels = torch.zeros(count, dtype=torch.int64) if self.classes else None
        return Conditions(labels=labels, captions=None if self.vocabulary is None else [""] * count)

    def like(self, part: Images, count: int) -> Conditions:
        """Conditions of `count` images, with the frequencies of a part of the data."""
        items = items_like(part, count)
        labels = part.labels[items] if self.classes and part.labels is not None else None
        captions = None
        if self.vocabulary is not None and part.captions is not None:
            captions = [part.captions[i] for i in items.tolist()]
        names = captions or ([self.name_of(i) for i in labels.tolist()] if labels is not None else [])
        concat = None if self.smaller is None else self.smaller(part, items)
        return Conditions(labels=labels, captions=captions, concat=concat, names=tuple(names))

    def names_in(self, part: Images) -> list[str]:
        """What each image of a part of the data shows, in the words of samples: its caption or class, or nothing."""
        if self.vocabulary is not None and part.captions is not None:
            return list(part.captions)
        if not self.classes or part.labels is None:
            return [""] * len(part)
        return [self.name_of(i) for i in part.labels.tolist()]

    def name_of(self, label: int) -> str:
        """The name of a class; nothing for -1."""
        return self.classes[label] if label >= 0 else ""

    def of(self, other: Conditions, *, concat: Tensor) -> Conditions:
        """What this run's network reads of the conditions of another run, with the smaller images."""
        labels = other.labels if self.classes else None
        return Conditions(labels=labels, captions=other.captions if self.vocabulary else None, concat=concat)

    def shown(self, data: Callable[[], Images], count: int) -> Conditions:
        """Conditions of `count` previews during training: all classes in turn, captions evenly spaced over the data, which
        is read for captions and for images that are enlarged only."""
        if self.smaller is not None:
            return self.like(data(), count)
        labels = torch.arange(count) % len(self.classes) if self.classes else None
        part = None if self.vocabulary is None else data()
        if part is None or part.captions is None:
            return Conditions() if labels is None else self._of_classes(labels)
        captions = [part.captions[i * len(part) // count] for i in range(count)]
        return Conditions(labels=labels, captions=captions, names=tuple(captions))

    def _of_classes(self, labels: Tensor) -> Conditions:
        return Conditions(labels=labels, names=tuple(self.classes[i] for i in labels.tolist()))

    def _both(self, given: Sequence[str], count: int, train: Images) -> Conditions:
        """Conditions of a run with classes and captions: the one that is not given is taken from the data.

        A class gets captions of its own images, a caption the class of the image whose caption shares most words."""
        assert self.vocabulary is not None
        assert train.labels is not None
        assert train.captions is not None
        labels, known = train.labels.tolist(), train.captions
        words = [set(split_words(caption)) for caption in known]
        pairs: list[tuple[int, str]] = []
        for i in range(count):
            if not given:
                item = i * len(known) // count
                pairs.append((labels[item], known[item]))
            elif (name := given[i % len(given)]) in self.classes:
                label = self.classes.index(name)
                own = [j for j, other in enumerate(labels) if other == label] or [0]
                pairs.append((label, known[own[i // len(given) % len(own)]]))
            else:
                wanted = set(split_words(name))
                pairs.append((labels[max(range(len(known)), key=lambda j: len(words[j] & wanted))], name))
        remarks = [
            f"caption '{caption}': {complaint}"
            for caption in dict.fromkeys(caption for _, caption in pairs)
            if caption in given
            for complaint in self.vocabulary.complaints(caption)
        ]
        return Conditions(
            labels=torch.tensor([label for label, _ in pairs]),
            captions=[caption for _, caption in pairs],
            names=tuple(f"{self.name_of(label)}: {caption}".removeprefix(": ") for label, caption in pairs),
            remarks=tuple(remarks),
        )
