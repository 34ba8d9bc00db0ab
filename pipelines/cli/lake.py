"""`callward compact`: small data files merged."""

from callward.settings import load
from pipelines import terminal
from pipelines.cli.options import AsJson, Config, DryRun


def compact(dry_run: DryRun = False, as_json: AsJson = False, config: Config = None) -> None:
    """Merge small data files into few, while nights, streams and queries go on. Nobody's answer changes."""
    from pipelines import compact as compactions

    with terminal.progress(as_json) as progress:
        done = compactions.compact(load(config), dry_run=dry_run, progress=progress)
    if as_json:
        terminal.document(done.document())
    else:
        terminal.show(*done.told())
