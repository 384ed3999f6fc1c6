"""What the wing of hardware answers: what a kind of device holds, computes and moves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceClass:
    """One kind of hardware, as the time model needs it. Rates are peaks; `efficiency` is the share achieved."""

    name: str
    family: str
    installed_memory_bytes: int
    usable_memory_bytes: int
    peak_flops_per_second: float
    memory_bytes_per_second: float
    efficiency: float
    operator_overhead_s: float
    downlink_bits_per_second: float
    uplink_bits_per_second: float
    convolution_efficiency: float | None = None
    """Share of the peak that convolutions reach, where it is not `efficiency`; clever algorithms may go above 1."""
    bandwidth_efficiency: float | None = None
    """Bytes that operators move per second, over the bandwidth; the whole of it where it is None."""
    grouped_bandwidth_efficiency: float | None = None
    """The same of grouped convolutions, depthwise ones among them, where it is another."""
    pointwise_efficiency: float | None = None
    """Share of the peak that convolutions of one point reach forward, where it is not `convolution_efficiency`."""
    grouped_backward_efficiency: float | None = None
    """Share of the peak that the gradients of grouped convolutions reach; bound by traffic as these where it is None.

    Of traffic they then have `bandwidth_efficiency`.
    """
    loading_bytes_per_second: float | None = None
    """Bytes of a batch's inputs that are read, decoded and laid out per second; loading is not charged where None."""
