"""docker-compose.yml cannot be run here; this keeps it sound."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from capture.settings import GatewaySettings, load
from console.cli import run
from console.supervise import processes

ROOT = Path(__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = ("gateway", "worker", "students", "console")


def test_every_process_is_there_with_a_health_check() -> None:
    assert set(COMPOSE["services"]) == {*OURS, "postgres"}
    for service in COMPOSE["services"].values():
        assert service["healthcheck"]["test"]


@pytest.mark.parametrize("name", OURS)
def test_a_service_is_bounded_and_runs_a_command_that_exists(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["user"] != "0:0"
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"]
    words = [word for word in service["command"] if not word.startswith("-") and not word.isdigit()]
    assert run([*words, "--help"]) == 0


def test_published_ports_need_keys() -> None:
    gateway = COMPOSE["services"]["gateway"]
    assert gateway["environment"]["STILLHOUSE_GATEWAY__KEYS"] == "required"
    (console,) = COMPOSE["services"]["console"]["ports"]
    assert console.startswith("127.0.0.1:")
    (metrics,) = [port for port in gateway["ports"] if port.endswith(":9464")]
    assert metrics.startswith("127.0.0.1:")
    assert gateway["environment"]["STILLHOUSE_GATEWAY__METRICS_HOST"] == "0.0.0.0"


def test_volumes_are_named_and_postgres_is_a_profile() -> None:
    assert set(COMPOSE["volumes"]) == {"data", "postgres"}
    assert COMPOSE["services"]["postgres"]["profiles"] == ["postgres"]


def test_a_container_has_as_long_to_stop_as_its_process_takes() -> None:
    """Streams may end, and a training be put down, before Docker kills what is left."""
    grace = {name: COMPOSE["services"][name].get("stop_grace_period", "10s").removesuffix("s") for name in OURS}
    assert float(grace["gateway"]) > GatewaySettings().drain_s
    for process in processes(load(None, {}), None):
        if process.name != "console":  # it holds nothing
            assert float(grace[process.name]) >= process.stop_s
