"""`make demo`: a large model's traffic turns into a small model that takes it over, and is taken back when it fails.

Everything is real: the processes of `stillhouse up`, the unmodified `openai` SDK, a fine-tune, verdicts that move the
share. Only the teacher is a stand-in, unless one is named. Exit 0 only if every step did what it says.
"""

import argparse
import getpass
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from capture import settings as configuration
from capture.db import open_store
from capture.errors import StillhouseError
from capture.migrations import upgrade
from console.access import Actor, Desk, Role
from examples.demo.machine import Machine
from examples.demo.screen import Screen
from examples.demo.story import DemoFailedError, Story
from examples.demo.table import print_table
from examples.demo.world import TICKETS, Ports, Teacher, World

DONE = "done"  # a file in the data folder: the last demo came to its end, the next one begins anew


def play(world: World, ports: Ports, data: Path, screen: Screen, spoil_first: bool = False) -> Story:
    """Both acts. Raises DemoFailedError or StillhouseError where a step does not do what it says."""
    _begin(data)
    machine = Machine(world, ports, data)
    settings = configuration.load(machine.config, machine.environ, data=data)
    with machine.running():
        store = open_store(settings.store_url)
        upgrade(store)
        story = Story(world, machine, Desk(store, settings, Actor(getpass.getuser(), Role.OPERATOR)), screen)
        screen.say(f"gateway {machine.gateway}/v1, console http://127.0.0.1:{ports.console}")
        _first_act(story, spoil_first)
        _second_act(story)
        store.close()
    (data / DONE).touch()
    return story


def _first_act(story: Story, spoil_first: bool) -> None:
    story.screen.act("First act: the student learns, proves itself, and takes over")
    story.fetch_base()
    story.collect()
    story.build()
    story.train()
    story.evaluate()
    if spoil_first:
        story.spoil_the_student()
    story.roll_out()


def _second_act(story: Story) -> None:
    story.screen.act("Second act: what goes wrong, and what clients feel of it")
    story.kill_the_server()
    story.spoil_the_student()
    story.roll_back()
    story.screen.act("What happened")
    print_table(story)


def _begin(data: Path) -> None:
    """An unfinished demo goes on; a finished one makes room, but for the base models that were fetched."""
    if not (data / DONE).exists():
        return
    for path in data.iterdir():
        if path.name == "models":
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def main(argv: Sequence[str]) -> int:
    options = _options(argv)
    ports = Ports(**{name: getattr(options, f"{name}_port") for name in vars(Ports())})
    world, screen, started = TICKETS, Screen(), time.monotonic()
    if options.teacher_url:
        real = Teacher(options.teacher_model, options.teacher_url, key_env=options.teacher_key_env)
        world = replace(world, teacher=lambda _ports: real)
    try:
        play(world, ports, options.data.resolve(), screen, options.spoil_first)
    except DemoFailedError as error:
        screen.say(f"\nThe demo failed: {error}. Its files, logs included, are in {options.data}.")
        return 1
    except StillhouseError as error:
        screen.say(f"\n{error}")
        return error.exit_code
    except KeyboardInterrupt:
        screen.say("\nStopped; start it again and it goes on from here.")
        return 1
    minutes = (time.monotonic() - started) / 60
    screen.say(
        f"\nAll of it did what it says, in {minutes:.1f} minutes. To look at it in the console:\n"
        f"  .venv/bin/stillhouse up --config {options.data}/stillhouse.toml --data {options.data}\n"
        f"  then open http://127.0.0.1:{ports.console}"
    )
    return 0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data/demo"))
    for name, port in vars(Ports()).items():
        parser.add_argument(f"--{name}-port", type=int, default=port)
    parser.add_argument("--teacher-url", help="a real teacher's base URL instead of the stand-in (it costs money)")
    parser.add_argument("--teacher-model", default="gpt-4.1-mini")
    parser.add_argument("--teacher-key-env", default="OPENAI_API_KEY", help="the environment variable with its key")
    parser.add_argument("--spoil-first", action="store_true", help="roll out a bad student: the demo must then fail")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
