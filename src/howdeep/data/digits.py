"""The embedded default: 1,797 handwritten digits of 8×8 pixels, real scans, no download.

Source: scikit-learn's `load_digits`, the test part of the UCI set "Optical Recognition of Handwritten
Digits".
"""

import numpy as np
import torch

from howdeep.data.encoded import BytesImages
from howdeep.data.records import Listing, Source


def read_digits() -> Source:
    """Return the digits as 8×8 grayscale images; the values 0 … 16 are scaled to 0 … 255."""
    from sklearn.datasets import load_digits  # costs a second, and only this source needs it

    values, targets = load_digits(return_X_y=True)
    pixels = np.rint(np.asarray(values) * (255 / 16)).astype(np.uint8)
    # A PGM file is a header before the bare bytes, so the digits take the same way as every other image.
    images = BytesImages([b"P5 8 8 255\n" + row.tobytes() for row in pixels])
    labels = torch.from_numpy(np.asarray(targets).astype(np.int64))
    names = [f"digits#{row}" for row in range(len(pixels))]
    return Source("digits", tuple("0123456789"), {"train": Listing(images, labels, names)})
