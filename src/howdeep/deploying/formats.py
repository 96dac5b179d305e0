"""Kinds of files that hold a network for other programs: how a chain becomes one, and how it is run."""

import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule

from howdeep.chain import Chain
from howdeep.convert.trace import BATCH, program_of
from howdeep.util.errors import UserError, reason

Runner = Callable[[Tensor], Tensor]
"""Images to logits."""
LARGEST_ONNX = 2**31 - 2**24
"""Bytes of weights that fit into one ONNX file, which is at most 2 GiB."""
METADATA = "howdeep.json"
"""Name of the metadata among the extra files of a .pt2."""


def portable_program(chain: Chain, shape: Iterable[int]) -> ExportedProgram:
    """Return a chain in evaluation mode as a program of torch.export that can be handed on, for a batch of any size.

    Args:
        chain: The network; its weights are laid out anew.
        shape: Channels, height and width of the images.

    Raises:
        UserError: It cannot be traced.
    """
    # torch.export's files hold contiguous tensors, and would take others for parts of larger ones.
    for tensor in (*chain.parameters(), *chain.buffers()):
        tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
    program = program_of(chain, torch.zeros(BATCH, *shape))
    # The lines of code behind every operator: a file that is handed on holds no paths of this machine.
    for part in program.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, GraphModule) else ():
            node.meta.pop("stack_trace", None)
    return program


@dataclass(frozen=True)
class Content:
    """What a file holds; see :class:`Export`."""

    data: bytes
    opset: int | None
    norms_left: int


@dataclass(frozen=True)
class Format:
    """A kind of file."""

    runtime: str
    """The package that runs it."""
    serialise: Callable[[ExportedProgram, dict, int | None], Content]
    """Program, metadata and the opset that was asked for to what the file holds."""
    load: Callable[[Path, int], Runner]
    """File, and the threads that it may use where it does not use torch's, to what it computes."""


def onnx_content(program: ExportedProgram, metadata: dict, opset: int | None) -> Content:
    """Return a program as ONNX.

    Args:
        program: The network.
        metadata: What the file says of itself.
        opset: Version of the operators; None is torch's choice.

    Raises:
        UserError: It is too large, or has an operator that ONNX lacks.
    """
    import onnx

    weights = sum(tensor.nbytes for tensor in program.state_dict.values())
    if weights > LARGEST_ONNX:
        raise UserError(f"{weights:,} bytes of weights do not fit into one ONNX file, at most 2 GiB: export to .pt2")
    try:
        exported = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            opset_version=opset,
            external_data=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: "batch"},),
        )
    except Exception as error:  # torch.onnx raises its own, and those of onnxscript
        raise UserError(f"the network cannot be written as ONNX: {reason(error)}") from error
    assert exported is not None, "with dynamo=True there is a program"
    model = exported.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # notes of the exporter, more bytes than a small network has weights
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in metadata.items()})
    left = sum(node.op_type == "BatchNormalization" for node in model.graph.node)
    return Content(model.SerializeToString(), model.opset_import[0].version, left)


def onnx_runner(source: Path | bytes, threads: int) -> Runner:
    """Return what ONNX computes in onnxruntime, on the host."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(source, settings, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def openvino_runner(source: Path | bytes, threads: int) -> Runner:
    """Return what ONNX computes in OpenVINO, on the host."""
    import openvino  # pyright: ignore[reportMissingImports]

    # In float32, as the others: by itself it takes bfloat16 where the processor has it.
    how = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    # A thread that is bound to one core waits where another program holds it: a pass took 14 ms instead of 1.3.
    how["ENABLE_CPU_PINNING"] = False
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(source), "CPU", how)
    return lambda images: torch.from_numpy(compiled(images.numpy())[0])


RUNNERS = {"onnxruntime": onnx_runner, "openvino": openvino_runner}
"""What runs ONNX, a file or its bytes, in so many threads."""


def _torch_bytes(program: ExportedProgram, metadata: dict, opset: int | None) -> Content:
    written = io.BytesIO()
    torch.export.save(program, written, extra_files={METADATA: json.dumps(metadata)})
    left = sum(node.target is torch.ops.aten.batch_norm.default for node in program.graph.nodes)
    return Content(written.getvalue(), None, left)


def _torch_runner(path: Path, threads: int) -> Runner:
    return torch.export.load(path).module()


FORMATS = {
    "onnx": Format("onnxruntime", onnx_content, onnx_runner),
    "torch": Format("torch", _torch_bytes, _torch_runner),
}
