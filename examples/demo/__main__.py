"""`make demo`: a large model's traffic turns into a small model that takes it over, and is taken back when it fails.

Everything is real: the processes of `stillhouse up`, the unmodified `openai` SDK, a fine-tune, verdicts that move the
share. Only the teacher is a stand-in, unless one is named. Exit 0 only if every step did what it says.
"""

import argparse
import getpass
import signal
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
from examples.demo.folder import DONE, check_folder, goes_on, make_room
from examples.demo.machine import Machine
from examples.demo.screen import Screen
from examples.demo.story import DemoFailedError, Story
from examples.demo.table import print_table
from examples.demo.world import TICKETS, Ports, Teacher, World


def play(world: World, ports: Ports, data: Path, screen: Screen, spoil_first: bool = False) -> Story:
    """Both acts. Raises DemoFailedError or StillhouseError where a step does not do what it says."""
    check_folder(data)
    machine = Machine(world, ports, data)
    machine.check()
    if goes_on(data):
        machine.check_teacher()
    else:
        screen.say("the last demo is over: what it left is deleted, but for base models, and this one begins anew")
        make_room(data)
    machine.prepare()
    settings = configuration.load(machine.config, machine.environ, data=data)
    with machine.running():
        store = open_store(settings.store_url)
        upgrade(store)
        story = Story(world, machine, Desk(store, settings, Actor(getpass.getuser(), Role.OPERATOR)), screen)
        screen.say(f"gateway {machine.gateway}/v1, console http://127.0.0.1:{ports.console}")
        _first_act(story, spoil_first)
        _second_act(story)
        (data / DONE).touch()
        store.close()
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
    story.settle()
    story.screen.act("What happened")
    print_table(story)


def main(argv: Sequence[str], world: World = TICKETS) -> int:
    """Exit status 0 done, 1 a step failed or the demo was stopped, 2 used wrongly."""
    options = _options(argv)
    ports = Ports(**{name: getattr(options, f"{name}_port") for name in vars(Ports())})
    screen, started, data = Screen(), time.monotonic(), options.data.resolve()
    if options.teacher_url:
        real = Teacher(options.teacher_model, options.teacher_url, key_env=options.teacher_key_env)
        world = replace(world, teacher=lambda _ports: real)
    try:
        play(world, ports, data, screen, options.spoil_first)
    except DemoFailedError as error:
        screen.say(f"\nThe demo failed: {error}. Its files, logs included, are in {options.data}.\n{_next(data)}")
        return 1
    except StillhouseError as error:
        screen.say(f"\n{error}")
        return error.exit_code
    except OSError as error:
        screen.say(f"\n{error}. The demo needs room, and a folder that it may write (--data).")
        return 1
    except KeyboardInterrupt:
        screen.say(f"\nStopped. {_next(data)}")
        return 1
    minutes = (time.monotonic() - started) / 60
    screen.say(
        f"\nAll of it did what it says, in {minutes:.1f} minutes. To look at it in the console:\n"
        f"  .venv/bin/stillhouse up --config {options.data}/stillhouse.toml --data {options.data}\n"
        f"  then open http://127.0.0.1:{ports.console}"
    )
    return 0


def _next(data: Path) -> str:
    if goes_on(data):
        return f"Start it again and it goes on from here; delete {data} and it begins anew."
    return "Start it again and it begins anew."


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
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was started is stopped
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup leaves it
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
