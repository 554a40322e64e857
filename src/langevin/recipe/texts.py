"""Text as a kind of data: opened, completed, read."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from langevin.diffusion.sampler.grid import Rho, Shares
from langevin.modalities.text import rows as text_rows
from langevin.modalities.text.data import Texts, load_parts
from langevin.modalities.text.layout import AnyLayout, Corpus, Labels, Mend
from langevin.modalities.text.pairs import inferences
from langevin.modalities.text.sources import TextSource
from langevin.modalities.text.tokens import BPE, AnyTokens, Bytes, Characters, LetterPairs, Letters
from langevin.networks import Transformer
from langevin.recipe.tree import Recipe, Symbols

TOKENS = (Bytes, Letters, Characters, BPE, LetterPairs)


@dataclass(frozen=True, kw_only=True)
class TextModality:
    """Texts: records of strings."""

    name: str = "text"

    def open(self, recipe: Recipe, progress: Callable[[int, int], None] | None) -> tuple[Texts, Texts]:
        assert isinstance(recipe.data, TextSource)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the same sentences are in the data's notes
            return load_parts(recipe.data, held_out=recipe.held_out, progress=progress)

    def complete(self, recipe: Recipe, data: Texts, code: Any) -> Recipe:
        """The codec's symbols, the labels, the size of the vocabulary; of `start`, its codec and vocabulary.

        Raises:
            ValueError: a codec, process or network that does not read symbols."""
        layout = recipe.layout or Corpus()
        if recipe.network.kind != "transformer" or not isinstance(recipe.process, Symbols):
            raise ValueError("text needs network.kind=transformer and process.kind masked, hybrid, uniform or causal")
        if not isinstance(recipe.codec, TOKENS):
            raise ValueError("text is coded by codec.kind bytes, letters, characters or bpe")
        _require_fit(recipe.network, recipe.process, recipe.codec, layout)
        if recipe.start:
            base = started(recipe.start)
            codec: AnyTokens = base.codec  # type: ignore[assignment]
            layout = replace(layout, controls=base.process.symbols - codec.symbols)  # type: ignore[union-attr]
        else:
            codec = recipe.codec.fitted(data.strings())
        if isinstance(layout, Mend):
            layout = layout.fitted(data.strings())
        if isinstance(layout, Corpus):
            _require_a_row(data, codec, layout)
        classes = recipe.classes
        if isinstance(layout, Labels) and not classes:
            classes = tuple(sorted({one.label for one in inferences(data.records)} - {""}))
        symbols = codec.symbols + layout.needed(len(classes))
        if recipe.start and symbols != codec.symbols + layout.controls:
            raise ValueError(
                f"the run that this one starts from keeps room for {layout.controls} control symbols, and {layout.kind} "
                f"needs {layout.needed(len(classes))}: train it with a larger layout.controls"
            )
        sampling = recipe.sampling
        if isinstance(sampling.grid, Rho):
            sampling = replace(sampling, grid=Shares())
        if recipe.process.kind == "causal":
            sampling = replace(sampling, sampler="left_to_right")
        return replace(
            recipe, codec=codec, layout=layout, classes=classes, sampling=sampling,
            network=replace(recipe.network, symbols=symbols, beside=1 + layout.hints if isinstance(layout, Mend) else 0),
            process=replace(recipe.process, symbols=symbols),
        )  # fmt: skip

    def reader(self, recipe: Recipe, data: Texts, device: torch.device) -> text_rows.RowReader:
        assert isinstance(recipe.process, Symbols)
        assert recipe.network.kind == "transformer"
        part = _arranged(data, recipe.layout or Corpus(), recipe.codec, recipe.classes)  # type: ignore[arg-type]
        return text_rows.RowReader(
            part=part, padding=recipe.process.symbols + 1, blocks=recipe.network.attention == "block", device=device
        )


def _require_fit(network: Transformer.Config, process: Symbols, codec: Any, layout: AnyLayout) -> None:
    """Check that network, process, codec and layout belong together. Raises `ValueError` with what does not."""
    if (network.attention == "causal") != (process.kind == "causal"):
        raise ValueError("network.attention=causal and process.kind=causal belong together: an autoregressive model")
    if network.attention == "block" and (not isinstance(layout, Corpus) or layout.length % network.block):
        raise ValueError(
            f"blocks of network.block {network.block} write a corpus, of whose rows (layout.length "
            f"{layout.length}) they cut a whole number"
        )
    if isinstance(layout, Mend) and (process.kind != "masked" or not isinstance(codec, Characters)):
        raise ValueError("layout.kind mend repairs characters by process.kind=masked: set codec.kind=characters")
    if network.attention == "block" and (process.kind != "masked" or network.timed):
        raise ValueError("network.attention=block is of process.kind=masked and a network that is told no time")
    if process.kind == "masked" and process.rate != "linear" and process.question == "count":
        raise ValueError(
            f"process.rate={process.rate} belongs to process.question=time: counts are drawn evenly, as the "
            "linear rate masks"
        )
    if process.kind in ("uniform", "hybrid") and not network.timed:
        raise ValueError(f"a {process.kind} process needs a network that is told the time: network.timed=true")


def _require_a_row(data: Texts, codec: AnyTokens, layout: Corpus) -> None:
    """Check that there is text for a row. Raises `ValueError` with what there is."""
    if data.characters > 64 * layout.length:  # no codec here makes a symbol of so many
        return
    found = sum(len(codec.encode(text)) for text in data.strings())
    if found < layout.length:
        raise ValueError(
            f"the text to train on has {found} symbols, and a row has layout.length {layout.length}: give more text, or a "
            "smaller layout.length"
        )


@lru_cache(maxsize=4)
def _arranged(
    data: Texts, layout: AnyLayout, codec: AnyTokens, classes: tuple[str, ...]
) -> text_rows.Stretches | text_rows.Examples | text_rows.Mends:
    return text_rows.arrange(data, layout, codec, classes)


def started(path: str) -> Recipe:
    """The recipe of a run to start from.

    Raises:
        ValueError: it is none of text."""
    from langevin.recipe.read import check, read_tree

    where = Path(path) / "recipe.yaml"
    if not where.is_file():
        raise ValueError(f"start: {path} is no run, as it has no recipe.yaml")
    recipe = check(read_tree(where), where=str(where))
    if not isinstance(recipe.process, Symbols):
        raise ValueError(f"start: {path} is no run of text")
    return recipe
