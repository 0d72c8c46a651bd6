"""What pages do: they call the verbs, which leave rows and a line in the audit; a refusal is one line."""

from datetime import date
from pathlib import Path

import pytest
import streamlit as st
from sqlalchemy import func, select, update

from capture.db import Store
from capture.reviews import queue as review_queue
from capture.tables import audit, datasets, exchanges, keys, reviews, tasks
from capture.traffic import TrafficFilter, list_exchanges
from console.reads import exchanges as exchange_reads
from students import registry, turns
from students.rollouts import list_verdicts, load_rollout
from students.steering import promote
from students.tables import evaluations, fine_tunes, rollouts, student_servers
from tests.factories.full_store import World
from tests.factories.store import add_exchange

Full = tuple[World, Store]


def scalar(store: Store, query):
    with store.read() as connection:
        return connection.scalar(query)


def last_action(store: Store) -> str:
    return str(scalar(store, select(audit.c.action).order_by(audit.c.at.desc(), audit.c.id.desc()).limit(1)))


def button(at, label: str):
    return next(one for one in at.button if one.label == label)


def test_pages_of_traffic_meet_without_gap_or_overlap(at_full: Full, look) -> None:
    at = look("traffic")
    first = at.dataframe[0].value
    at = button(at, "Older").click().run()
    second = at.dataframe[0].value
    assert first["Time"].min() > second["Time"].max()
    assert not set(first["Question"] + first["Time"].astype(str)) & set(second["Question"] + second["Time"].astype(str))
    at = button(at, "Newer").click().run()
    assert list(at.dataframe[0].value["Time"]) == list(first["Time"])
    assert button(at, "Newer").disabled


def test_a_filter_starts_at_the_first_page(at_full: Full, look) -> None:
    at = button(look("traffic"), "Older").click().run()
    at = at.selectbox(key="traffic-arm").set_value("student").run()
    assert set(at.dataframe[0].value["Arm"]) == {"student"}
    assert button(at, "Newer").disabled


def test_nothing_matches_says_so(at_full: Full, look) -> None:
    at = look("traffic")
    at = at.text_input(key="traffic-text").set_value("no such words anywhere").run()
    assert any("Nothing matches" in element.value for element in at.markdown)
    assert not at.exception


def test_a_row_opens_the_exchange_that_was_seen_there(at_full: Full, look) -> None:
    """Whatever came, or went, between the drawing and the click."""
    _, store = at_full
    at = look("traffic")
    seen = at.session_state["traffic-drawn"]
    assert len(seen) == 50
    newer = add_exchange(store, id="f" * 32)
    with store.write() as connection:
        connection.execute(exchanges.delete().where(exchanges.c.id.notin_([newer, *seen[:3]])))
    st.cache_data.clear()
    for position in (2, 40):
        at.session_state["traffic-table"] = {"selection": {"rows": [position], "columns": []}}
        at.session_state["traffic-drawn"] = seen
        at = at.run()
        assert not at.exception
        assert at.query_params["exchange"] == seen[position]
        at.query_params.clear()


def test_accepting_goes_on_to_the_next_of_the_queue(at_full: Full, look) -> None:
    world, store = at_full
    at = button(look("traffic", exchange=world.exchange), "Accept").click().run()
    assert not at.exception
    chosen = select(reviews.c.verdict).where(reviews.c.exchange_id == world.exchange)
    assert scalar(store, chosen) == "accept"
    assert last_action(store) == "reviews.add"
    assert at.query_params["exchange"] != [world.exchange]


def test_next_goes_on_beyond_the_first_page_of_the_queue(at_full: Full, look) -> None:
    _, store = at_full
    queue = review_queue(store, "triage", limit=1000)
    assert len(queue) > 52
    at = button(look("traffic", exchange=queue[49]), "Next").click().run()
    assert at.query_params["exchange"] == queue[50]
    at = button(look("traffic", exchange=queue[-1]), "Next").click().run()
    assert at.query_params["exchange"] == queue[0]


def test_a_build_is_queued(at_full: Full, look) -> None:
    _, store = at_full
    at = look("datasets")
    at = at.selectbox(key="build-task").set_value("triage").run()
    button(at, "Build").click().run()
    assert scalar(store, select(func.count()).where(datasets.c.state == "queued")) == 2
    assert last_action(store) == "datasets.build"


def test_a_fine_tune_is_queued_and_cancelled(at_full: Full, look) -> None:
    world, store = at_full
    at = look("students", dataset=world.dataset)
    button(at, "Start training").click().run()
    queued = select(fine_tunes.c.id).where(fine_tunes.c.state == "queued")
    fine_tune = scalar(store, queued)
    assert fine_tune
    button(look("students", fine_tune=fine_tune), "Yes, cancel it").click().run()
    assert scalar(store, select(fine_tunes.c.cancel_asked).where(fine_tunes.c.id == fine_tune))


def test_an_evaluation_is_queued(at_full: Full, look) -> None:
    _, store = at_full
    button(look("students"), "Start evaluation").click().run()
    assert scalar(store, select(func.count()).where(evaluations.c.state == "queued")) == 1


def test_a_student_is_no_longer_wanted_only_without_a_rollout(at_full: Full, look) -> None:
    world, store = at_full
    at = button(look("students", student=world.student), "Stop serving").click().run()
    assert len(at.error) == 1
    assert not at.exception
    assert scalar(store, select(student_servers.c.wanted_at)) is not None


def test_a_second_rollout_is_refused_in_one_line(at_full: Full, look) -> None:
    _, store = at_full
    before = scalar(store, select(func.count()).select_from(rollouts))
    at = button(look("rollouts"), "Start in shadow").click().run()
    assert len(at.error) == 1
    assert "under way" in at.error[0].value
    assert scalar(store, select(func.count()).select_from(rollouts)) == before


def test_a_ladder_that_is_no_list_is_one_line(at_full: Full, look) -> None:
    at = look("rollouts")
    ladder = next(one for one in at.text_input if one.label.startswith("Ladder"))
    ladder.set_value("one, two")
    at = button(at, "Start in shadow").click().run()
    assert "not a list of percentages" in at.error[0].value


def change_task(store: Store, **settings: dict[str, object]) -> None:
    """Other settings of the task triage than those that the store was made with."""
    with store.write() as connection:
        kept = connection.scalars(select(tasks.c.settings).where(tasks.c.name == "triage")).one()
        merged = {name: {**kept.get(name, {}), **change} for name, change in settings.items()}
        connection.execute(update(tasks).where(tasks.c.name == "triage").values(settings={**kept, **merged}))


def test_whatever_a_task_may_be_set_to_stands_in_the_forms(at_full: Full, look) -> None:
    world, store = at_full
    odd = {"margin": 0.6, "alpha": 0.7, "minimum_pairs": 200_000, "minimum_sessions": 0, "minimum_hours": 2000}
    change_task(store, rollout=odd, training={"epochs": 0.05, "rank": 600, "seed": -1, "learning_rate": 2.0})
    at = look("rollouts", student=world.student)
    assert not at.exception
    at = button(at, "Start in shadow").click().run()
    assert ["this rollout policy cannot work" in element.value for element in at.error] == [True]
    at = look("students", dataset=world.dataset)
    assert not at.exception
    button(at, "Start training").click().run()
    kept = scalar(store, select(fine_tunes.c.settings).where(fine_tunes.c.state == "queued"))
    assert (kept["epochs"], kept["rank"], kept["seed"], kept["learning_rate"]) == (0.05, 600, -1, 2.0)


def test_pausing_and_going_on(at_full: Full, look) -> None:
    world, store = at_full
    at = look("rollouts", rollout=world.rollout)
    at = at.text_input(key="reason-pause").set_value("the app is down").run()
    at = button(at, "Yes, pause").click().run()
    assert scalar(store, select(rollouts.c.state).where(rollouts.c.id == world.rollout)) == "paused"
    assert list_verdicts(store, world.rollout)[-1].sentence.endswith("pause, because the app is down")
    assert last_action(store) == "rollouts.pause"
    button(at, "Yes, resume").click().run()
    assert scalar(store, select(rollouts.c.state).where(rollouts.c.id == world.rollout)) == "running"


def test_aborting_needs_a_reason(at_full: Full, look) -> None:
    world, store = at_full
    at = look("rollouts", rollout=world.rollout)
    assert button(at, "Yes, abort").disabled
    at = at.text_input(key="reason-abort").set_value("the app changes tomorrow").run()
    button(at, "Yes, abort").click().run()
    row = select(rollouts.c.state, rollouts.c.share, rollouts.c.reason).where(rollouts.c.id == world.rollout)
    with store.read() as connection:
        assert tuple(connection.execute(row).one()) == ("aborted", 0.0, "the app changes tomorrow")


def test_two_people_on_one_rollout(at_full: Full, look) -> None:
    world, store = at_full
    at = look("rollouts", rollout=world.rollout)
    with store.write() as connection:
        aborted = update(rollouts).where(rollouts.c.id == world.rollout)
        connection.execute(aborted.values(state="aborted", share=0.0, ended_at=1.0))
    at = button(at, "Yes, pause").click().run()
    assert not at.exception
    assert any("aborted" in element.value for element in at.error)


def test_of_two_who_promote_one_is_told_to_look_again(at_full: Full, look) -> None:
    """Both saw the same stage; the traffic takes one step, not two."""
    world, store = at_full
    at = look("rollouts", rollout=world.rollout)
    at = at.text_input(key="reason-promote").set_value("seen enough").run()
    before = load_rollout(store, world.rollout)
    moved = promote(store, world.rollout, "mara", "seen enough", lambda: 2.0, before.stage)
    st.cache_data.clear()
    at = button(at, "Yes, promote").click().run()
    assert not at.exception
    assert ["since you looked" in element.value for element in at.error] == [True]
    assert load_rollout(store, world.rollout).stage == moved.stage == before.stage + 1
    button(at, "Yes, promote").click().run()
    assert load_rollout(store, world.rollout).stage == before.stage + 2


def test_training_here_costs_nothing(at_full: Full, look) -> None:
    world, _ = at_full
    at = look("students", fine_tune=world.fine_tune)
    assert next(metric.value for metric in at.metric if metric.label == "Cost") == "$0"


def test_the_ledger_is_added_up_on_demand(at_full: Full, look) -> None:
    world, _ = at_full
    at = look("rollouts", rollout=world.rollout)
    assert "Saved" not in {metric.label for metric in at.metric}
    at = at.toggle(key="ledger").set_value(True).run()
    assert not at.exception
    assert {"Would have cost", "Saved"} <= {metric.label for metric in at.metric}
    assert "It has paid for itself already." in {element.value for element in at.caption}


def test_two_versions_of_a_dataset_side_by_side(at_full: Full, look) -> None:
    world, _ = at_full
    at = look("datasets", dataset=world.dataset)
    box = at.selectbox(key="diff-with")
    at = box.select_index(0).run()
    assert not at.exception
    assert any("rows are the same" in element.value for element in at.markdown)


def test_a_key_is_shown_once(at_full: Full, look) -> None:
    _, store = at_full
    at = look("operations")
    next(one for one in at.text_input if one.label == "Name").set_value("new app")
    at = button(at, "Create").click().run()
    secret = next(element.value for element in at.code if element.value.startswith("sh-"))
    prefix = scalar(store, select(keys.c.prefix).where(keys.c.name == "new app"))
    assert secret.startswith(prefix)
    again = look("operations")
    assert not any(secret in str(element.value) for element in again.code)


def test_a_dataset_deleted_under_an_open_page(at_full: Full, look) -> None:
    world, store = at_full
    at = look("datasets", dataset=world.dataset)
    with store.write() as connection:
        for table in (evaluations, fine_tunes):
            connection.execute(table.delete())
        connection.execute(datasets.delete())
    st.cache_data.clear()
    at = button(at, "More rows").click().run()
    assert not at.exception
    assert [element.value for element in at.error]
    assert all("no dataset" in element.value for element in at.error)


def test_a_dataset_deleted_under_an_open_form(at_full: Full, look) -> None:
    world, store = at_full
    at = look("students", dataset=world.dataset)
    with store.write() as connection:
        for table in (evaluations, fine_tunes):
            connection.execute(table.delete())
        connection.execute(datasets.delete())
    st.cache_data.clear()
    at = button(at, "Start training").click().run()
    assert not at.exception
    assert scalar(store, select(func.count()).select_from(fine_tunes)) == 0


def test_what_was_typed_is_still_there_when_the_store_was_away(at_full: Full, look, tmp_path: Path) -> None:
    """Nothing is lost: the reason stays in its field, and the same press works when the store is back."""
    world, store = at_full
    file, aside = tmp_path / "stillhouse.db", tmp_path / "aside.db"
    at = look("rollouts", rollout=world.rollout)
    at = at.text_input(key="reason-abort").set_value("the app changes tomorrow").run()
    at.session_state["desk"].store.close()
    file.rename(aside)
    file.mkdir()
    at = button(at, "Yes, abort").click().run()
    assert not at.exception
    assert any("store" in element.value for element in at.error)
    file.rmdir()
    aside.rename(file)
    at = at.run()
    assert at.text_input(key="reason-abort").value == "the app changes tomorrow"
    button(at, "Yes, abort").click().run()
    assert load_rollout(store, world.rollout).reason == "the app changes tomorrow"


def test_the_store_goes_away_under_an_open_page(at_full: Full, look, tmp_path: Path) -> None:
    """One line in place of what cannot be read, and everything again when the store is back."""
    world, _ = at_full
    file, aside = tmp_path / "stillhouse.db", tmp_path / "aside.db"
    at = look("rollouts", rollout=world.rollout)
    st.cache_data.clear()
    at.session_state["desk"].store.close()
    file.rename(aside)
    file.mkdir()
    at = at.run()
    assert not at.exception
    assert at.error
    assert all("store" in element.value for element in at.error)
    file.rmdir()
    aside.rename(file)
    st.cache_data.clear()
    at = at.run()
    assert not at.exception
    assert not at.error


def test_many_are_accepted_at_once_after_a_yes(at_full: Full, look) -> None:
    _, store = at_full
    at = look("traffic")
    at = at.selectbox(key="traffic-arm").set_value("student").run()
    at = at.radio(key="at-once-verb").set_value("accept").run()
    act = next(one for one in at.button if one.key == "at-once-go")
    assert act.disabled
    many = int(act.label.split()[1])
    at = next(one for one in at.checkbox if one.key.startswith("at-once-sure")).check().run()
    at = next(one for one in at.button if one.key == "at-once-go").click().run()
    assert not at.exception
    assert not at.error
    assert scalar(store, select(func.count()).select_from(reviews).where(reviews.c.reviewer != "mara")) == many
    assert last_action(store) == "reviews.add_all"


def test_a_task_is_tried_before_it_is_saved(at_full: Full, look) -> None:
    at = look("tasks")
    assert any("The rule takes" in element.value for element in at.markdown)
    box = next(one for one in at.text_area if one.key.startswith("task-settings-new"))
    at = box.set_value('{"match": {"modle": "x"}}').run()
    assert any("modle" in element.value for element in at.error)
    assert not at.exception


def test_making_a_task_overwrites_none(at_full: Full, look) -> None:
    _, store = at_full
    settings = '{{"match": {{"model": "{}"}}, "teacher": {{"upstream": "stand-in", "model": "m"}}}}'
    for model in ("first", "second"):
        at = look("tasks")
        at = at.text_input(key="new-task-name").set_value("sorting").run()
        at = at.text_area(key="task-settings-new-").set_value(settings.format(model)).run()
        at = button(at, "Save").click().run()
        assert not at.exception
    assert ["is there already" in element.value for element in at.error] == [True]
    assert scalar(store, select(tasks.c.settings).where(tasks.c.name == "sorting"))["match"]["model"] == "first"
    at = look("tasks", task="sorting")
    at = at.text_area(key="task-settings-sorting").set_value(settings.format("third")).run()
    next(one for one in at.button if one.key == "save-sorting").click().run()
    assert scalar(store, select(tasks.c.settings).where(tasks.c.name == "sorting"))["match"]["model"] == "third"


def test_a_build_takes_one_prompt_version_and_metadata_alone(at_full: Full, look) -> None:
    _, store = at_full
    at = look("datasets")
    at = at.selectbox(key="build-task").set_value("triage").run()
    at = at.text_input(key="build-metadata").set_value("tier=none such").run()
    version = at.multiselect(key="build-versions").options[0]
    at = at.multiselect(key="build-versions").set_value([version]).run()
    assert any("0 of the newest" in element.value for element in at.markdown)
    button(at, "Build").click().run()
    filters = scalar(store, select(datasets.c.filters).order_by(datasets.c.version.desc()).limit(1))
    assert filters["metadata"] == {"tier": "none such"}
    assert len(filters["fingerprints"]) == 1


def test_the_last_day_of_a_build_is_in_it(at_full: Full, look) -> None:
    day = look("traffic").dataframe[0].value["Time"].max().date()
    at = look("datasets")
    at = at.selectbox(key="build-task").set_value("triage").run()
    for field in ("build-from", "build-to"):
        at = at.date_input(key=field).set_value(day).run()
    told = next(element.value for element in at.markdown if "exchanges pass" in element.value)
    assert not told.startswith("**0 of")


def test_a_filter_of_a_build_says_what_it_removes(at_full: Full, look) -> None:
    at = look("datasets")
    at = at.selectbox(key="build-task").set_value("triage").run()
    before = next(element.value for element in at.markdown if "exchanges pass" in element.value)
    at = at.number_input(key="lowest-category").set_value(1.0).run()
    after = next(element.value for element in at.markdown if "exchanges pass" in element.value)
    assert before != after


def test_another_time_starts_at_the_first_page(at_full: Full, look) -> None:
    at = button(look("traffic"), "Older").click().run()
    at = at.selectbox(key="traffic-time").set_value("The last hour").run()
    assert not at.exception
    assert "Nothing older." not in {element.value for element in at.caption}
    assert not any(one.label == "Newer" and not one.disabled for one in at.button)


def test_what_comes_while_somebody_thinks_it_over_is_not_among_it(at_full: Full, look) -> None:
    _, store = at_full
    at = look("traffic")
    at = at.text_input(key="traffic-label").set_value("thinking").run()
    add_exchange(store, id=f"{7:012x}{'0' * 20}", label="thinking")
    st.cache_data.clear()
    at = at.run()
    at = at.radio(key="at-once-verb").set_value("reject").run()
    at = next(one for one in at.checkbox if one.key.startswith("at-once-sure")).check().run()
    late = add_exchange(store, id=f"{8:012x}{'0' * 20}", label="thinking")
    st.cache_data.clear()
    at = next(one for one in at.button if one.key == "at-once-go").click().run()
    assert not at.exception
    assert not at.error
    with store.read() as connection:
        rejected = connection.scalars(select(reviews.c.exchange_id).where(reviews.c.verdict == "reject")).all()
    assert f"{7:012x}{'0' * 20}" in rejected
    assert late not in rejected


def test_a_form_that_is_folded_reads_nothing(at_full: Full, look) -> None:
    for page, key in (("datasets", "build"), ("students", "train"), ("tasks", "new-task-name")):
        at = look(page, unfolded=False)
        assert not at.exception
        assert key not in {one.key for kind in (at.button, at.text_input) for one in kind}


def test_who_may_not_export_sees_the_button_and_cannot_press_it(
    at_full: Full, look, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, _ = at_full
    for role, off in (("reviewer", True), ("operator", False)):
        monkeypatch.setenv("STILLHOUSE_CONSOLE__ROLE", role)
        assert button(look("datasets", dataset=world.dataset), "Make the file").disabled is off


def test_an_export_is_made_and_a_refusal_is_one_line(at_full: Full, look) -> None:
    world, _ = at_full
    at = look("datasets", dataset=world.dataset)
    at = button(at, "Make the file").click().run()
    assert not at.error
    assert at.get("download_button")
    with_corrections = at.selectbox(key="export-form").set_value("parquet").run()
    at = button(with_corrections, "Make the file").click().run()
    assert not at.error
    assert last_action(at_full[1]) == "datasets.export"


def test_terms_forbid_an_export_in_one_line(at_full: Full, look, tmp_path: Path) -> None:
    world, _ = at_full
    file = tmp_path / "stillhouse.toml"
    file.write_text(file.read_text().replace("training_allowed = true", "training_allowed = false"))
    at = button(look("datasets", dataset=world.dataset), "Make the file").click().run()
    assert not at.exception
    assert ["terms do not allow" in element.value for element in at.error] == [True]
    assert not at.get("download_button")


def test_a_filter_is_an_address_that_can_be_sent_on(at_full: Full, look) -> None:
    at = look("traffic")
    at = at.selectbox(key="traffic-arm").set_value("student").run()
    at = at.text_input(key="traffic-text").set_value("invoice").run()
    assert {name: at.query_params[name] for name in at.query_params} == {"arm": "student", "text": "invoice"}
    rows = list(at.dataframe[0].value["Time"])
    other = look("traffic", arm="student", text="invoice")
    assert list(other.dataframe[0].value["Time"]) == rows
    other.query_params.clear()
    other.query_params["arm"] = "no such arm"
    other.query_params["review"] = "Accepted"
    other = other.run()
    assert not other.exception
    assert (other.selectbox(key="traffic-arm").value, other.text_input(key="traffic-text").value) == ("Every arm", "")
    assert set(other.dataframe[0].value["Review"]) == {"accept"}


def test_days_and_scores_stand_in_the_address(at_full: Full, look) -> None:
    at = look("traffic")
    at = at.selectbox(key="traffic-time").set_value("Between two days").run()
    day = at.dataframe[0].value["Time"].max().date()
    at = at.date_input(key="traffic-from").set_value(day).run()
    at = at.selectbox(key="traffic-grader").set_value("category").run()
    at = at.slider(key="traffic-score").set_value((0.25, 1.0)).run()
    address = {name: at.query_params[name] for name in at.query_params}
    assert (address["from"], address["score"]) == (day.isoformat(), "0.25-1")
    other = look("traffic", **address)
    assert not other.exception
    assert (other.date_input(key="traffic-from").value, other.date_input(key="traffic-to").value) == (day, None)
    assert other.slider(key="traffic-score").value == (0.25, 1.0)
    assert list(other.dataframe[0].value["Time"]) == list(at.dataframe[0].value["Time"])
    wild = look("traffic", **{**address, "from": "yesterday", "score": "9-x"})
    assert not wild.exception
    assert (wild.date_input(key="traffic-from").value, wild.slider(key="traffic-score").value) == (None, (0.0, 1.0))


def test_raw_bytes_are_there_on_demand_alone(at_full: Full, look) -> None:
    world, _ = at_full
    at = look("traffic", exchange=world.hostile)
    assert not any("image_url" in element.value for element in at.code)
    at.session_state["raw-request"] = True
    at = at.run()
    assert any('"image_url":{"url":"http://127.0.0.1:9/pixel.png"}' in element.value for element in at.code)


def test_an_exchange_is_erased(at_full: Full, look) -> None:
    world, store = at_full
    at = button(look("traffic", exchange=world.exchange), "Yes, erase it").click().run()
    assert not at.exception
    assert scalar(store, select(exchanges.c.id).where(exchanges.c.id == world.exchange)) is None
    assert "exchange" not in at.query_params


def test_turns_of_the_loop(at_full: Full, look) -> None:
    _, store = at_full
    at = look("tasks", task="triage")
    assert any("104 new rows" in element.value for element in at.markdown)
    at = button(at, "Let it train").click().run()
    (moving,) = turns.moving_turns(store)
    assert (moving.state, moving.approved) == ("running", ("train",))
    at = button(at, "Yes, stop it").click().run()
    assert turns.moving_turns(store) == []
    button(at, "Begin a turn").click().run()
    (moving,) = turns.moving_turns(store)
    assert moving.step == "build"
    assert last_action(store) == "loop.begin"


def test_a_student_at_an_upstream_is_registered(at_full: Full, look) -> None:
    _, store = at_full
    at = look("students")
    at = at.text_input(key="register-model").set_value("small-one").run()
    at = at.selectbox(key="register-task").set_value("triage").run()
    button(at, "Register").click().run()
    assert "small-one" in {one.upstream_model for one in registry.list_students(store)}


def test_other_evaluations_are_queued(at_full: Full, look) -> None:
    world, store = at_full
    for kind in ("A base by prompting alone", "On captured traffic"):
        at = look("students")
        at = at.radio(key="evaluate-kind").set_value(kind).run()
        if kind == "On captured traffic":
            at = at.selectbox(key="evaluate-task").set_value("triage").run()
            at = at.multiselect(key="evaluate-students-triage").set_value([world.student]).run()
        at = button(at, "Start evaluation").click().run()
        assert not at.exception
        assert not at.error
    assert scalar(store, select(func.count()).where(evaluations.c.state == "queued")) == 2


def test_better_targets_are_queued(at_full: Full, look) -> None:
    world, store = at_full
    at = look("datasets", dataset=world.dataset)
    at = at.text_input(key="relabel-model").set_value("larger").run()
    at = button(at, "Answer it anew").click().run()
    assert not at.error
    assert last_action(store) == "datasets.relabel"
    at = look("datasets")
    at = at.selectbox(key="misses-task").set_value("triage").run()
    at = button(at, "Build from misses").click().run()
    assert not at.exception
    assert last_action(store) == "datasets.build"


def test_days_bound_the_traffic_in_the_readers_zone(at_full: Full, look) -> None:
    at = look("traffic")
    at = at.selectbox(key="traffic-time").set_value("Between two days").run()
    day = at.dataframe[0].value["Time"].max().date()
    at = at.date_input(key="traffic-from").set_value(day).run()
    at = at.date_input(key="traffic-to").set_value(day).run()
    assert {time.date() for time in at.dataframe[0].value["Time"]} == {day}


def test_the_first_and_the_last_day_that_can_be_written_bound_nothing(at_full: Full, look) -> None:
    rows = list(look("traffic").dataframe[0].value["Time"])
    at = look("traffic", time="Between two days", **{"from": "0001-01-01", "to": "9999-12-31"})
    assert not at.exception
    assert at.date_input(key="traffic-to").value == date.max
    assert list(at.dataframe[0].value["Time"]) == rows


def test_a_rare_value_is_looked_for_a_part_at_a_time(at_full: Full, look, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no index carries is asked of the newest exchanges first; "Older" goes on, and in the end all are found."""
    _, store = at_full
    wanted = TrafficFilter(label="refund")
    every = [row.preview.partition("\n")[0] for row in list_exchanges(store, wanted, None, 1000)]
    monkeypatch.setattr(exchange_reads, "LOOKED_AT", 60)
    at = look("traffic", label="refund")
    assert any("among the newest 60" in element.value for element in at.caption)
    found: list[str] = []
    for _ in range(9):
        found += list(at.dataframe[0].value["Question"]) if len(at.dataframe) else []
        if button(at, "Older").disabled:
            break
        at = button(at, "Older").click().run()
        assert not at.exception
    assert found == every
    at = look("traffic", label="nowhere")
    assert any("Nothing matches so far" in element.value for element in at.markdown)
