"""The command `aoti-conformance fuzz`."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from conformance import isolated
from conformance.exit_codes import ExitCode
from conformance.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from conformance.adapter import Adapter
    from conformance.fuzz_results import Case, Finding, Tally

_MOST_SHOWN = 20
_WORKERS = min(os.cpu_count() or 1, 8)


_EPILOG = """
\b
Examples:
  aoti-conformance fuzz --impl my_pkg.adapter --calls 2000 --output mine-fuzz.jsonl
  aoti-conformance fuzz --impl my_pkg.adapter --subject many --case rank 17
  aoti-conformance fuzz --impl my_pkg.adapter --packages 500
"""


@click.command(epilog=_EPILOG)
@click.option("--impl", default="reference", show_default=True, help="Who is called.")
@click.option(
    "--calls",
    default=1000,
    show_default=True,
    type=click.IntRange(min=1),
    help="How many calls.",
)
@click.option(
    "--packages",
    type=click.IntRange(min=1),
    help="Damage a package so many times instead, and load it.",
)
@click.option(
    "--seed", default=0, show_default=True, help="For weights and for what is drawn."
)
@click.option(
    "--subject",
    "subjects",
    multiple=True,
    help="Only calls of this module; repeatable.",
)
@click.option(
    "--case",
    type=(str, int),
    metavar="PERTURBATION NUMBER",
    help="Only this call, or this damage, as a finding tells it.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write results here, as JSON Lines; `report` takes them.",
)
@click.option(
    "-j",
    "--jobs",
    default=_WORKERS,
    show_default=True,
    type=click.IntRange(min=1),
    help="Children at a time.",
)
@click.option(
    "--device", default="cpu", show_default=True, help="Where: cpu, cuda, cuda:1."
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="AOTI_CACHE",
    default=Path("~/.cache/aoti-conformance").expanduser(),
    help="Where compiled packages are kept "
    "(default: $AOTI_CACHE or ~/.cache/aoti-conformance).",
)
def fuzz(
    *,
    impl: str,
    calls: int,
    packages: int | None,
    seed: int,
    subjects: tuple[str, ...],
    case: tuple[str, int] | None,
    output: Path | None,
    jobs: int,
    device: str,
    cache: Path,
) -> None:
    """Make calls that are almost right, and count what became of them.

    Every call must equal eager or be refused, in words; where eager raises, it must be
    refused. A good call that is refused is a "false refusal"; an error that nobody
    raises on purpose, such as an IndexError, is "unnamed": both count against a layer.
    With --packages, every damaged package must be answered rightly, or be refused in
    words and leave no file. The exit code is 0 if all were, 1 if not, 4 if nothing
    could be tried. A module that is not compiled is named, and does not count.
    """
    isolated.prepare_environment()
    # torch, which these import, takes its time.
    from conformance import campaign, fuzz, fuzz_packages, fuzz_results
    from conformance import device as devices
    from conformance.adapter import BadAdapter, load
    from conformance.mutations import KINDS as MUTATIONS
    from conformance.perturb import KINDS

    known = [] if packages else fuzz.subjects()
    _refuse_unknown("--subject", subjects, known)
    _refuse_unknown(
        "--case", case[:1] if case else (), MUTATIONS if packages else KINDS
    )
    if case and len(subjects) != 1 and not packages:
        raise Problem("--case wants one --subject, the one of the finding")
    _refuse_in_vain(output)
    try:
        adapter = load(impl)
    except BadAdapter as error:
        raise Problem(f"--impl={impl}: {error}") from error
    if packages and "package" not in adapter.capabilities:
        raise Problem(f"--impl={impl}: it saves no packages")
    devices.choose(device)
    names = [fuzz_packages.SUBJECT] if packages else list(subjects) or list(known)
    drawn = (
        [fuzz_results.Case(names[0], *case)]
        if case
        else fuzz_packages.plan(packages, seed)
        if packages
        else list(fuzz.plan(names, calls, seed))
    )
    kind = fuzz_packages.Campaign if packages else campaign.Campaign
    run = kind(adapter, cache, seed, jobs)
    tally = fuzz_results.Tally()
    findings = list(_shown(run.run(drawn), tally, len(drawn)))
    _tell(tally, f"{adapter.info.name} {adapter.info.version}", run.not_compiled)
    if not findings:
        raise Problem(f"--impl={impl}: compiled none of {', '.join(names)}")

    def repeat(found: Case) -> str:
        what = ["--packages", "1"] if packages else ["--subject", found.subject]
        options = ["--impl", impl, "--seed", str(seed), *what]
        if device != "cpu":
            options += ["--device", device]
        return shlex.join(
            [
                "aoti-conformance",
                "fuzz",
                *options,
                "--case",
                found.kind,
                str(found.seed),
            ]
        )

    _tell_findings(findings, repeat)
    if output is not None:
        header = _header(adapter, impl, seed, len(drawn), run.not_compiled)
        try:
            fuzz_results.write(output, header, findings, tally, repeat)
        except OSError as error:
            raise Problem(f"--output={output}: cannot be written ({error})") from error
    sys.exit(ExitCode.OK if tally.clean else ExitCode.FOUND)


def _refuse_in_vain(output: Path | None) -> None:
    """Refuse to make calls that nothing would judge, or nobody would read of."""
    from conformance.collecting import NO_ASSERTS

    if not __debug__:
        raise Problem(NO_ASSERTS)
    if output is not None and not os.access(output.absolute().parent, os.W_OK):
        raise Problem(f"--output={output}: its folder cannot be written to")


def _refuse_unknown(option: str, names: Iterable[str], known: Iterable[str]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise Problem(f"{option}={unknown[0]}: is none of {', '.join(known)}")


def _shown(findings: Iterable[Finding], tally: Tally, total: int) -> Iterable[Finding]:
    """Count findings as they come, with a bar on the standard error."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    for finding in track(
        findings, "calls", total, console=console, disable=not console.is_terminal
    ):
        tally.add(finding)
        yield finding


def _tell(tally: Tally, name: str, not_compiled: dict[str, str]) -> None:
    from rich.console import Console

    from conformance.fuzz_board import table

    width = max(shutil.get_terminal_size((100, 24)).columns, 100)
    Console(highlight=False, width=width).print(table(tally, name))
    for subject, reason in not_compiled.items():
        click.echo(f"{subject} was not compiled: {reason}")


def _tell_findings(findings: list[Finding], repeat: Any) -> None:
    from conformance.fuzz_results import CLEAN

    found = [finding for finding in findings if finding.outcome not in CLEAN]
    for finding in found[:_MOST_SHOWN]:
        first = finding.detail.partition("\n")[0]
        click.echo(f"{finding.outcome}: {first}\n    {repeat(finding.case)}")
    if len(found) > _MOST_SHOWN:
        click.echo(f"and {len(found) - _MOST_SHOWN} more; --output keeps all")


def _header(
    adapter: Adapter, impl: str, seed: int, calls: int, not_compiled: dict[str, str]
) -> dict[str, Any]:
    from conformance.environment import describe

    return {
        "implementation": {
            "name": adapter.info.name,
            "version": adapter.info.version,
            "adapter": impl,
        },
        "environment": describe(),
        "calls": calls,
        "seed": seed,
        "not_compiled": not_compiled,
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
