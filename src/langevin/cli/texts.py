"""Verbs of text: `sample` writes, continues, fills in and replies; `summarise` and `classify` read files."""

import json
import re
import sys
import time
from codecs import getincrementaldecoder
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from langevin.cli.show import LiveLine, counting, duration
from langevin.cli.verbs import Classify, Sample, Summarise
from langevin.modalities.text.layout import Corpus, Labels, Mend, Pairs
from langevin.modalities.text.rows import two_texts
from langevin.recipe.build import Built
from langevin.recipe.tree import LeftToRight, Sampling
from langevin.run.answer import answer, ask_number
from langevin.run.directory import Run, open_run
from langevin.run.gaps import Gapped, parse
from langevin.run.generate import with_options
from langevin.run.write import codec_of, fill, free_lengths, token_network, vocabulary
from langevin.training import machine
from langevin.training.checkpoint import write_atomic


def sample_text(asked: Sample, made: Run) -> Path | None:
    """Write, continue or fill in; from a run of pairs, answer the prompt.

    Raises:
        ValueError: a prompt that does not fit, or that cannot be coded."""
    require_out(asked.out)
    line, begin = LiveLine(), time.perf_counter()
    built, sampling = loaded(made, asked.average, line)
    changes = {
        "steps": asked.steps, "sampler": asked.sampler, "guidance": asked.guidance, "temperature": asked.temperature,
        "top_p": asked.top_p, "level": asked.level, "best": asked.best,
    }  # fmt: skip
    sampling = with_options(sampling, **changes)
    seeds = asked.seed + torch.arange(asked.count)
    layout = made.recipe.layout
    if asked.condition:
        raise ValueError(
            "a run of text is told by --prompt, --suffix or --fill; --condition is for classes and captions"
        )
    if (asked.length is not None and asked.length < 1) or (asked.block is not None and asked.block < 1):
        raise ValueError(f"--length and --block count symbols, at least 1, got {asked.length} and {asked.block}")
    if isinstance(layout, Mend):
        raise ValueError(f"this run repairs texts: langevin repair {made.path} FILE")
    if isinstance(layout, Labels):
        raise ValueError(f"this run tells how two texts stand to each other: langevin classify {made.path} FILE")
    if isinstance(layout, Pairs):
        if asked.suffix is not None or asked.fill is not None or asked.prompt is None:
            raise ValueError("this run answers to a text: give it as --prompt (- reads standard input)")
        source = _coded(built, as_dialogue(_read(asked.prompt)), line)
        source = _cut(source, layout.length - layout.target - 2, line, keep_end=True)
        texts, calls = answer(built, sampling, [source] * asked.count, seeds=seeds, batch=asked.batch)
    else:
        assert isinstance(layout, Corpus)
        texts, calls = _open_text(asked, built, sampling, layout, seeds, line)
    if not _streams(asked, built):
        write_texts(texts, asked.out)
    line.say(
        f"{len(texts)} texts ({sampling.sampler}, {calls} network calls) in {duration(time.perf_counter() - begin)}"
    )
    return asked.out


def _streams(asked: Sample, built: Built) -> bool:
    """Whether the text is shown as its blocks settle: one text, on the terminal, of a network that writes by blocks."""
    blocks = token_network(built).config.attention == "block"
    return blocks and isinstance(built.recipe.layout, Corpus) and asked.count == 1 and asked.out is None


def _open_text(
    asked: Sample, built: Built, sampling: Sampling, layout: Corpus, seeds: Tensor, line: LiveLine
) -> tuple[list[str], int]:
    """Texts of a corpus: free, after a prompt, before a suffix, or in gaps."""
    words, codec = vocabulary(built), codec_of(built)
    if asked.fill is not None:
        if asked.prompt is not None or asked.suffix is not None:
            raise ValueError("--fill holds the whole text with its gaps: leave --prompt and --suffix out")
        gapped = parse(_read(asked.fill))
        if not gapped.gaps:
            raise ValueError("--fill needs a gap in its text, as 'To be, [[12]] the question' or [[]] for any length")
    else:
        prompt, suffix = (_read(text) if text is not None else "" for text in (asked.prompt, asked.suffix))
        gapped = Gapped(texts=(prompt, suffix), gaps=(asked.length,))
    for text in gapped.texts:
        for complaint in codec.complaints(text):
            line.say(f"prompt: {complaint}")
    given = sum(map(len, gapped.coded(codec)))
    if asked.fill is None:
        room = layout.length - given
        gapped = replace(gapped, gaps=(asked.length or max(room, 1),))
    fixed = sum(n or 1 for n in gapped.gaps)
    if given + fixed > layout.length:
        raise ValueError(
            f"the text has {given} symbols and asks for {fixed} more, and this run reads {layout.length}: shorten one"
        )
    if None in gapped.gaps and token_network(built).config.attention == "block":
        raise ValueError("a run that writes by blocks does not see what comes after a gap: give its length, as [[12]]")
    lengths = free_lengths(built, gapped, layout.length - given)
    if isinstance(built.recipe.process, LeftToRight) and (len(gapped.gaps) > 1 or gapped.texts[-1]):
        raise ValueError("an autoregressive run goes on after a --prompt only: it does not see what comes after a gap")
    x = gapped.symbols(codec, words.mask, lengths).expand(asked.count, -1)
    shown, characters = 0, getincrementaldecoder("utf-8")("replace")

    def settled(rows: Tensor, places: int) -> None:
        nonlocal shown
        if _streams(asked, built):
            symbols = rows[0, shown:places]
            sys.stdout.write(characters.decode(codec.written(symbols[symbols < words.codec].cpu())))
            sys.stdout.flush()
            shown = places

    texts, most = list[str](), 0
    for rows in torch.arange(asked.count).split(asked.batch):
        part, calls = fill(built, sampling, x[rows], seeds=seeds[rows], block=asked.block, settled=settled)
        texts, most = [*texts, *(_text(built, row) for row in part)], max(most, calls)
    if shown:
        sys.stdout.write(characters.decode(b"", final=True) + "\n")
    return texts, most


def as_dialogue(text: str) -> str:
    """Turns "user: ..." with the speaker who answers named at the end, as training rows end: the other one, "system"."""
    lines = [line for line in text.splitlines() if line.strip()]
    turns = bool(lines) and all(re.match(r"\w+:", line) for line in lines)
    if not turns or lines[-1].rstrip().endswith(":"):
        return text
    last = lines[-1].split(":", 1)[0]
    others = [who for line in reversed(lines) if (who := line.split(":", 1)[0]) != last]
    return "\n".join(lines) + f"\n{others[0] if others else 'user' if last == 'system' else 'system'}:"


def summarise(asked: Summarise) -> None:
    """A summary of each text of a file, a line each; of lines of JSON, of their text field."""
    require_out(asked.out)
    line = LiveLine()
    made = open_run(asked.run)
    if not isinstance(made.recipe.layout, Pairs):
        raise ValueError(f"{asked.run} is no run of texts with summaries (layout.kind pairs)")
    built, sampling = loaded(made, None, line)
    sampling = with_options(
        sampling, steps=asked.steps, guidance=asked.guidance, temperature=asked.temperature, best=asked.best
    )
    records = _records(asked.file, ("text",))
    texts = [record["text"] for record in records if record is not None]
    room = made.recipe.layout.length - made.recipe.layout.target - 2
    sources = [_cut(_coded(built, text, line), room, line, keep_end=False) for text in texts]
    with counting("summaries") as progress:
        made_of, _ = answer(built, sampling, sources, seeds=asked.seed + torch.arange(len(sources)), progress=progress)
    write_texts(_laid_out(records, made_of), asked.out, lines=True)


def classify(asked: Classify) -> None:
    """The label of each pair of texts, with its probability: tab-separated, label first."""
    require_out(asked.out)
    line = LiveLine()
    made = open_run(asked.run)
    layout, classes = made.recipe.layout, made.recipe.classes
    if not isinstance(layout, Labels):
        raise ValueError(f"{asked.run} is no run of labels (layout.kind labels)")
    built, _ = loaded(made, None, line)
    records = _records(asked.file, ("premise", "hypothesis"))
    pairs = [(record["premise"], record["hypothesis"]) for record in records if record is not None]
    words = vocabulary(built)
    sources, remarks = two_texts(pairs, layout, codec_of(built))
    for text in remarks:
        line.say(text)
    lines: list[str] = []
    for rows in torch.arange(len(sources)).split(64):
        heads = [torch.cat([sources[i].long(), torch.tensor([words.separator])]) for i in rows.tolist()]
        for shares in ask_number(built, heads, len(classes)).softmax(-1):
            best = int(shares.argmax())
            lines.append(f"{classes[best]}\t{float(shares[best]):.3f}")
    write_texts(_laid_out(records, lines), asked.out, lines=True)


def loaded(made: Run, average: float | None, line: LiveLine) -> tuple[Built, Sampling]:
    """A run's parts and how it samples; complaints are said."""
    built, _, complaints = made.load(average=average, device=machine.device())
    for text in complaints:
        line.say(text)
    return built, made.recipe.sampling


def _read(text: str) -> str:
    """The text, or standard input for '-' without the end of its last line. Raises `ValueError` where that is empty."""
    if text != "-":
        return text
    found = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not found:
        raise ValueError("standard input is empty: there is nothing to go on from")
    return found


def _coded(built: Built, text: str, line: LiveLine) -> Tensor:
    codec = codec_of(built)
    for complaint in codec.complaints(text):
        line.say(complaint)
    return codec.encode(text)


def _cut(ids: Tensor, room: int, line: LiveLine, *, keep_end: bool) -> Tensor:
    """At most `room` symbols, and a line about what was cut."""
    if len(ids) <= room:
        return ids
    line.say(f"cut: the text has {len(ids)} symbols and the run reads {room}, so {len(ids) - room} are left out")
    return ids[-room:] if keep_end else ids[:room]


def require_out(out: Path | None) -> None:
    """Check, before any work, where texts go. Raises `ValueError` for a file of another kind."""
    if out is not None and out.suffix not in (".txt", ".jsonl"):
        raise ValueError(f"text is written to a .txt or .jsonl file, or to standard output; got --out {out}")


def _text(built: Built, row: Tensor) -> str:
    return codec_of(built).decode(row[row < vocabulary(built).codec].cpu())


def _records(file: str, fields: tuple[str, ...]) -> list[dict[str, str] | None]:
    """A record a line of a file or of standard input ('-'): JSON with the fields, or tab-separated columns. None: blank.

    Raises:
        ValueError: a line that is neither, or nothing at all."""
    content = read_text(file).replace("\r\n", "\n").removesuffix("\n")
    found = [_record(text, fields, f"{file}, line {i}") for i, text in enumerate(content.split("\n"), start=1)]
    if not any(found):
        raise ValueError(f"{file} holds no text")
    return found


def _record(text: str, fields: tuple[str, ...], where: str) -> dict[str, str] | None:
    if not text.strip():
        return None
    if text.startswith("{"):
        try:
            record = json.loads(text)
        except ValueError as error:
            raise ValueError(f"{where}: is not JSON ({error})") from error
        missing = [name for name in fields if not isinstance(record.get(name), str)]
        if missing:
            raise ValueError(f"{where}: has no text field '{missing[0]}'; it has {', '.join(record)}")
        return {name: record[name] for name in fields}
    columns = text.split("\t") if len(fields) > 1 else [text]
    if len(columns) < len(fields):
        raise ValueError(f"{where}: expected {len(fields)} columns, divided by tabs: {', '.join(fields)}")
    return dict(zip(fields, columns))


def _laid_out(records: Sequence[dict[str, str] | None], made: Sequence[str]) -> list[str]:
    """A line for every record, in order: blank where the record is."""
    rest = iter(made)
    return ["" if record is None else next(rest) for record in records]


def read_text(file: str) -> str:
    """A file, or standard input for '-', with its line ends as they are. Raises `ValueError` where it is no UTF-8."""
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text: byte {error.start} is {error.object[error.start]:#x}") from error


def write_texts(texts: Sequence[str], out: Path | None, *, lines: bool = False) -> None:
    """To standard output, or to a .txt or .jsonl file."""
    if out is not None and out.suffix == ".jsonl":
        content = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    elif lines:
        content = "".join(" ".join(text.splitlines()) + "\n" for text in texts)
    else:
        content = "".join((f"--- {i}\n" if len(texts) > 1 else "") + text + "\n" for i, text in enumerate(texts))
    if out is None:
        sys.stdout.write(content)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(out, content.encode())
