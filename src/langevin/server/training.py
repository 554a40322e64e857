"""Requests to train, resume and evaluate: what they may name, and the command that each is."""

import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from langevin.recipe.read import read_tree, shipped
from langevin.server.errors import Refused
from langevin.server.options import sound
from langevin.server.runs import NAME, Runs

# no path, no function, no nested mapping: a change of the recipe can reach no file and no code
CHANGE = re.compile(
    r"(?![^=]*\.(?:path|run)=)(?:(network|process|method|training|sampling)(\.[a-z]\w*)+=[A-Za-z0-9_.+-]{1,40}"
    r"|data\.kind=[a-z]{1,40}|data(\.[a-z]\w*)+=(true|false|null|[0-9][0-9.e+-]{0,40}))"
)
ABOUT = re.compile(r"readme|licen[cs]e|notice", re.IGNORECASE)  # files about data


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")
    _sound = model_validator(mode="before")(sound)

    priority: Annotated[int, Field(ge=-10, le=10, description="Those of a higher one go first.")] = 0


class TrainRequest(_Request):
    """Train a new run: `langevin train`."""

    verb: Literal["train"]
    target: Annotated[str, Field(min_length=1, max_length=200, description="A recipe or data: GET /v1/training.")]
    data: Annotated[str | None, Field(max_length=200, description="The data of a recipe that comes without.")] = None
    model: Annotated[str | None, Field(max_length=64, description="Name of the new run; default the target's.")] = None
    minutes: Annotated[float | None, Field(gt=0, le=1e5, description="Time budget; default 10, or the recipe's.")] = (
        None
    )
    seed: Annotated[int | None, Field(ge=0, lt=2**62, description="Default the recipe's.")] = None
    changes: Annotated[
        list[Annotated[str, Field(max_length=120)]],
        Field(max_length=50, description="Changes of the recipe, such as network.width=128."),
    ] = []


class ResumeRequest(_Request):
    """Train a stopped run to its end: `langevin resume`."""

    verb: Literal["resume"]
    model: Annotated[str, Field(max_length=64, description="Name of the run.")]


class EvaluateRequest(_Request):
    """Measure a run and write its report: `langevin evaluate`."""

    verb: Literal["evaluate"]
    model: Annotated[str, Field(max_length=64, description="Name of the run.")]
    count: Annotated[int | None, Field(ge=8, le=100_000, description="Samples per seed.")] = None
    seeds: Annotated[int | None, Field(ge=1, le=20, description="Independent sets of samples; default 3.")] = None
    steps: Annotated[int | None, Field(ge=1, le=10_000, description="Sampling steps; default the run's.")] = None
    sampler: Annotated[str | None, Field(max_length=200, description="As on the command line, 'heun'.")] = None
    guidance: Annotated[float | None, Field(ge=-1e4, le=1e4, description="Weight; 1 is no guidance.")] = None


AnyRequest = TrainRequest | ResumeRequest | EvaluateRequest
OF_VERB: dict[str, type[AnyRequest]] = {"train": TrainRequest, "resume": ResumeRequest, "evaluate": EvaluateRequest}


@dataclass(frozen=True, kw_only=True)
class Training:
    """What can be trained here, and where to.

    Args:
        runs: the first served folder of these that is no run itself gets the new ones.
        data: folder whose files and folders can be trained on, by their names; None offers the recipes' own data alone.
    """

    runs: Runs
    data: Path | None = None
    _naming: Any = field(default_factory=threading.Lock)

    @property
    def folder(self) -> Path:
        """Where new runs go. Raises `Refused` if single runs are served alone."""
        for folder in self.runs.folders:
            if not (folder / "recipe.yaml").is_file():
                return folder
        raise Refused("only single runs are served here, so there is no folder for a new one", code="no_folder")

    def offered(self) -> dict[str, Any]:
        """The recipes, and the names of the data."""
        recipes = list[dict[str, Any]]()
        for name in shipped():
            tree = read_tree(name)
            if "density" not in tree:
                needs = tree.get("data", {}).get("path") is not None
                recipes.append({"id": name, "description": tree.get("description", ""), "needs_data": needs})
        inside = list(self.data.iterdir()) if self.data is not None and self.data.is_dir() else []
        names = [path.name for path in sorted(inside, key=lambda path: (path.is_file(), path.name))]
        return {"recipes": recipes, "data": [name for name in names if NAME.fullmatch(name) and not ABOUT.match(name)]}

    def named(self, request: AnyRequest, open_: set[str]) -> AnyRequest:
        """The request with the name of its run, after all checks that need no work.

        Args:
            open_: names of runs that other requests will create.

        Raises:
            Refused: it names something that is not there, or not to be reached."""
        if not isinstance(request, TrainRequest):
            self.runs.open(request.model)
            return request
        recipe = request.target in shipped()
        if not recipe:
            self._data(request.target, "target")
        elif read_tree(request.target).get("data", {}).get("path") is not None and request.data is None:
            raise Refused(
                f"the recipe {request.target} needs data: give the name of some as `data` (GET /v1/training lists them)",
                param="data",
            )
        if request.data is not None:
            if not recipe:
                raise Refused("`data` belongs to a recipe, and the target is data itself: leave it out", param="data")
            self._data(request.data, "data")
        for change in request.changes:
            if CHANGE.fullmatch(change) is None:
                raise Refused(
                    f"'{change}' is no change of a number or a word in the network, process, method, training or sampling "
                    "of the recipe, or of a number in its data, as network.width=128 is",
                    code="invalid_value", param="changes",
                )  # fmt: skip
        return request.model_copy(update={"model": self._name(request, open_)})

    def _name(self, request: TrainRequest, open_: set[str]) -> str:
        taken = lambda name: (self.folder / name).exists() or name in open_  # noqa: E731
        if request.model is not None:
            if NAME.fullmatch(request.model) is None:
                message = "a name has letters, digits, dots, dashes and underscores, and begins with a letter or digit"
                raise Refused(message, param="model", code="invalid_value")
            if taken(request.model):
                raise Refused(f"there is a run '{request.model}' already: choose another name", status=409,
                              code="run_exists", param="model")  # fmt: skip
            return request.model
        stem = Path(request.target).stem[:58]
        return next(name for i in range(1, 10_000) if not taken(name := stem if i == 1 else f"{stem}-{i}"))

    def _data(self, name: str, param: str) -> Path:
        """The path of data. Raises `Refused` if there is none of this name."""
        parts = name.split("/")
        path = None if self.data is None else self.data.joinpath(*parts)
        if path is not None and all(NAME.fullmatch(part) for part in parts) and path.exists():
            return path
        where = "and no data is offered here (langevin serve --data FOLDER)" if self.data is None else "nor data"
        raise Refused(f"'{name}' is neither a recipe {where}: GET /v1/training lists both", status=404,
                      code="not_found", param=param)  # fmt: skip

    def command(self, body: dict[str, Any], *, again: bool = False) -> tuple[Path, list[str]]:
        """The directory of the run and the words of the command line that a request, named before, is.

        Args:
            again: it was begun before, so that a run that is there is its own.

        Raises:
            Refused: as `named`."""
        request = OF_VERB[body["verb"]].model_validate(body)
        assert request.model is not None, "it was named"
        if not isinstance(request, TrainRequest):
            path, adapted = self.runs.find(request.model)
            if adapted is not None:
                raise Refused(
                    f"'{request.model}' is a run with adapters: `langevin merge` it, and measure what that writes"
                )
            if isinstance(request, ResumeRequest):
                return path, ["resume", str(path)]
            options = {name: getattr(request, name) for name in ("count", "seeds", "steps", "sampler", "guidance")}
            return path, ["evaluate", str(path), *(f"--{k}={v}" for k, v in options.items() if v is not None)]
        path = self.folder / request.model
        if (path / "recipe.yaml").is_file():
            if not again:
                raise Refused(f"there is a run '{request.model}' already", status=409, code="run_exists")
            return path, ["resume", str(path)]
        target = request.target if request.target in shipped() else str(self._data(request.target, "target"))
        options = {"out": path, "minutes": request.minutes, "seed": request.seed,
                   "data": None if request.data is None else self._data(request.data, "data")}  # fmt: skip
        given = [f"--{name}={value}" for name, value in options.items() if value is not None]
        return path, ["train", target, *request.changes, *given]


__all__ = ["OF_VERB", "AnyRequest", "EvaluateRequest", "ResumeRequest", "TrainRequest", "Training"]
