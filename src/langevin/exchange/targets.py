"""Writing a traced graph as a file of another program, and running that file."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, assert_never

import torch
from torch import Tensor
from torch.export import ExportedProgram

from langevin.exchange.trace import quiet, refused_operator
from langevin.extras import require

Target = Literal["torch", "onnx", "openvino"]
SUFFIX: dict[Target, str] = {"torch": ".pt2", "onnx": ".onnx", "openvino": ".xml"}
OUTPUT = "out_sample"
Runner = Callable[[Mapping[str, Tensor]], Tensor]
_LARGE = 1 << 30  # bytes of weights from which ONNX keeps them in a file of their own


def require_target(target: Target) -> None:
    """Check that what a target needs is installed. Raises `ValueError` with the extra that brings it."""
    match target:
        case "torch":
            return
        case "onnx":
            for module in ("onnx", "onnxscript", "onnxruntime"):
                require(module, "--to onnx")
        case "openvino":
            for module in ("openvino", "onnx", "onnxscript"):
                require(module, "--to openvino")
        case _:
            assert_never(target)


def write_graph(program: ExportedProgram, folder: Path, name: str, target: Target, inputs: Sequence[str]) -> Path:
    """Write a graph into a folder as NAME with the suffix of the target.

    Args:
        inputs: the names of its inputs, in order.

    Raises:
        ValueError: the target has no form of an operator, with its name and its module."""
    path = folder / f"{name}{SUFFIX[target]}"
    match target:
        case "torch":
            with quiet():
                torch.export.save(_without_traces(program), path)
        case "onnx":
            _write_onnx(program, path, inputs)
        case "openvino":
            _write_openvino(program, path, inputs)
        case _:
            assert_never(target)
    return path


def _write_onnx(program: ExportedProgram, path: Path, inputs: Sequence[str]) -> None:
    size = sum(value.numel() * value.element_size() for value in program.state_dict.values())
    try:
        with quiet(), torch.no_grad():
            made = torch.onnx.export(
                program, dynamo=True, verbose=False, input_names=list(inputs), output_names=[OUTPUT]
            )
            assert made is not None
            _drop_metadata(made.model.graph)
            for function in made.model.functions.values():
                _drop_metadata(function)
            made.save(path, external_data=size > _LARGE)
    except Exception as error:
        raise refused_operator(error, program, "ONNX") from error


def _without_traces(program: ExportedProgram) -> ExportedProgram:
    """A program without the lines of source that it was traced from, which name folders of this machine."""
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            for name in ("stack_trace", "source_fn_stack", "from_node"):
                node.meta.pop(name, None)
    return program


def _drop_metadata(graph: Any) -> None:
    """Take out what an ONNX graph, or a graph within it, says of the source that it was traced from."""
    graph.metadata_props.clear()
    for value in (*graph.inputs, *graph.outputs, *getattr(graph, "initializers", {}).values()):
        value.metadata_props.clear()
    for node in graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
        for attribute in node.attributes.values():
            if attribute.type.name == "GRAPH":
                _drop_metadata(attribute.value)


def _write_openvino(program: ExportedProgram, path: Path, inputs: Sequence[str]) -> None:
    openvino = require("openvino", "--to openvino")
    between = path.with_suffix(".onnx")
    _write_onnx(program, between, inputs)
    try:
        with quiet():
            model = openvino.convert_model(str(between))
            openvino.save_model(model, str(path), compress_to_fp16=False)
    except Exception as error:
        raise refused_operator(error, program, "OpenVINO") from error
    finally:
        between.unlink(missing_ok=True)
        between.with_name(between.name + ".data").unlink(missing_ok=True)


def runner(path: Path, target: Target) -> Runner:
    """A written graph as a function of its inputs by name; on the CPU, in float32."""
    match target:
        case "torch":
            return _torch_runner(path)
        case "onnx":
            return _onnx_runner(path)
        case "openvino":
            return _openvino_runner(path)
        case _:
            assert_never(target)


def _torch_runner(path: Path) -> Runner:
    with quiet():
        module = torch.export.load(path).module()

    def call(values: Mapping[str, Tensor]) -> Tensor:
        more = {name: value for name, value in values.items() if name not in ("sample", "timestep")}
        with torch.no_grad():
            return module(*(values[name] for name in ("sample", "timestep") if name in values), **more)

    return call


def _onnx_runner(path: Path) -> Runner:
    onnxruntime = require("onnxruntime", "--to onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def call(values: Mapping[str, Tensor]) -> Tensor:
        return torch.from_numpy(session.run([OUTPUT], {name: value.numpy() for name, value in values.items()})[0])

    return call


def _openvino_runner(path: Path) -> Runner:
    openvino = require("openvino", "--to openvino")
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino.compile_model(str(path), "CPU", settings)

    def call(values: Mapping[str, Tensor]) -> Tensor:
        found = compiled({name: value.numpy() for name, value in values.items()})
        return torch.from_numpy(next(iter(found.values())).copy())

    return call
