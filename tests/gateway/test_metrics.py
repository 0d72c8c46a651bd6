import urllib.error
import urllib.request
from pathlib import Path

import httpx2
import msgspec
import pytest

from capture.errors import OperationError
from capture.spool import SpoolDepth
from gateway.breaker import Breakers
from gateway.lag import LagMeter
from gateway.metrics import Numbers, circuits, counted, exposition, histograms, looped, measured, without_gauges
from gateway.metrics_server import MetricsServer
from gateway.metrics_server import numbers_of as numbers_of_app
from gateway.relay.counters import Counters
from gateway.run_folder import RunFolder
from gateway.tally import Tally
from tests.factories.routing import settings_of
from tests.fakes.chatting import chatting
from tests.fakes.gateway import GatewayServer
from tests.fakes.processes import wait_until
from tests.fakes.upstream import ScriptedUpstream


def numbers_of(requests: int, lag_ms: float = 1.0, first_ms: float = 3.0) -> Numbers:
    counters, tally = Counters(), Tally()
    for _ in range(requests):
        counters.request("chat.completions", 200, "teacher")
        counters.first_ms.add(first_ms)
    counters.error("upstream_unreachable")
    counters.in_flight = 2
    tally.add("triage", "student", None)
    tally.add("triage", None, "n")
    samples = counted(counters, tally, [(("triage", "seen"), requests)])
    lag = LagMeter()
    lag.note(lag_ms, tasks=3)
    gauges = measured(counters, SpoolDepth(10, 1), 0.5, False)
    return Numbers((*samples, *gauges, *looped(lag)), histograms(counters, lag))


def lines(*processes: Numbers) -> set[str]:
    return set(exposition(processes).decode().splitlines())


def test_processes_are_summed_and_the_worst_of_the_worst_is_shown() -> None:
    found = lines(numbers_of(3, lag_ms=1), numbers_of(4, lag_ms=7))
    assert {
        'stillhouse_requests_total{arm="teacher",route="chat.completions",status="2xx"} 7.0',
        'stillhouse_errors_total{cause="upstream_unreachable"} 2.0',
        'stillhouse_assignments_total{assignment="student",task="triage"} 2.0',
        'stillhouse_not_student_total{reason="n",task="triage"} 2.0',
        'stillhouse_capture_total{outcome="seen",task="triage"} 7.0',
        "stillhouse_in_flight 4.0",
        "stillhouse_spool_bytes 20.0",
        "stillhouse_event_loop_lag_ms 7.0",
        'stillhouse_lag_ms_bucket{le="5.0"} 1.0',
        'stillhouse_lag_ms_bucket{le="10.0"} 2.0',
        "stillhouse_tasks 6.0",
        'stillhouse_first_byte_ms_bucket{le="2.0"} 0.0',
        'stillhouse_first_byte_ms_bucket{le="5.0"} 7.0',
        'stillhouse_first_byte_ms_bucket{le="+Inf"} 7.0',
        "stillhouse_first_byte_ms_sum 21.0",
    } <= found


def test_circuits_are_shown_with_the_worst_of_their_states() -> None:
    well, ill = Breakers({}, lambda: 1.0), Breakers({}, lambda: 1.0)
    well.observe("openai", True)
    for _ in range(5):
        ill.observe("openai", False)
    found = lines(*(Numbers(tuple(circuits(one))) for one in (well, ill)))
    assert {
        'stillhouse_circuit_state{upstream="openai"} 2.0',
        'stillhouse_circuit_opened_total{upstream="openai"} 1.0',
    } <= found


def test_a_slow_one_is_in_the_last_bucket_alone() -> None:
    found = lines(numbers_of(1, first_ms=1e9))
    assert 'stillhouse_first_byte_ms_bucket{le="60000.0"} 0.0' in found
    assert 'stillhouse_first_byte_ms_bucket{le="+Inf"} 1.0' in found


def test_without_a_process_there_are_names_alone() -> None:
    assert "stillhouse_first_byte_ms_count 0.0" in lines()


def test_of_a_process_that_ended_the_counters_stay() -> None:
    found = lines(without_gauges(numbers_of(3)))
    assert "stillhouse_in_flight 2.0" not in found
    assert 'stillhouse_requests_total{arm="teacher",route="chat.completions",status="2xx"} 3.0' in found


def test_the_folder_tells_the_living_from_the_dead(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    (folder.path / "999999999.numbers").write_bytes(msgspec.msgpack.encode(numbers_of(2)))
    (folder.path / "1.numbers").write_bytes(msgspec.msgpack.encode(numbers_of(3)))
    (folder.path / "2.numbers").write_bytes(b"torn")
    found = lines(*folder.read())
    assert "stillhouse_in_flight 2.0" in found
    assert 'stillhouse_capture_total{outcome="seen",task="triage"} 5.0' in found
    folder.close()
    assert not folder.path.exists()


def test_a_folder_begun_anew_has_nothing_of_a_killed_gateway(tmp_path: Path) -> None:
    killed = RunFolder.anew(tmp_path / "run")
    (killed.path / "1.numbers").write_bytes(msgspec.msgpack.encode(numbers_of(2)))
    assert len(RunFolder(killed.path).read()) == 1  # as its other processes see it
    assert RunFolder.anew(killed.path).read() == []


@pytest.mark.parametrize("host", ["127.0.0.2", "::1"])
def test_the_port_is_on_the_address_that_is_set(host: str) -> None:
    with MetricsServer(0, list, host) as server:
        with httpx2.Client(base_url=f"http://{f'[{host}]' if ':' in host else host}:{server.port}") as client:
            assert client.get("/metrics").status_code == 200
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"http://127.0.0.1:{server.port}/metrics")


def test_the_port_serves_them_and_nothing_else() -> None:
    with MetricsServer(0, lambda: [numbers_of(1)]) as server:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as reply:
            assert reply.headers["content-type"].startswith("text/plain")
            assert b"stillhouse_in_flight 2.0" in reply.read()
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/", timeout=10)
        refused.value.close()
        with pytest.raises(OperationError, match="metrics_port"):
            MetricsServer(server.port, list)


def test_a_gateway_tells_how_long_each_part_took(tmp_path: Path) -> None:
    with ScriptedUpstream(chatting("hello")) as upstream:
        config = f'[upstreams.a]\nbase_url = "http://127.0.0.1:{upstream.port}/v1"\n'
        with GatewayServer(settings_of(tmp_path, config)) as gateway:
            for stream in (False, True):
                body = {"model": "m", "messages": [], "stream": stream}
                assert httpx2.post(f"{gateway.url}/chat/completions", json=body).status_code == 200
            wait_until(lambda: gateway.app.state.lag.tasks > 0)
            found = lines(numbers_of_app(gateway.app))
    assert {
        "stillhouse_first_byte_ms_count 2.0",
        "stillhouse_first_event_ms_count 1.0",
        "stillhouse_added_ms_count 1.0",  # of the second: the first had to connect
        "stillhouse_upstream_ms_count 2.0",
        "stillhouse_in_flight 0.0",
        'stillhouse_requests_total{arm="teacher",route="chat.completions",status="2xx"} 2.0',
        'stillhouse_capture_total{outcome="seen",task=""} 2.0',
    } <= found
