"""The counters that reconcile, on the metrics port: of spool and store together, and while the store is away."""

from pathlib import Path

from capture import lineage
from gateway.accounts import FRESH_S, Accounts
from gateway.metrics import exposition
from tests.factories.clock import Clock
from tests.factories.exchanges import new_exchange
from tests.factories.spooled import Rig, put


def said(accounts: Accounts) -> dict[str, float]:
    """Outcome → exchanges of the task triage."""
    lines = exposition([accounts.numbers()]).decode().splitlines()
    mine = [line for line in lines if line.startswith("stillhouse_exchanges{") and 'task="triage"' in line]
    return {line.split('outcome="')[1].split('"')[0]: float(line.rpartition(" ")[2]) for line in mine}


def test_what_became_of_all_that_was_seen(tmp_path: Path, clock: Clock) -> None:
    rig = Rig(tmp_path)
    accounts = Accounts(rig.store, rig.settings.spool_folder, clock)
    spool = rig.spool(limit_bytes=4000)
    first, *_ = put(spool, new_exchange(), new_exchange(), new_exchange())
    assert not spool.append(bytes(4000), "triage")
    spool.opt_out("triage")
    before = said(accounts)
    assert (before["seen"], before["pending"], before["opted_out"], before["dropped:spool_full"]) == (5, 3, 1, 1)
    rig.ship_all()
    lineage.erase(rig.store, [first], None, "ann", lambda: 1.0)
    assert said(accounts) == before  # fresh enough
    clock.now += FRESH_S
    after = said(accounts)
    assert (after["seen"], after["pending"], after["stored"], after["erased"]) == (5, 0, 2, 1)
    assert after.pop("seen") == sum(after.values()) - after["expired"]
    rig.close()


def test_while_the_store_is_away_the_last_ones_stay(tmp_path: Path, clock: Clock) -> None:
    rig = Rig(tmp_path)
    put(rig.spool(), new_exchange())
    accounts = Accounts(rig.store, rig.settings.spool_folder, clock)
    before = said(accounts)
    assert before["seen"] == 1
    file = tmp_path / "test.db"
    rig.store.close()
    file.unlink()
    file.mkdir()
    clock.now += FRESH_S
    assert said(accounts) == before
    rig.close()
