"""A paid fine-tune is started once: the worker is killed by -9 around every call that matters, and started again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from capture.db import open_store
from capture.migrations import upgrade
from capture.settings import Settings, load
from students.job_files import Upload, folder_of, keep
from students.jobs import Asked, Client, create_job
from students.tables import fine_tunes
from tests.fakes.tuning_server import TuningServer

CONFIG = """
[upstreams.far]
base_url = "{url}"
worker_key_env = "TUNING_KEY"
training_allowed = true
fine_tuning = ["small-*"]
"""
DEATHS = [("before", "upload"), ("after", "upload"), ("before", "create"), ("after", "create"), ("after", "job")]
WITHIN_S = 200
LINE = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}


class Reaper:
    """Kills the worker at each of the moments once."""

    def __init__(self) -> None:
        self.left = list(DEATHS)
        self.worker: subprocess.Popen[bytes] | None = None

    def __call__(self, moment: str, step: str) -> bool:
        if self.worker is None or self.left[:1] != [(moment, step)]:
            return False
        self.left.pop(0)
        os.kill(self.worker.pid, signal.SIGKILL)
        self.worker.wait()
        return True


def queued(settings: Settings) -> Callable[[], Any]:
    """A job in the store; how its row is read."""
    store = open_store(settings.store_url)
    upgrade(store)
    path = folder_of(settings.data) / "upload.new"
    path.parent.mkdir(parents=True)
    path.write_text((json.dumps(LINE) + "\n") * 12)
    file = keep(store, settings.data, Upload(path, "f", None), settings.fine_tuning, time.time)
    job = create_job(store, settings, {}, Asked("small-1", file), Client(), time.time)

    def row() -> Any:
        with store.read() as connection:
            return connection.execute(select(fine_tunes).where(fine_tunes.c.id == job)).one()

    return row


@pytest.mark.timeout(300)
def test_one_job_however_often_the_worker_dies(tmp_path: Path) -> None:
    reaper = Reaper()
    with TuningServer() as server:
        server.statuses, server.on_call = ["succeeded"], reaper
        config = tmp_path / "stillhouse.toml"
        config.write_text(CONFIG.format(url=server.url))
        row = queued(load(config, {}, data=tmp_path / "data"))
        line = [sys.executable, "-m", "students.worker", "--config", str(config), "--data", str(tmp_path / "data")]
        deadline, starts = time.monotonic() + WITHIN_S, 0
        with (tmp_path / "worker.log").open("ab") as log:
            while row().state not in ("succeeded", "failed", "cancelled"):
                if reaper.worker is None or reaper.worker.poll() is not None:
                    reaper.worker = subprocess.Popen(
                        line, stdout=log, stderr=log, env={**os.environ, "TUNING_KEY": "sk-tuning"}
                    )
                    starts += 1
                assert time.monotonic() < deadline, (tmp_path / "worker.log").read_text()[-3000:]
                time.sleep(0.05)
        if reaper.worker is not None:
            reaper.worker.terminate()
            reaper.worker.wait(60)
    assert (row().state, row().error) == ("succeeded", None)
    assert (reaper.left, starts) == ([], len(DEATHS) + 1)
    assert (len(server.jobs), len(server.files)) == (1, 1)
