"""Options of other trainers that `langevin train` understands: each is said by its name here, or refused with what to do.

Names are those of diffusers' scripts, SimpleTuner and ai-toolkit; - and _ are alike in them. The table of docs/hub.md is
checked against this one.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Alias:
    """An option of other trainers.

    Args:
        names: without --, with _.
        form: what stands in its place, with {} for its value; None refuses it.
        says: what to do in place of an option that is refused; or a remark.
        values: its values that have other names here; any value if there are none.
        takes: whether it has a value.
    """

    names: tuple[str, ...]
    form: str | None = None
    says: str = ""
    values: dict[str, str] = field(default_factory=dict)
    takes: bool = True


PRECISION = {"no": "float32", "fp32": "float32", "bf16": "bfloat16"}
TRAIN, ACCUMULATE = "train_batch_size", "gradient_accumulation_steps"
YES, NO = {"true", "1", "yes"}, {"false", "0", "no"}
ALIASES = (
    Alias(names=("max_train_steps",), form="training.steps={}"),
    Alias(
        names=("num_train_epochs",), says="a run counts steps: training.steps=N is N x training.batch / items epochs"
    ),
    Alias(names=(TRAIN,), form="training.batch={}", says=f"training.micro_batch too, with --{ACCUMULATE}"),
    Alias(names=(ACCUMULATE,), form="training.batch", says=f"training.batch is --{TRAIN} times it"),
    Alias(names=("learning_rate", "lr"), form="training.optimizer.lr={}", says="of the recipe's optimizer"),
    Alias(
        names=("lr_scheduler", "lr_warmup_steps"), says="set training.lr_schedule, whose parts are shares of the run"
    ),
    Alias(names=("max_grad_norm",), form="training.grad_clip={}"),
    Alias(names=("adam_weight_decay",), form="training.optimizer.weight_decay={}"),
    Alias(names=("mixed_precision",), form="training.precision={}", values=PRECISION, says="fp16 is not trained in"),
    Alias(names=("use_ema",), form="", takes=False, says="always so: training.ema_lengths"),
    Alias(names=("resolution",), form="data.size={}"),
    Alias(names=("random_flip",), form="data.flip=true", takes=False),
    Alias(
        names=("center_crop",),
        takes=False,
        says="images are cropped to their middle; data.buckets keeps their shapes",
    ),
    Alias(names=("train_data_dir", "instance_data_dir"), form="{}", says="the first argument"),
    Alias(names=("dataset_name",), says="download it, and name its folder"),
    Alias(names=("pretrained_model_name_or_path",), says="`langevin adapt RUN DATA`, or init_from=RUN"),
    Alias(names=("output_dir",), form="--out {}"),
    Alias(names=("logging_dir",), says="events are in RUN/tensorboard"),
    Alias(names=("report_to",), form="--track {}", values={"none": ""}, says="none is the default"),
    Alias(
        names=("checkpointing_steps", "checkpoint_step_interval", "save_every"), says="training.checkpoint_minutes=2"
    ),
    Alias(names=("checkpoints_total_limit", "max_step_saves_to_keep"), form="training.keep_checkpoints={}"),
    Alias(names=("resume_from_checkpoint",), says="`langevin resume RUN`: its recipe is the run's own"),
    Alias(
        names=("validation_prompt", "validation_prompts"),
        says="previews are of held-out captions, in RUN/samples; `langevin sample RUN --condition TEXT` draws one",
    ),
    Alias(
        names=("validation_steps", "validation_epochs", "eval_steps_interval", "sample_every"),
        says="ten evaluations at equal parts of the run; `touch RUN/requests/sample` draws at once",
    ),
    Alias(names=("validation_num_inference_steps",), form="sampling.steps={}"),
    Alias(names=("push_to_hub",), form="", takes=False, says="with --hub_model_id"),
    Alias(names=("hub_model_id",), form="--push {}"),
    Alias(names=("hub_token",), says="set HF_TOKEN: others of this machine see commands"),
    Alias(names=("hub_private_repo",), takes=False, says="`langevin push RUN OWNER/NAME --private` at the end"),
    Alias(
        names=("enable_xformers_memory_efficient_attention",), form="", takes=False, says="attention is fused already"
    ),
    Alias(names=("gradient_checkpointing",), takes=False, says="a smaller training.micro_batch takes less memory"),
    Alias(names=("dataloader_num_workers",), says="data are read as they are needed"),
)


def translated(words: list[str]) -> tuple[list[str], list[str]]:
    """The words of `train` with the names of this package, and a line for each option that had another.

    Raises:
        ValueError: an option that has no place here; the message says what to do instead."""
    known = {name: alias for alias in ALIASES for name in alias.names}
    given, rest, lines, at = dict[str, str](), list[str](), list[str](), 0
    while at < len(words):
        word, assigned, value = words[at].partition("=")
        name = word[2:].replace("-", "_") if word.startswith("--") else ""
        at += 1
        if (alias := known.get(name)) is None:
            rest.append(words[at - 1])
            continue
        if alias.form is None:
            raise ValueError(f"{word} is of other trainers. Here: {alias.says}")
        if alias.takes and not assigned:
            if at == len(words) or words[at].startswith("--"):
                raise ValueError(f"{word} needs a value")
            value, at = words[at], at + 1
        if not alias.takes and assigned:
            if value.lower() not in YES | NO:
                raise ValueError(f"{word} is true or false, got {value}")
            if value.lower() in NO:
                lines.append(f"{word}={value} is left out here{f' ({alias.says})' if alias.says else ''}")
                continue
            value = ""
        given[name] = value
        place = _place(alias, word, value)
        if name not in (TRAIN, ACCUMULATE):
            rest += place
            lines.append(_line(word, value, place, alias))
    if "push_to_hub" in given and "hub_model_id" not in given:
        raise ValueError("--push_to_hub needs a repository: --push OWNER/NAME")
    batch = _batch(given)
    lines += [f"--{TRAIN} is {' '.join(batch)} here"] if batch else []
    return [*rest, *batch], lines


def _place(alias: Alias, word: str, value: str) -> list[str]:
    """The words that stand in the place of an option."""
    assert alias.form is not None, "checked by the caller"
    if alias.values and alias.form.startswith("training.") and value not in alias.values:
        raise ValueError(f"{word} {value}: here it is one of {', '.join(alias.values)}; {alias.says}")
    value = alias.values.get(value, value)
    return [part.format(value) for part in alias.form.split()] if value or not alias.takes else []


def _line(word: str, value: str, place: list[str], alias: Alias) -> str:
    remark = f" ({alias.says})" if alias.says else ""
    return f"{f'{word} {value}'.strip()} is {' '.join(place) or 'left out'} here{remark}"


def _batch(given: dict[str, str]) -> list[str]:
    """A batch that is accumulated: here it is counted as a whole."""
    if TRAIN not in given and ACCUMULATE not in given:
        return []
    if TRAIN not in given:
        raise ValueError(
            f"--{ACCUMULATE} alone: give training.batch, the whole batch, and training.micro_batch, its parts"
        )
    try:
        part, count = int(given[TRAIN]), int(given.get(ACCUMULATE, "1"))
    except ValueError as error:
        raise ValueError(f"--{TRAIN} and --{ACCUMULATE} are whole numbers") from error
    return [f"training.batch={part * count}", *([f"training.micro_batch={part}"] if count != 1 else [])]
