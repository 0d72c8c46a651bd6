"""A second server of a student, real and tiny: it says the likeliest, and is gone with the block."""

import json
import shutil
import threading
from pathlib import Path

import psutil
import pytest

from capture.db import Store
from capture.errors import UpstreamAwayError
from capture.settings import Settings, ViewSettings
from students import bases
from students.clients import Client, student_target
from students.greedy import served_greedily
from students.registry import Student, Training, register_local
from students.workshop import Stopping, Workshop
from tests.factories.examined import clock

ASKED = {"messages": [{"role": "user", "content": "where is my order?"}], "max_tokens": 24, "temperature": 0}


@pytest.fixture
def shop(examined_store: Store, client: Client, tmp_path: Path) -> Workshop:
    settings = Settings.model_validate({"data": tmp_path / "data", "students": {"first_port": 19800}})
    return Workshop(examined_store, settings, client, dict, clock)


def student_in(shop: Workshop, folder: str) -> Student:
    made = Training("ft_1", "triage", "tiny", "ds_1", folder, "w", ViewSettings(), ["f" * 16], tools=False)
    return register_local(shop.store, made, clock)


def test_it_says_the_likeliest_each_time_and_is_gone_afterwards(shop: Workshop, tmp_path: Path) -> None:
    folder = shop.data / "students" / "ft_1"
    shutil.copytree(bases.pull("tiny", tmp_path / "models"), folder)
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": True}))  # as every student's
    student = student_in(shop, "students/ft_1")
    others = set(psutil.Process().children())
    with served_greedily(shop, student) as server:
        target = student_target(shop.settings, student, server)
        said = [shop.client.ask(target, ASKED).answer.text for _ in range(8)]
        children = set(psutil.Process().children()) - others
    assert len(set(said)) == 1
    assert said[0]
    assert children
    assert not any(child.is_running() for child in children)


def test_one_that_cannot_be_loaded_says_why(shop: Workshop) -> None:
    (shop.data / "students" / "ft_1").mkdir(parents=True)
    with (
        pytest.raises(UpstreamAwayError, match="its process ended with 1"),
        served_greedily(shop, student_in(shop, "students/ft_1")),
    ):
        pass


def test_a_worker_that_stops_does_not_wait_for_it(shop: Workshop) -> None:
    (shop.data / "students" / "ft_1").mkdir(parents=True)
    shop.stopping = threading.Event()
    shop.stopping.set()
    with pytest.raises(Stopping), served_greedily(shop, student_in(shop, "students/ft_1")):
        pass
