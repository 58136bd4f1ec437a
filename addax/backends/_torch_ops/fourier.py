"""Fourier transforms; complex numbers are a last axis of two."""

import torch

from addax.backends._torch_ops.site import Site
from addax.backends._torch_ops.table import Converters, Scalar, Tensor

OPS = Converters()


@OPS.op("DFT", since=20)
def transform(
    x: Tensor,
    length: Scalar | None = None,
    axis: Scalar | None = None,
    *,
    inverse: int = 0,
    onesided: int = 0,
    site: Site,
) -> Tensor:
    """The discrete Fourier transform along an axis."""
    rank = site.rank(0)
    number = -2 if axis is None else axis
    site.require(isinstance(number, int), "the axis is computed; it must be a constant")
    along = int(number) + rank if number < 0 else int(number)
    is_complex = site.sizes(0, x)[-1]
    known = isinstance(is_complex, int) and is_complex in (1, 2)
    site.require(known, "whether the last axis holds complex numbers is unknown")
    signal = torch.complex(x[..., 0], x[..., 1]) if is_complex == 2 else x[..., 0]
    if inverse and onesided:
        real: Tensor = torch.fft.irfft(signal, length, along)
        return real.unsqueeze(-1)
    site.require(not onesided or is_complex == 1, "half of a complex transform is not defined")
    one_way = torch.fft.rfft if onesided else torch.fft.fft
    function = torch.fft.ifft if inverse else one_way
    return torch.view_as_real(function(signal, length, along))


@OPS.op("DFT", since=17)
def transform_along_attribute(
    x: Tensor,
    length: Scalar | None = None,
    *,
    axis: int = 1,
    inverse: int = 0,
    onesided: int = 0,
    site: Site,
) -> Tensor:
    """The same along a constant axis."""
    return transform(x, length, axis, inverse=inverse, onesided=onesided, site=site)


@OPS.op("STFT", since=17)
def short_time_transform(
    signal: Tensor,
    step: Scalar,
    window: Tensor | None = None,
    length: Scalar | None = None,
    *,
    onesided: int = 1,
    site: Site,
) -> Tensor:
    """Transforms of frames `step` apart: signal[B, T, 1 or 2] to y[B, frame, frequency, 2]."""
    if length is None:
        if window is None:
            site.decline("neither a window nor a frame length is given")
        length = site.sizes(2, window)[0]
    parts = site.sizes(0, signal)[-1] if site.rank(0) == 3 else None
    if parts == 2:
        signal = torch.complex(signal[..., 0], signal[..., 1])
    elif parts is not None:
        signal = signal[..., 0]
    frames = signal.unfold(1, length, step)
    frames = frames if window is None else frames * window
    is_half = onesided and parts != 2
    function = torch.fft.rfft if is_half else torch.fft.fft
    return torch.view_as_real(function(frames))
