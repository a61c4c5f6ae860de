"""codeframe: runs plans of coding tasks, and shows what came of them."""

import click

from codeframe.cli.clean import clean
from codeframe.cli.doctor import doctor
from codeframe.cli.fleet import down, up, workers
from codeframe.cli.init import init
from codeframe.cli.look import cancel, runs, show, watch
from codeframe.cli.run import run


@click.group(context_settings={"max_content_width": 110})
@click.version_option(package_name="codeframe")
def main() -> None:
    """Runs plans of coding tasks on git repositories, and shows what came of them."""


for command in (init, doctor, run, watch, runs, show, cancel, clean, workers, up, down):
    main.add_command(command)

if __name__ == "__main__":
    main()
