"""The safeguards of a server: the policy of a file, the decisions by it, and their record."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_origin, get_type_hints

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy.exc import SQLAlchemyError

from langevin.diffusion.guidance import weight_of
from langevin.files import read_regular
from langevin.modalities.inputs import marker_of, runs_named, values_of
from langevin.modalities.modality import Samples
from langevin.run.generate import RunModel, changed
from langevin.safety.policy import (
    ALLOWED,
    AllowedWords,
    Decision,
    Judgement,
    NearCopies,
    Phrases,
    Policy,
    strictest,
    texts_of,
    threshold,
)
from langevin.server.audit import Audit
from langevin.server.errors import Refused, in_words
from langevin.server.runs import data_of
from langevin.strict_yaml import parse
from langevin.user_function import CodePermission, load_function

MOST = 20_000  # training items that samples are compared with
AVOID, LED = "avoid", 2.0  # an option of modalities with guidance, and its least weight
MOST_TEXT = 4 << 20  # bytes of a file that is checked as a text


class Rules(BaseModel):
    """A file of safeguards.

    Args:
        deny, hold: phrases that a request may not hold, or that a person has to look at.
        allowed: all that the options of a request may say, such as classes; None for anything.
        avoid: a class or caption that guidance leads away from, in all requests to runs that know it.
        near_copies: what becomes of samples that are near copies of training data, of modalities whose samples are tensors.
        block_list: a folder of files; samples as near to one of them are denied.
        classifier: module:function, called with `Samples` (modalities.modality); returns None, or why they are held.
        fail_closed: refuse requests when the audit log cannot be written, and treat samples as copies where the training
            data cannot be read.
    """

    model_config = ConfigDict(extra="forbid")

    deny: tuple[str, ...] = ()
    hold: tuple[str, ...] = ()
    allowed: tuple[str, ...] | None = None
    avoid: str | None = None
    near_copies: Literal["hold", "deny"] | None = None
    block_list: Path | None = None
    classifier: str | None = None
    fail_closed: bool = True

    def policy(self) -> Policy:
        """The checks of requests."""
        checks: list[Any] = []
        checks += [Phrases(phrases=self.deny)] if self.deny else []
        checks += [Phrases(phrases=self.hold, verdict="hold")] if self.hold else []
        checks += [AllowedWords(values=self.allowed)] if self.allowed is not None else []
        return Policy(checks=tuple(checks))

    @property
    def judges_samples(self) -> bool:
        """Whether samples are looked at before they are given out."""
        return not (self.near_copies is None and self.block_list is None and self.classifier is None)


def read(path: Path) -> Rules:
    """The rules of a YAML file. Raises `ValueError` if it is none."""
    try:
        given = parse(path.read_text(encoding="utf-8")) or {}
        if not isinstance(given, dict):
            raise ValueError("rules are names with values, as deny: [some phrase]")
        rules = Rules.model_validate(given)
        rules.policy()
        if rules.block_list is not None and not rules.block_list.is_dir():
            raise ValueError(f"block_list: there is no folder {rules.block_list}")
        if rules.classifier is not None:
            judgement_of(rules.classifier)
    except FileNotFoundError as error:
        raise ValueError(f"--safeguards: there is no file {path}") from error
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, one['loc']))}: {in_words(one, Rules.model_fields)}" for one in error.errors()]
        raise ValueError(f"{path}: {'; '.join(faults)}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return rules


@dataclass(frozen=True, kw_only=True)
class Safeguards:
    """Decides on requests and samples, and writes every decision down.

    Args:
        audit: None writes nothing down.
    """

    rules: Rules = field(default_factory=Rules)
    audit: Audit | None = None

    def request(self, id: str, model: str, options: Any) -> Decision:
        """The decision on a request, by the texts of its options.

        Raises:
            Refused: it is denied, or cannot be written down."""
        decision = self.rules.policy().request(texts_in(options))
        self.note("request", {"id": id, "model": model, **as_json(decision)})
        if decision.verdict == "deny":
            raise Refused(
                f"refused: {decision.reason}", code="content_policy_violation", headers={"x-should-retry": "false"}
            )
        return decision

    def steered(self, options: Any, model: RunModel) -> tuple[Any, RunModel]:
        """The options of a request and its model, led away from what is to be avoided, in place of what the request itself
        avoids; unchanged for runs without guidance, or that do not know it."""
        word, known = self.rules.avoid, getattr(model.modality, "choices", {}).get(AVOID)
        if word is None or not hasattr(options, AVOID) or not model.conditional or (known and word not in known):
            return options, model
        weight = max(weight_of(model.sampling.guidance), LED)
        return replace(options, **{AVOID: (word,)}), changed(model, guidance=weight)

    def samples(
        self, id: str, samples: Samples, run: Path, fingerprint: str, before: Decision,
        adapted: Sequence[tuple[Path, str]] = (),
    ) -> Decision:  # fmt: skip
        """The decision on samples, and on their request.

        Args:
            adapted: the runs of its adapters, each with the fingerprint of its data."""
        rules, decisions = self.rules, [before]
        decisions += [self._copies(samples, *one) for one in ((run, fingerprint), *adapted)]
        decisions += [self._listed(samples, run, fingerprint)]
        decisions += [] if rules.classifier is None else [judgement_of(rules.classifier).check(samples)]
        decision = strictest(decisions)
        self.note("samples", {"id": id, "count": len(samples), **as_json(decision)})
        return decision

    def _copies(self, samples: Samples, run: Path, fingerprint: str) -> Decision:
        values = comparable(samples.modality, samples.values)
        if self.rules.near_copies is None or values is None:
            return ALLOWED
        verdict = self.rules.near_copies
        try:
            check = copies_of(run, fingerprint)
        except (ValueError, OSError, AttributeError):
            reason = "the training data cannot be read here, so copies of it cannot be ruled out"
            return Decision(verdict=verdict, check="near_copies", reason=reason) if self.rules.fail_closed else ALLOWED
        return replace(check, verdict=verdict).check(values.float())

    def _listed(self, samples: Samples, run: Path, fingerprint: str) -> Decision:
        values = comparable(samples.modality, samples.values)
        if self.rules.block_list is None or values is None:
            return ALLOWED
        try:
            check = listed_in(files_in(self.rules.block_list), samples.modality, run, fingerprint)
        except (ValueError, OSError, AttributeError) as error:
            reason = f"samples cannot be compared with the block list: {error}"
            return Decision(verdict="hold", check="block_list", reason=reason) if self.rules.fail_closed else ALLOWED
        return check.check(values.float())

    def note(self, event: str, facts: Mapping[str, Any]) -> None:
        """Write a row of the audit log. Raises `Refused` if it cannot be written and the rules say so."""
        if self.audit is None:
            return
        try:
            self.audit.append(event, facts)
        except (SQLAlchemyError, RuntimeError) as error:
            if self.rules.fail_closed:
                raise Refused("the audit log cannot be written", status=503, code="audit_unavailable") from error


def comparable(modality: Any, values: Any) -> torch.Tensor | None:
    """Decoded values as a tensor (n, ...) of one shape, like the run's data when it is read; None if they are none."""
    own = getattr(modality, "comparable", None)
    if own is not None:
        return own(values)
    return values if isinstance(values, torch.Tensor) else None


def texts_in(options: Any) -> list[str]:
    """The texts of options: their values, and of files that are text the content. Names of files are not texts."""
    hints, found = get_type_hints(type(options), include_extras=True), list[str]()
    runs = {name.partition("-")[0] for name in runs_named(options)}
    for one in fields(options):
        value = getattr(options, one.name)
        if get_origin(hints[one.name]) is Literal or one.name in runs:
            continue  # one of our own words, or a run that is served
        if marker_of(hints[one.name]) is None:
            found += texts_of(value)
        for path in values_of(value) if marker_of(hints[one.name]) is not None else ():
            with suppress(UnicodeDecodeError, OSError):
                found.append(read_regular(Path(path), most=MOST_TEXT).decode())
    return found


@lru_cache(maxsize=4)
def copies_of(run: Path, fingerprint: str) -> NearCopies:
    """The check for copies of a run's training data.

    Raises:
        ValueError, OSError, AttributeError: it cannot be read, or its items are no tensors."""
    train, val = data_of(run, fingerprint)
    items, held_out = (part.read(torch.arange(min(MOST, len(part)))).float() for part in (train, val))
    return NearCopies(items=items, below=threshold(items, held_out))


def files_in(folder: Path) -> tuple[tuple[Path, int], ...]:
    """The files of a folder, with the times of their last changes. Raises `ValueError` if there are none."""
    paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if not paths:
        raise ValueError(f"there is no file in {folder}")
    return tuple((path, path.stat().st_mtime_ns) for path in paths)


@lru_cache(maxsize=4)
def listed_in(files: tuple[tuple[Path, int], ...], modality: Any, run: Path, fingerprint: str) -> NearCopies:
    """The check for copies of files, as strict as that for training data.

    Raises:
        ValueError, OSError, AttributeError: a file or the run's data cannot be read, or the modality reads no files."""
    found = [value for path, _ in files for value in modality.decode(modality.encode_file(path))]
    items = comparable(modality, found if hasattr(modality, "comparable") else torch.stack(found))
    if items is None:
        raise ValueError(f"{modality.kind} cannot be compared")
    items = items.float()
    return NearCopies(items=items, below=copies_of(run, fingerprint).below, name="the block list", verdict="deny")


@lru_cache(maxsize=4)
def judgement_of(name: str) -> Judgement:
    """The function that looks at samples. Raises `ValueError` if it cannot be imported."""
    return Judgement(
        function=load_function(name, CodePermission.of([name], allow=False), takes=("samples",)), name=name
    )


def as_json(decision: Decision) -> dict[str, str]:
    """A decision as JSON."""
    return {"verdict": decision.verdict, "check": decision.check, "reason": decision.reason}
