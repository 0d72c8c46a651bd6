"""`stillhouse up`, `gateway`, `worker` and `console`: the processes."""

import os
import signal
import sys
from typing import Annotated

import typer

from capture.settings import check_secrets
from console.cli.context import Invocation, invocation
from console.supervise import Supervisor, check_ports, processes

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
    check_secrets(settings, run.environ)
    check_ports(
        {
            "gateway.port": (settings.gateway.host, settings.gateway.port),
            "gateway.metrics_port": (settings.gateway.metrics_host, settings.gateway.metrics_port),
            "console.port": (settings.console.host, settings.console.port),
        }
    )
    run.store.close()  # opened once, so that a store that is away stops the start with one line
    supervisor = Supervisor(processes(settings, run.config), settings.data / "logs", run.environ, typer.echo)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: supervisor.stop())
    supervisor.start()
    typer.echo(f"gateway  http://{settings.gateway.host}:{settings.gateway.port}/v1   set your app's base_url to this")
    typer.echo(f"console  http://{settings.console.host}:{settings.console.port}")
    typer.echo(f"logs     {settings.data / 'logs'}   (Ctrl-C stops everything)")
    supervisor.run()
    typer.echo("stopped")


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
