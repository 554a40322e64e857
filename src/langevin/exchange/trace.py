"""Tracing a module of tensors, and naming what cannot be traced or translated."""

import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from langevin.networks.fused import twice_differentiable

_OPERATOR = re.compile(r"(?:aten|prims|higher_order|torchvision|_c10d_functional)[.:]+\w+(?:\.\w+)?")


@contextmanager
def quiet() -> Iterator[None]:
    """Without the remarks of exporters, which are about their own code."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export", "torch._dynamo")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=False):
            one.setLevel(level)


def traced(module: nn.Module, first: Mapping[str, Tensor], more: Mapping[str, Tensor]) -> ExportedProgram:
    """A module traced for any number of samples.

    Args:
        first: examples of its first inputs, of two samples each, by name.
        more: of its further inputs, which are given by name.

    Raises:
        ValueError: an operation that depends on the values of data."""
    batch = Dim("batch", min=1)
    shapes: dict[str, Any] = {name: {0: batch} for name in (*first, *more)}
    try:
        with torch.no_grad(), twice_differentiable(), quiet():
            return torch.export.export(module, tuple(first.values()), dict(more), dynamic_shapes=shapes, strict=False)
    except Exception as error:
        raise ValueError(
            f"the network cannot be traced, as a part of it depends on the values of its data: {_first_line(error)}"
        ) from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:300]


def as_module(program: ExportedProgram) -> nn.Module:
    """A traced program as a module that can be traced again as a part."""
    return program.module(check_guards=False)


def refused_operator(error: BaseException, program: ExportedProgram, target: str) -> ValueError:
    """The error for an operator that a target cannot express: which one, in which module."""
    found = None
    seen: BaseException | None = error
    while seen is not None and found is None:
        found = next(iter(_OPERATOR.findall(str(seen))), None)
        seen = seen.__cause__ or seen.__context__
    if found is None:
        return ValueError(f"{target} cannot express this network: {_first_line(error)}")
    return ValueError(
        f"{target} cannot express the operator {found}{_place(program, found)}: take another network, or --to torch"
    )


def _place(program: ExportedProgram, operator: str) -> str:
    """Where a program has an operator, in words."""
    wanted = operator.replace("::", ".").split(".")[1]
    for node in program.graph.nodes:
        if node.op == "call_function" and wanted in str(node.target):
            stack = list((node.meta.get("nn_module_stack") or {}).values())
            if stack:
                path, kind = stack[-1]
                name = str(path).removeprefix("network.") or "the network itself"
                return f", in {name} ({str(kind).rpartition('.')[2].strip(chr(39) + '>')})"
    return ""
