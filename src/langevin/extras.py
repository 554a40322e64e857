"""Optional dependencies: imported where they are used, and a missing one is one line that names its extra.

`pyproject.toml` says which packages an extra brings; a test holds `EXTRAS` to it.
"""

import importlib
from types import ModuleType

EXTRAS = {
    "pyarrow": ("pyarrow", "data"),
    "sklearn": ("scikit-learn", "data"),
    "tokenizers": ("tokenizers", "text"),
    "rapidfuzz": ("rapidfuzz", "text"),
    "soundfile": ("soundfile", "speech"),
    "soxr": ("soxr", "speech"),
    "pocketsphinx": ("pocketsphinx", "recogniser"),
    "mido": ("mido", "music"),
    "av": ("av", "video"),
    "tensorboard": ("tensorboard", "track"),
    "trackio": ("trackio", "trackio"),
    "huggingface_hub": ("huggingface-hub", "hub"),
    "ray": ("ray", "ray"),
    "fastapi": ("fastapi", "serve"),
    "starlette": ("starlette", "serve"),
    "uvicorn": ("uvicorn", "serve"),
    "python_multipart": ("python-multipart", "serve"),
    "sqlalchemy": ("sqlalchemy", "serve"),
    "prometheus_client": ("prometheus-client", "serve"),
    "c2pa": ("c2pa-python", "provenance"),
    "onnx": ("onnx", "export"),
    "onnxscript": ("onnxscript", "export"),
    "onnxruntime": ("onnxruntime", "export"),
    "openvino": ("openvino", "openvino"),
    "diffusers": ("diffusers", "diffusers"),
    "jax": ("jax", "jax"),
}  # by the name that is imported: the package and the extra that brings it


def installed(module: str) -> bool:
    """Whether an optional package can be imported."""
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def require(module: str, what: str) -> ModuleType:
    """The module of an optional package; `what` is the feature that needs it, as the user asked for it.

    Raises:
        ValueError: it is not installed, or its import fails."""
    root = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package, extra = EXTRAS[root]
        absent = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == root
        why = "is not installed" if absent else f"cannot be imported ({str(error).partition(chr(10))[0]})"
        raise ValueError(f"{what} needs {package}, which {why}: pip install 'langevin[{extra}]'") from error
