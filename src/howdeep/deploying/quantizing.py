"""A network of ONNX with weights and activations of 8 bits: onnxruntime's static quantisation.

Pairs of QuantizeLinear and DequantizeLinear stand around every convolution and matrix product, which onnxruntime and
OpenVINO run as integers. Weights have a scale per output channel. Activations have one per tensor: the range that they
take on the calibration images.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from howdeep.util.errors import UserError, reason

CALIBRATION = 256
"""Images by which the ranges of activations are set, at most."""


def quantised(content: bytes, images: Iterable[Tensor]) -> bytes:
    """Return a network with weights and activations of 8 bits; its metadata stay.

    Args:
        content: The network as ONNX.
        images: Batches of the calibration, each of shape (batch, channels, height, width), on the host.

    Raises:
        UserError: The network cannot be quantised.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter(images)

        def get_next(self) -> dict | None:
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch.contiguous().numpy()}

    said = {entry.key: entry.value for entry in onnx.load_model_from_string(content).metadata_props}
    with tempfile.TemporaryDirectory(prefix="howdeep-") as folder:
        given, simple, written = (Path(folder) / f"{name}.onnx" for name in ("given", "simple", "int8"))
        given.write_bytes(content)
        try:
            quant_pre_process(given, simple, skip_symbolic_shape=True)
            quantize_static(
                simple,
                written,
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                reduce_range=True,  # 7 bits of a weight: sums of products overflow on processors without VNNI
            )
        except Exception as error:  # onnxruntime raises its own, and those of onnx
            raise UserError(f"the network cannot be written in int8: {reason(error)}") from error
        small = onnx.load_model(written)
    onnx.helper.set_model_props(small, said)
    return small.SerializeToString()
