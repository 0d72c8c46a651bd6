"""Everything bad at once, from the spool to a dataset: each is kept or counted for what it is, and the rest goes on."""

from pathlib import Path
from typing import Any

import pytest

from capture import datasets
from capture.datasets import Filters
from capture.errors import RefusedError
from capture.exchange import Exchange
from capture.graders.means import Means
from capture.scoring import score_new
from capture.settings import DatasetSettings, GraderSettings
from capture.traffic import load_exchange
from tests.factories.datasets import LATER, UPSTREAMS, task_of
from tests.factories.exchanges import chat_request, completion, new_exchange
from tests.factories.spooled import Rig, put

LARGE = "lorem ipsum dolor " * 2_900_000  # 52 MB
TASK = task_of(
    dataset=DatasetSettings(minimum_rows=1, holdout=0.0001),
    graders={"calls": GraderSettings(type="tool_calls", against="truth")},
)


@pytest.fixture
def rig(tmp_path: Path) -> Any:
    rig = Rig(tmp_path, {"triage": TASK})
    yield rig
    rig.close()


def of_turn(*parts: dict[str, Any]) -> Exchange:
    return new_exchange(chat_request(messages=[{"role": "user", "content": list(parts)}]))


def calling(text: str, arguments: str) -> Exchange:
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    return new_exchange(chat_request(text), completion(choices=[choice]))


def bad_ones() -> dict[str, Exchange]:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0KGgo" * 1000}}
    sound = {"type": "input_audio", "input_audio": {"data": "UklGR" * 1000, "format": "wav"}}
    odd = [None, 3, {"role": "user"}, {"content": {"a": 1}}]
    return {
        "large": new_exchange(chat_request(LARGE)),
        "cut": new_exchange(request=b'{"messages": [{"role": "us', response=b"<html>502</html>"),
        "no text": new_exchange(request=b'{"model": "\xff\xfe"}', response=b"\x00\x01\x02"),
        "picture": of_turn(picture, {"type": "text", "text": "what is it?"}),
        "sound": of_turn(sound),
        "broken arguments": calling("find it", '{"q": "unfinis'),
        "no arguments": calling("find that", ""),
        "no messages": new_exchange({"model": "m", "messages": "hello"}),
        "odd turns": new_exchange({"model": "m", "messages": odd}),
        "deep": new_exchange(request=b'{"a":' * 5000 + b"1" + b"}" * 5000),
    }


def built(rig: Rig, **filters: Any) -> datasets.Card:
    dataset_id = datasets.queue_build(rig.store, "triage", Filters(**filters), lambda: LATER)
    return datasets.build(rig.store, dataset_id, rig.tasks, UPSTREAMS, lambda: LATER)


def good_one(word: str) -> Exchange:
    return new_exchange(chat_request(f"question {word} {word * 3}"))


@pytest.mark.timeout(300)
def test_all_of_it_at_once(rig: Rig) -> None:
    bad, good = bad_ones(), [good_one(word) for word in ("one", "two", "three")]
    spool = rig.spool(segment_bytes=8_000_000)
    ids = put(spool, good[0], *bad.values(), good[1])
    assert spool.append(b"\x93no exchange", "triage")
    ids += put(spool, good[2])
    spool.close()
    rig.ship_all()
    assert rig.ids() == sorted(ids)
    balance = rig.balance()["triage"]
    assert (balance.stored, balance.difference, balance.dropped) == (len(ids), 0, {"damaged": 1})
    assert len(load_exchange(rig.store, bad["large"].id).request["messages"][1]["content"]) == len(LARGE)
    while score_new(rig.store, rig.tasks, lambda: 1.0, means=Means()):
        pass
    card = built(rig)
    kept = {row.exchange_id for row in datasets.rows(rig.store, card.id)}
    assert kept == {one.id for one in (*good, bad["broken arguments"], bad["no arguments"])}
    assert card.drops == {"broken_answer": 2, "no_messages": 2, "not_json": 1, "not_text": 2, "too_large": 1}


def test_a_filter_that_selects_nothing_says_what_it_left_out(rig: Rig) -> None:
    put(rig.spool(), *map(good_one, ("one", "two")))
    rig.ship_all()
    with pytest.raises(RefusedError, match=r"no exchange passes the filters, of 2 .*prompt_version 2"):
        built(rig, fingerprints=("none such",))
    (card,) = datasets.list_datasets(rig.store)
    assert card.state == "failed"
    assert "prompt_version 2" in str(card.error)
    assert built(rig).rows["train"] == 2


def test_a_grader_that_there_is_not_is_named_beside_those_that_there_are(rig: Rig) -> None:
    put(rig.spool(), good_one("one"))
    rig.ship_all()
    with pytest.raises(RefusedError, match="minimum_score names 'taste'; the task's graders are calls"):
        built(rig, minimum_score={"taste": 0.5})
    with pytest.raises(ValueError, match=r"graders\.taste\.type"):
        task_of(graders={"taste": {"type": "taste"}})
