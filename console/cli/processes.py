"""`stillhouse up`, `gateway`, `worker` and `console`: the processes."""

import os
import signal
import sys
from typing import Annotated

import typer

from capture.settings import check_secrets, check_upstreams, login_secret
from console.cli.context import Invocation, invocation
from console.supervise import Supervisor, check_ports, ports, processes

Port = Annotated[int | None, typer.Option(help="Instead of the configured port.")]


def register(app: typer.Typer) -> None:
    app.command()(up)
    app.command()(gateway)
    app.command()(worker)
    app.command("console")(console)


def up(context: typer.Context) -> None:
    """Run gateway, worker, student server and console on this machine until Ctrl-C."""
    run = invocation(context)
    settings = run.settings
    check_upstreams(settings)
    check_secrets(settings, run.environ)
    if settings.console.login:
        login_secret(settings.console.login, run.environ)
    check_ports(ports(settings))
    run.store.close()  # opened once, so that a store that is away stops the start with one line
    supervisor = Supervisor(processes(settings, run.config), settings.data / "logs", run.environ, typer.echo)
    ends = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup leaves it
        ends.append(signal.SIGHUP)
    for number in ends:
        signal.signal(number, lambda *_: supervisor.stop())
    typer.echo(f"gateway  http://{settings.gateway.host}:{settings.gateway.port}/v1   set your app's base_url to this")
    typer.echo(f"console  http://{settings.console.host}:{settings.console.port}")
    typer.echo(f"logs     {settings.data / 'logs'}   (Ctrl-C stops everything)")
    code = supervisor.run()
    typer.echo("stopped")
    raise typer.Exit(code)


def gateway(
    context: typer.Context,
    port: Port = None,
    workers: Annotated[int | None, typer.Option(help="Server processes on the one port.")] = None,
) -> None:
    """Run the gateway alone."""
    run = invocation(context)
    options = {"--port": port, "--workers": workers}
    become(run, "gateway", *(word for key, value in options.items() if value is not None for word in (key, str(value))))


def worker(context: typer.Context) -> None:
    """Run the worker alone: shipping, scoring, training, rollouts."""
    become(invocation(context), "students.worker")


def console(context: typer.Context, port: Port = None) -> None:
    """Run the Streamlit console alone."""
    become(invocation(context), "console.serve", *(("--port", str(port)) if port is not None else ()))


def become(run: Invocation, module: str, *options: str) -> None:
    """Replaces this process by another, so that signals and exit codes are the other's own."""
    common = ["--data", str(run.settings.data)] + (["--config", str(run.config)] if run.config else [])
    line = [sys.executable, "-m", module, *common, *options]
    os.execve(line[0], line, dict(run.environ))
