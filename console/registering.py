"""Verbs of students that others serve: register a model at an upstream, and the command of a vLLM server."""

from collections.abc import Sequence

from capture import datasets
from capture.errors import RefusedError
from console.access import Desk, Role
from console.verbs import pull_base
from students import registry
from students.vllm import Placed, vllm_command


def register_student(
    desk: Desk, task: str, at: tuple[str, str], *, like: str | None = None, dataset: str | None = None
) -> registry.Student:
    """Makes a model `at` (upstream, model) a student; registering it again changes nothing.

    `like`: a student of the same task whose view, prompt versions and dataset it has (the same weights, elsewhere).
    `dataset`: what it was trained on, else; without either, shadow has to prove each prompt version.
    """
    desk.demand(Role.OPERATOR, "registering a student")
    upstream, model = at
    view, learnt = desk.task(task).view, None
    if like is not None:
        twin = registry.load_student(desk.store, like)
        if twin.task != task:
            raise RefusedError(f"{twin.name} learnt task {twin.task}, not {task}")
        view, learnt = twin.view, registry.Learnt(twin.dataset_id, sorted(twin.fingerprints), twin.tools)
    elif dataset is not None:
        learnt = _learnt(desk, task, dataset)
    known = (upstream, desk.settings.upstreams)
    with desk.whole() as own:
        student = registry.register_upstream(own.store, task, model, known, view, own.clock, learnt=learnt)
        own.record("students.register", student.id, upstream=upstream, model=model, task=task)
    return student


def vllm_lines(desk: Desk, students: Sequence[str], port: int) -> list[str]:
    """The server's command, the upstream for stillhouse.toml, and the registrations, as lines to copy.

    Fetches the students' base where it is not here yet.
    """
    desk.demand(Role.OPERATOR, "serving students by vLLM")
    found = [registry.load_student(desk.store, student) for student in students]
    remote = [student.name for student in found if student.folder is None]
    if remote:
        raise RefusedError(f"{', '.join(remote)} has no model folder here")
    placed = [
        Placed(
            student,
            (desk.settings.data / str(student.folder)).resolve(),
            pull_base(desk, student.base).resolve(),
        )
        for student in found
    ]
    return [
        vllm_command(placed, port),
        "",
        "# in stillhouse.toml (vLLM asks for no key unless told to; the variable must be set all the same):",
        "# [upstreams.vllm]",
        f'# base_url = "http://127.0.0.1:{port}/v1"',
        '# auth = "key"',
        '# api_key_env = "VLLM_API_KEY"',
        '# worker_key_env = "VLLM_API_KEY"',
        "",
        *(f"stillhouse students register {one.task} vllm {one.name} --like {one.id}" for one in found),
    ]


def _learnt(desk: Desk, task: str, dataset: str) -> registry.Learnt:
    card = datasets.load_card(desk.store, datasets.resolve(desk.store, dataset))
    if card.task != task:
        raise RefusedError(f"dataset {card.name} is not of task {task}")
    prompts = sorted(filter(None, card.prompt_versions.get("train", {})))
    return registry.Learnt(card.id, prompts, card.tools > 0)
