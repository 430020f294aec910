"""Everything here needs a CUDA device; without one each test is skipped, and says so.

On a machine with no more than PyTorch, NumPy, safetensors and pytest with its timeouts:

    PYTHONPATH=server:protocol python3 -m pytest -q tests/gpu --confcutdir=tests/gpu \\
        -W ignore::pytest.PytestConfigWarning
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch", reason="the CosyVoice engine needs torch")


def has_cuda() -> bool:
    """Whether there is a device; PyTorch's warnings on why there is none are no failures of a test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bool(torch.cuda.is_available())


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips where there is no device."""
    if not has_cuda():
        pytest.skip(f"no CUDA device: PyTorch {torch.__version__} sees none")


@pytest.fixture(autouse=True)
def _float32_is_float32() -> Iterator[None]:
    """TF32 keeps 10 of the 23 bits of a fraction: what the tolerances allow is far less."""
    matmul, convolution = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, convolution
