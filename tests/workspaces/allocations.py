"""What torch has allocated at most while a piece of code ran, as its allocator reports it."""

from __future__ import annotations

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile


def peak_bytes(body: Callable[[], object]) -> int:
    """Bytes of tensors alive at the worst moment, above those alive before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        body()
    assert record.profiler is not None and record.profiler.kineto_results is not None
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        highest = max(highest, live)
    return highest
