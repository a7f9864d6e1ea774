"""Every job of the project; CI runs these and nothing else.

Sessions install with pip against constraints.txt. A GPU image that brings its own
CUDA torch runs them with `--no-venv`.
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import nox

nox.options.sessions = ["lint", "typing", "tests", "conformance"]
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True

CONSTRAINTS = "constraints.txt"
CALLER = Path("examples/downstream")
WORKERS = str(min(os.cpu_count() or 1, 8))
# Neighbours wait for one package to be compiled: let one worker have them.
SPREAD = "-n", WORKERS, "--dist", "worksteal"
# They compile on the cores, and share the GPUs.
ON_GPUS = "-n", str(max(min((os.cpu_count() or 1) - 1, 15), 1)), *SPREAD[2:]


def install(session: nox.Session, *what: str) -> None:
    """Install with the pins; without a venv, take the environment as it is."""
    if session.virtualenv.venv_backend == "none":
        return
    # torch first and alone: with it in place no other package asks for a newer one.
    session.install("-c", CONSTRAINTS, "torch==2.13.0", silent=True)
    session.install("-c", CONSTRAINTS, *what, silent=True)


def run(session: nox.Session, module: str, *arguments: str) -> None:
    """Run a module with the session's Python; without a venv, with this one."""
    bare = session.virtualenv.venv_backend == "none"
    python = sys.executable if bare else "python"
    session.run(python, "-m", module, *arguments, external=bare)


@nox.session
def conformance(session: nox.Session) -> None:
    """Score an implementation (the reference by default); print the board."""
    install(session, "-e", ".[fp8,test]")
    report = (
        () if _asked(session, "--aoti-report") else ("--aoti-report=results.jsonl",)
    )
    workers = () if _asked(session, "-n", "--numprocesses") else SPREAD
    run(session, "pytest", "conformance/clauses", *workers, *report, *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the project's own tests, then every clause against the reference."""
    install(session, "-e", ".[docs,fp8,test]")
    own = "conformance/meta", "aoti_ref", "--doctest-modules", "--dist", "loadscope"
    run(session, "pytest", *own, "-n", WORKERS, *session.posargs)
    run(session, "pytest", "conformance/clauses", *SPREAD, *session.posargs)
    run(session, "conformance.meta.docs", "--check")


@nox.session
def mutants(session: nox.Session) -> None:
    """Print the kill table: every mutant must fail the clause that it breaks."""
    install(session, "-e", ".[fp8,test]")
    # Once a GPU's table is kept, every mutant must have been decided, here or there.
    kept = sorted(Path("benchmarks/results").glob("mutants-*.json"))
    elsewhere = [f"--elsewhere={path}" for path in kept if "-cpu" not in path.name]
    program = "conformance.meta.kill", "-j", WORKERS
    run(session, *program, *elsewhere, *session.posargs)


@nox.session
def flaky(session: nox.Session) -> None:
    """Repeat the chapter of processes and threads: no outcome may differ."""
    install(session, "-e", ".[test]")
    run(session, "conformance.meta.repeat", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Run 200 jobs, kill 20 of them, count what is left; then call from 8 threads."""
    install(session, "-e", ".[test]")
    run(session, "conformance.soak", *session.posargs)


@nox.session
def interchange(session: nox.Session) -> None:
    """Hand packages to the real `spaces`, and take them from it."""
    install(session, "-e", ".[test,spaces]")
    run(session, "pytest", "conformance/interchange", *session.posargs)


@nox.session
def hub(session: nox.Session) -> None:
    """Run the chapters HUB and KRN on a Hub on loopback; measure a push and a load."""
    install(session, "-e", ".[test]")
    clauses = Path("conformance/clauses")
    files = [*clauses.glob("test_hub_*.py"), *clauses.glob("test_krn_*.py")]
    run(session, "pytest", *sorted(map(str, files)), *session.posargs)
    run(session, "benchmarks.hub")


@nox.session
def browser(session: nox.Session) -> None:
    """Open the board in a real Chromium; `-- --shoot` takes docs/board.png anew."""
    install(session, "-e", ".[browser,test]")
    if session.posargs == ["--shoot"]:
        run(session, "conformance.browser.shoot")
        return
    run(session, "pytest", "conformance/browser", *session.posargs)


@nox.session
def gpu(session: nox.Session) -> None:
    """Run every clause on the GPUs of this machine (`--no-venv` keeps its torch).

    Then it kills the mutants that only a GPU finds out. With options it is one run
    of pytest.
    """
    install(session, "-e", ".[gpu]")
    where = "conformance/clauses", "--aoti-device=cuda"
    report = (
        () if _asked(session, "--aoti-report") else ("--aoti-report=results-gpu.jsonl",)
    )
    workers = () if _asked(session, "-n", "--numprocesses") else ON_GPUS
    run(session, "pytest", *where, *workers, *report, *session.posargs)
    if session.posargs:
        return
    of_gpus = "-j", "4", "--device", "cuda", "--profile", "hopper"
    run(session, "conformance.meta.kill", *of_gpus)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure: `-- overhead`, with the options of that program.

    `-- flux`, `wan`, `ltx` and `qwen` measure a full-size model on the GPU of this
    machine; `-- flux --tiny` the same rows of a tiny one on the CPU, in minutes.
    """
    names = sorted(
        path.stem
        for path in Path("benchmarks").glob("*.py")
        if "__main__" in path.read_text(encoding="utf-8")
    )
    name, *options = session.posargs or [""]
    if name not in names:
        session.error(f"name one to run: {', '.join(names)}")
    install(session, "-e", ".[bench]")
    run(session, f"benchmarks.{name}", *options)


@nox.session
def docs(session: nox.Session) -> None:
    """Write the generated parts of the documentation, and fail if any was stale.

    `-- --check` writes nothing.
    """
    install(session, "-e", ".[docs,test]")
    run(session, "conformance.meta.docs", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style (ruff) and the import rules (import-linter)."""
    tools = "ruff", "import-linter", "check-jsonschema"
    session.install("-c", CONSTRAINTS, *tools, silent=True)
    session.run("ruff", "check", *(session.posargs or ["."]))
    session.run("ruff", "format", "--check", *(session.posargs or ["."]))
    session.run("lint-imports", env={"PYTHONPATH": "."})
    # The schemas are those that come with the tool.
    check = "check-jsonschema", "--builtin-schema"
    workflows = *Path(".github").rglob("workflows/*"), *CALLER.rglob("workflows/*")
    session.run(*check, "vendor.github-workflows", *map(str, workflows))
    actions = Path(".github/actions").rglob("action.yml")
    session.run(*check, "vendor.github-actions", *map(str, actions))


@nox.session
def typing(session: nox.Session) -> None:
    """Check types: mypy, strict, on everything."""
    install(session, "-e", ".[test]", "mypy", "nox", "types-jsonschema")
    session.run("mypy", *session.posargs)


# What a wheel must hold beside its modules.
DATA = (
    "aoti_ref/aoti-package-2.schema.json",
    "aoti_ref/py.typed",
    "conformance/py.typed",
    "conformance/SPEC.md",
    "conformance/aoti-conformance-1.schema.json",
    "conformance/failure_modes.toml",
    "conformance/templates/board.css",
    "conformance/templates/board.html.j2",
    "conformance/templates/board.js",
    "conformance/expected/spaces.toml",
    "conformance/expected/torch_aoti.toml",
    "conformance/expected/torch_compile.toml",
    "fixtures/py.typed",
    "fixtures/recipes/flux/recipe.json",
    "fixtures/recipes/flux/model_index.json",
    "fixtures/recipes/sdxl/unet/config.json",
)


@nox.session
def build(session: nox.Session) -> None:
    """Build wheel and sdist, open both, and look for everything that must be inside."""
    session.install("-c", CONSTRAINTS, "build", silent=True)
    folder = Path(session.create_tmp()) / "dist"
    session.run("python", "-m", "build", "--outdir", str(folder), *session.posargs)
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as opened:
        inside = set(opened.namelist())
        points = next(name for name in inside if name.endswith("entry_points.txt"))
        text = opened.read(points).decode()
    with tarfile.open(sdist) as archive:
        source = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {*DATA, *(str(path) for path in Path("fixtures/recipes").rglob("*.json"))}
    lost = sorted(wanted - inside) + sorted({*wanted, "noxfile.py", "LICENSE"} - source)
    lost += [
        p
        for p in ("pytest11", "console_scripts", "aoti_conformance.adapters")
        if p not in text
    ]
    if lost:
        session.error(f"the distribution lacks: {', '.join(lost)}")
    session.log(f"{wheel.name}: {len(inside)} files; {sdist.name}: {len(source)} files")


# An empty environment each time: what is not in the wheel shall be missed.
@nox.session(reuse_venv=False)
def downstream(session: nox.Session) -> None:
    """Gate a sample project from the built wheel: green, red, repaired, green."""
    session.install("-c", CONSTRAINTS, "build", silent=True)
    made = [Path(session.create_tmp()) / name for name in ("wheel", "thin-layer")]
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)
    session.run("python", "-m", "build", "--wheel", "--outdir", str(made[0]))
    (wheel,), copy = made[0].glob("*.whl"), made[1]
    shutil.copytree(CALLER, copy)
    install(session, f"{wheel}[test]")
    session.install("-c", CONSTRAINTS, "-e", f"{copy}[test]", silent=True)
    program = Path("examples/gate_downstream.py").resolve()
    session.run("python", str(program), str(Path.cwd()), str(copy))


def _asked(session: nox.Session, *options: str) -> bool:
    return any(arg.split("=")[0] in options for arg in session.posargs)
