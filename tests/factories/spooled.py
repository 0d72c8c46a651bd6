"""A data folder with spools, a store and a shipper between them."""

from pathlib import Path
from typing import Any

from sqlalchemy import select

from capture.db import Store
from capture.exchange import Answer, Exchange, encode
from capture.reconcile import Balance, reconcile
from capture.settings import PriceSettings, Settings, TaskSettings, TeacherSettings
from capture.ship import Shipper
from capture.spool import Spool
from capture.tables import exchanges
from tests.factories.store import new_store

TEACHER = TeacherSettings(upstream="openai", model="gpt-4.1")


class Rig:
    """A data folder with its store, spools and shipper; `told` is what `on_stored` got."""

    def __init__(self, folder: Path, tasks: dict[str, TaskSettings] | None = None, store: Store | None = None) -> None:
        self.settings = Settings(data=folder, prices={"priced": PriceSettings(input=1, output=1)})
        self.store = store or new_store(folder)
        self.told: list[tuple[Exchange, dict[str, Any], Answer, str | None, float]] = []
        self.tasks = tasks or {"triage": TaskSettings(teacher=TEACHER, label="/category")}
        self.spools: list[Spool] = []

    def spool(self, **options: Any) -> Spool:
        spool = Spool(self.settings.spool_folder, fsync="never", **options)
        self.spools.append(spool)
        return spool

    def shipper(self) -> Shipper:
        return Shipper(self.store, self.settings, self.tasks, lambda *told: self.told.append(told), lambda: 1000.0)

    def ship_all(self, limit: int = 500) -> int:
        """Ships until nothing moves; returns how many records were read."""
        shipper = self.shipper()
        total = 0
        while read := shipper.ship_once(limit):
            total += read
        shipper.ship_once(limit)
        return total

    def ids(self) -> list[str]:
        with self.store.read() as connection:
            return list(connection.execute(select(exchanges.c.id).order_by(exchanges.c.id)).scalars())

    def balance(self) -> dict[str, Balance]:
        return reconcile(self.store, self.settings.spool_folder)

    def close(self) -> None:
        for spool in self.spools:
            spool.close()
        self.store.close()


def put(spool: Spool, *found: Exchange) -> list[str]:
    for exchange in found:
        assert spool.append(encode(exchange), exchange.task)
    return [exchange.id for exchange in found]
