"""`callward keys`: roots, epochs, exports of the register, copies in escrow, and persons who approve."""

from pathlib import Path
from typing import Annotated, Any

import typer

from callward.settings import load
from pipelines import terminal
from pipelines.cli.options import AsJson, Config, DryRun

app = typer.Typer(no_args_is_help=True, help="Keys: roots and their epochs, exports of the register, persons.")
copy_app = typer.Typer(no_args_is_help=True, help="Copies of roots that lie elsewhere: where, and that one is gone.")
person_app = typer.Typer(no_args_is_help=True, help="Persons whose signature approves policies, purges and releases.")
app.add_typer(copy_app, name="copy")
app.add_typer(person_app, name="person")

KeyDomain = Annotated[str, typer.Option("--domain", help="Whose root, such as billing.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; recorded in the audit log.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Lower-case letters, digits, dots, dashes: first.person")]


def _answer(document: dict[str, Any], as_json: bool, sentence: str) -> None:
    if as_json:
        terminal.document(document)
    else:
        terminal.show(sentence)


@app.command("list")
def list_keys(as_json: AsJson = False, config: Config = None) -> None:
    """Month keys by key domain and state, epochs of the roots, copies of roots. Opens no key."""
    from pipelines.reports import keys as keys_report

    seen = keys_report.overview(load(config))
    if as_json:
        terminal.document(seen)
    else:
        terminal.show(*keys_report.told(seen))


@app.command()
def rotate(
    domain: KeyDomain,
    reason: Reason = "rotation",
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Give a key domain a new root and destroy the old one; no data file is touched. Ends with a register export."""
    from pipelines.reports import keys as keys_report

    settings = load(config)
    if dry_run:
        would = keys_report.would_rotate(settings, domain)
        _answer(would, as_json, f"{terminal.count(would['keys'], 'key')} of {domain} would be wrapped by a new root")
        return
    done = keys_report.rotated(settings, domain, reason)
    left = "; ".join(f"copy {copy['copy_no']} ({copy['place']})" for copy in done["copies_left"])
    sentence = f"{domain} has the root {done['root_id']} now; exported to {done['export']}"
    _answer(done, as_json, sentence + (f"\nto be destroyed, then confirmed: {left}" if left else ""))
    if left:
        raise typer.Exit(3)


@app.command()
def export(
    reason: Reason = "asked for", dry_run: DryRun = False, as_json: AsJson = False, config: Config = None
) -> None:
    """Write a signed export of the key register beside the lake, and to keys.export_to."""
    from callward.keys import exports, rotation

    settings = load(config)
    if dry_run:
        exports.check(settings)
        _answer({"dry_run": True}, as_json, f"an export would be written to {settings.register_path}")
        return
    rotation.recover(settings)
    path = exports.write(settings, reason)
    second = settings.export_path
    document = {"export": str(path), "second": str(second / path.name) if second else None}
    _answer(document, as_json, f"{path}" + (f", and {second / path.name}" if second else ""))


@app.command()
def restore(
    file: Annotated[Path, typer.Option("--export", help="The newest register export.")],
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Put the register of an export into an older database; exit code 3 when something is still missing."""
    from callward.keys import exports, rotation
    from pipelines.reports import keys as keys_report

    settings = load(config)
    done = exports.restore(settings, file, dry_run=dry_run)
    if not dry_run:
        rotation.recover(settings)
    if as_json:
        terminal.document(done)
    else:
        terminal.show(*keys_report.told_restore(done))
    if keys_report.must_look(done):
        raise typer.Exit(3)


# -- copies of roots ---------------------------------------------------------------------------------------------------


@copy_app.command("add")
def copy_add(
    domain: KeyDomain,
    place: Annotated[str, typer.Option("--place", help="Where it lies, such as 'safe 2, Denver'.")],
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Record where a copy of a key domain's present root lies."""
    from callward.keys import rotation
    from pipelines.reports import keys as keys_report

    settings = load(config)
    keys_report.check_domain(domain)
    if dry_run:
        _answer({"dry_run": True}, as_json, f"a copy of the root of {domain} would be recorded")
        return
    made = rotation.add_copy(settings, domain, place)
    document = {"copy_no": made.copy_no, "domain": domain, "root_id": made.root_id, "place": place}
    _answer(document, as_json, f"copy {made.copy_no}: {made.root_id} of {domain}, {place}")


@copy_app.command("confirm")
def copy_confirm(
    copy_no: Annotated[int, typer.Argument(metavar="COPY_NO", help="As 'keys list' prints it.")],
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Record that a copy of a root was destroyed where it lay."""
    from callward.keys import rotation

    settings = load(config)
    if dry_run:
        _answer({"dry_run": True}, as_json, f"copy {copy_no} would be recorded as destroyed")
        return
    done = rotation.confirm_copy(settings, copy_no)
    document = {"copy_no": copy_no, "domain": done.domain, "root_id": done.root_id, "destroyed": True}
    _answer(document, as_json, f"copy {copy_no} is recorded as destroyed")


# -- persons -----------------------------------------------------------------------------------------------------------


@person_app.command("new")
def person_new(
    name: Name,
    out: Annotated[Path, typer.Option("--out", help="A new file, which nobody else may read.")],
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make a person's own key file, and print its public half for the custodian. Needs no workspace."""
    from callward.keys import approvers, signing

    approvers.check_name(name)
    if dry_run:
        _answer({"dry_run": True}, as_json, f"{out} would be made")
        return
    public = signing.create(out).hex()
    _answer({"name": name, "file": str(out), "public": public}, as_json, public)
    if not as_json:
        terminal.say(f"{out} is made; the custodian: callward keys person add {name} --public {public}")


@person_app.command("add")
def person_add(
    name: Name,
    public: Annotated[str, typer.Option("--public", help="The public half, 64 hex digits.")],
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Register a person, signed with the custodian's key."""
    from callward.keys import approvers

    settings = load(config)
    if dry_run:
        approvers.check_name(name)
        _answer({"dry_run": True}, as_json, f"{name} would be registered")
        return
    approvers.register(settings, name, public)
    _answer({"name": name, "public": public}, as_json, f"{name} may approve now")


@person_app.command("revoke")
def person_revoke(name: Name, dry_run: DryRun = False, as_json: AsJson = False, config: Config = None) -> None:
    """End a person's right to approve. What was decided with it stays decided."""
    from callward.keys import approvers

    settings = load(config)
    if dry_run:
        _answer({"dry_run": True}, as_json, f"{name} would be revoked")
        return
    approvers.revoke(settings, name)
    _answer({"name": name, "revoked": True}, as_json, f"{name} approves nothing any more")


@person_app.command("list")
def person_list(as_json: AsJson = False, config: Config = None) -> None:
    """Every person, also those who were revoked, and whether the custodian's signature holds."""
    from callward.keys import approvers

    terminal.out(approvers.listed(load(config)), as_json, "Persons")
