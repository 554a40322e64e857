"""What repair counts in the texts of a run, kept in a folder of the run, by the fingerprint of the texts."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from langevin.files import read_regular, write_atomic
from langevin.modalities.modality import Say
from langevin.modalities.text.data import Texts
from langevin.modalities.text.metrics.ngram import Grams, NgramModel
from langevin.modalities.text.repair.language import WordModel

FORMAT = 1
LARGEST = 2**32  # bytes of the file


def words_of(
    fingerprint: str, open_texts: Callable[[], tuple[Texts, Texts]], folder: Path | None, say: Say
) -> WordModel:
    """The words of the training texts, counted unless they are in memory or in the folder.

    Raises:
        ValueError: the texts cannot be read, or hold no word."""
    file = None if folder is None else folder / f"words-{FORMAT}-{fingerprint[:16]}.safetensors"
    found = _memory.get(fingerprint)
    if found is None and file is not None and file.is_file():
        try:
            found = read(file)
        except ValueError as error:
            say(f"{error}: counted again")
    if found is None:
        say("counting the words of the training texts")
        found = WordModel.fit(open_texts()[0].strings())
        if file is not None:
            try:
                file.parent.mkdir(exist_ok=True)
                write_atomic(file, packed(found))
            except OSError as error:
                say(f"the counts could not be kept ({error}): they are made again next time")
    _memory.clear()
    _memory[fingerprint] = found
    return found


_memory: dict[str, WordModel] = {}


def packed(model: WordModel) -> bytes:
    """A model as the content of a file."""
    facts = {"words": model.words, "cased": model.cased, "letters": model.spelling.size}
    tensors = {
        "facts": np.frombuffer(json.dumps(facts).encode(), np.uint8), "counts": np.array(model.counts, np.int64)
    }  # fmt: skip
    for name, ngrams in (("words", model.model), ("letters", model.spelling)):
        for n, grams in enumerate(ngrams.orders, 1):
            tensors |= {f"{name}.{n}.keys": grams.keys, f"{name}.{n}.counts": grams.counts.astype(np.int32)}
    return save(tensors)


def read(file: Path) -> WordModel:
    """A model from its file. Raises `ValueError` if it is damaged."""
    try:
        tensors = load(read_regular(file, most=LARGEST))
        facts = json.loads(tensors["facts"].tobytes())
        sizes = {"words": len(facts["words"]), "letters": facts["letters"]}
        models = {
            name: NgramModel(
                size=size,
                orders=tuple(
                    Grams.of(tensors[f"{name}.{n}.keys"], tensors[f"{name}.{n}.counts"].astype(np.int64), size)
                    for n in range(1, 10) if f"{name}.{n}.keys" in tensors
                ),
            )
            for name, size in sizes.items()
        }  # fmt: skip
        return WordModel(
            words=tuple(facts["words"]), counts=tuple(tensors["counts"].tolist()), model=models["words"],
            spelling=models["letters"], cased=facts["cased"],
        )  # fmt: skip
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ValueError(f"{file} is damaged ({error})") from error
