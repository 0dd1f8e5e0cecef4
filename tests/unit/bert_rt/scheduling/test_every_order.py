"""Whatever happens in whichever order, no window of a queue is lost or computed twice."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from bert_rt.errors import OverloadedError
from bert_rt.scheduling.batches import Batch
from bert_rt.scheduling.requests import Asked, Request
from tests.unit.bert_rt.scheduling.simulation import Simulation, windows

_STEPS = (
    "ask",
    "defer",
    "take",
    "begin",
    "join",
    "leave",
    "part",
    "end",
    "back",
    "cancel",
    "wait",
)


@settings(max_examples=300)
@given(data=st.data(), is_packed=st.booleans())
def test_every_window_is_computed_once_or_its_request_has_an_error(
    data: st.DataObject, is_packed: bool
) -> None:
    simulation = Simulation(max_batch_tokens=64, is_packed=is_packed, max_queue_tokens=1500)
    requests: list[Request] = []
    deferred: list[Request] = []
    running: Batch | None = None
    steps = st.sampled_from(_STEPS)
    for step in data.draw(st.lists(steps, max_size=60)):
        asked = Asked(
            priority=data.draw(st.sampled_from([0, 0, 1, 9])),
            client=data.draw(st.sampled_from([None, None, "a", "b"])),
            deadline_s=simulation.now + data.draw(st.sampled_from([float("inf"), 0.01, 0.05])),
        )
        sizes = data.draw(st.lists(st.integers(1, 64), max_size=6))
        try:
            if step in ("ask", "defer"):
                is_deferred = step == "defer"
                request = simulation.queue.submit(
                    sum(sizes) // 2, simulation.now, asked, is_deferred=is_deferred
                )
                requests.append(request)
                if not is_deferred:
                    simulation.queue.fill(request, windows(*sizes))
        except OverloadedError:
            continue
        if step == "take":
            deferred = simulation.queue.take_deferred(simulation.now)
            for request in deferred:
                simulation.queue.fill(request, windows(*sizes))
        elif step == "begin" and running is None:
            running = simulation.begin()
            if running is not None and data.draw(st.booleans()):
                simulation.poison.add(next(reversed(running.windows.values()))[0])
        elif step == "join" and running is not None:
            most = data.draw(st.integers(0, 3))
            before = list(running.windows)
            joined = simulation.queue.join(running, simulation.now, most)
            assert len(joined) <= most
            assert len(running.windows) == len(before) + len(joined)
        elif step == "leave" and running is not None:
            gone = simulation.queue.leave(running, simulation.now)
            assert not {*gone} & {*running.windows}
            assert not any(request.is_done for request, _ in running.windows.values())
            if not running.windows:
                simulation.queue.complete(running, {}, simulation.now)
                running = None
        elif step == "part" and running is not None:
            done = data.draw(st.sets(st.sampled_from([*running.windows])))
            simulation.end(running, done)
            running = running if simulation.queue.running is not None else None
        elif step == "end" and running is not None:
            simulation.end(running)
            running = None
        elif step == "back" and running is not None:
            simulation.queue.put_back(running)
            running = None
        elif step == "cancel" and requests:
            simulation.queue.cancel(data.draw(st.sampled_from(requests)))
        elif step == "wait":
            simulation.now += 0.005
    if running is not None:
        simulation.end(running)
    while not simulation.queue.is_empty:
        for request in simulation.queue.take_deferred(simulation.now):
            simulation.queue.fill(request, windows(7, 9))
        simulation.step()
    for request in requests:
        assert request.is_done
        if request.error is None:
            got = [int(output["n"][0]) for output in request.result()]
            assert got == list(range(len(request.windows)))
    stats = simulation.queue.stats(simulation.now)
    assert stats.num_requests == stats.num_tokens == 0
    assert simulation.queue._ledger.num_left == 0
    assert not simulation.queue._ranking._flows
    for lengths in simulation.lengths():
        assert (sum(lengths) if is_packed else max(lengths) * len(lengths)) <= 64
