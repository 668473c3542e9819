"""The command line: ``pyrolvm compare``, ``fit``, ``diagnose``, ``study``, ``report``, and more.

Torch and Pyro are loaded by the command that needs them, so that ``pyrolvm --help`` answers at
once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, CycloptsError, Parameter

from pyrolvm import __version__

if TYPE_CHECKING:
    import xarray as xr

app = App(
    name="pyrolvm",
    version=__version__,
    help="How far is a guide from the true posterior, and what would another buy?\n\n"
    "Example: pyrolvm compare",
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
data_app = App(
    name="data", help="Data sets: which there are, where they lie, and how to fetch them."
)
app.command(data_app)

DEFAULT_MODEL = "cpa-generator:2:32"
DEFAULT_DATA = "digits"
ESSENTIAL = ("guide", "gap", "approximation", "amortization", "k-hat")
DEFAULT_STEPS = 2000
RATE_PLANE = "rate-plane"
IDENTIFIABILITY = "identifiability"
HELMHOLTZ = "helmholtz"
HELMHOLTZ_OPTIONS = "--objectives, --depths, --seeds, --rates, --device"
OTHER_STUDIES = (RATE_PLANE, HELMHOLTZ, IDENTIFIABILITY)
STUDY_FILE = """    [[grid]]
    model = {name = "residual-generator", latent_dim = 2, contraction = [0.5, 0.9]}
    guide = {name = "amortized", family = "full", hidden = [[4], [16], [64]]}
    seed = [0, 1]
"""


@app.command
def compare(
    *,
    model: str = DEFAULT_MODEL,
    data: str = DEFAULT_DATA,
    guide: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    steps: int = DEFAULT_STEPS,
    particles: int = 1000,
    seed: int = 0,
    out: Path | None = None,
    device: str = "cpu",
    config: Path | None = None,
) -> None:
    """Train a model, then compare guides on held-out data against the posterior.

    Prints one table and writes one run folder: report.html, comparison.nc, table.csv, figures,
    weights, config.json. An interrupted run goes on when the same command is given again.

    Example: pyrolvm compare

    Example: pyrolvm compare --data circle --model cpa-generator:1:16x16 --guide exact-cpa

    Example: pyrolvm compare --guide amortized:full:128x128 --guide per-datum:mixture --steps 4000

    Example: pyrolvm compare --config runs/compare-0123456789ab/config.json

    Args:
        model: Name, latent dimension, widths of hidden layers, options; see "pyrolvm list".
        data: Name of a data set, or a .npy, .npz or .csv file.
        guide: Name, family, widths of hidden layers; give it once for each guide.
        steps: Training steps of the model, and of each amortized guide; per-datum guides, and
            those that split the gap, are fitted in as many, but at most 800.
        particles: Draws of each guide for each datum.
        seed: The same seed gives the same result; a whole number from 0 to 2**63 - 1.
        out: Run folder; by default runs/compare-<hash of the configuration>.
        device: Where to compute, for example cpu or cuda.
        config: A config.json of an earlier run, which is repeated; other options are then refused.
    """
    asked = {
        "command": "compare",
        "model": model,
        "data": data,
        "guides": list(guide),
        "steps": steps,
        "particles": particles,
        "seed": seed,
        "device": device,
    }
    from pyrolvm.report.run_folder import repeated
    from pyrolvm.runs import run_compare

    defaults = {"model": DEFAULT_MODEL, "data": DEFAULT_DATA, "guides": [], "steps": DEFAULT_STEPS}
    if config is not None:
        asked = repeated(config, asked, [k for k, v in defaults.items() if asked[k] != v])
    path, tree, is_new = run_compare(asked, out)
    if not is_new:
        print(f"{path} is finished; this is its stored result.")
    _print_table(tree)
    print(f"Report: {path / 'report.html'}")


@app.command
def fit(
    *,
    model: str = DEFAULT_MODEL,
    data: str = DEFAULT_DATA,
    guide: str = "amortized:full",
    steps: int = DEFAULT_STEPS,
    seed: int = 0,
    out: Path | None = None,
    device: str = "cpu",
) -> None:
    """Train a model together with one guide, and store the weights.

    An interrupted run goes on when the same command is given again.

    Example: pyrolvm fit --model vae:2:64 --data circle --guide amortized:flow:64 --steps 500

    Args:
        model: Name, latent dimension, widths of hidden layers, options; see "pyrolvm list".
        data: Name of a data set, or a .npy, .npz or .csv file.
        guide: Name, family, widths of hidden layers.
        steps: Training steps.
        seed: The same seed gives the same result; a whole number from 0 to 2**63 - 1.
        out: Run folder; by default runs/fit-<hash of the configuration>.
        device: Where to compute, for example cpu or cuda.
    """
    asked = {
        "command": "fit",
        "model": model,
        "data": data,
        "guides": [guide],
        "steps": steps,
        "seed": seed,
        "device": device,
    }
    from pyrolvm.runs import run_fit

    print(run_fit(asked, out))


@app.command
def diagnose(
    model: str,
    guide: str,
    data: Path,
    /,
    *,
    state: Path | None = None,
    particles: int = 1000,
    effort: Literal["quick", "standard", "full"] = "standard",
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Can this fit be trusted? Diagnose any Pyro model and guide of your own.

    Prints the verdict with its reasons and writes one run folder: report.html, diagnosis.nc,
    findings.csv, config.json.

    Example: pyrolvm diagnose my_module:model my_module:guide data.npz --state weights.safetensors

    Example: pyrolvm diagnose my_module:model "my_module:make_guide()" data.csv --effort quick

    Args:
        model: module:attribute, looked for in the current folder first; a function or a module,
            or, with () at its end, a function that makes one.
        guide: Likewise.
        data: A .npz file, whose arrays are the arguments by name (a single one is the first
            argument); a .npy file: the first argument; a .csv file: columns that the model's
            arguments are named after, or else one matrix, the first argument.
        state: The trained weights, a .safetensors file from
            pyrolvm.save_weights(model, guide, path); left out where the module itself trains or
            loads them.
        particles: Draws of the guide for each datum.
        effort: quick: importance weights and predictions, in seconds; standard: draws of the
            posterior for some data, the split of the gap and, for amortized guides, calibration;
            full: more data, and calibration by refits.
        seed: The same seed gives the same result; a whole number from 0 to 2**63 - 1.
        out: Run folder; by default runs/diagnose-<hash of the configuration>.
    """
    from pyrolvm.diagnostics.diagnosis_tree import read_findings
    from pyrolvm.diagnostics.verdict import judge
    from pyrolvm.runs_diagnose import run_diagnose

    asked = {
        "command": "diagnose",
        "model": model,
        "guide": guide,
        "data": str(data),
        "state": None if state is None else str(state),
        "particles": particles,
        "effort": effort,
        "seed": seed,
    }
    path, tree, is_new = run_diagnose(asked, out)
    if not is_new:
        print(f"{path} is finished; this is its stored result.")
    print(judge(read_findings(tree)))
    print(f"Report: {path / 'report.html'}\nTable: {path / 'findings.csv'}")


@app.command
def report(folder: Path) -> None:
    """Build the page and the figures of a finished run anew from its stored numbers.

    Example: pyrolvm report runs/compare-0123456789ab

    Args:
        folder: The run folder, of a comparison or of a diagnosis.
    """
    from pyrolvm.core.errors import RunFolderError
    from pyrolvm.diagnostics import arviz_export
    from pyrolvm.report.diagnosis_folder import is_diagnosed, read_diagnosis, rebuild_page
    from pyrolvm.report.run_folder import TREE, read_config, rebuild
    from pyrolvm.studies.command import refuse_study_folder

    if is_diagnosed(folder):
        print(rebuild_page(read_diagnosis(folder), folder))
        return
    refuse_study_folder(folder)
    read_config(folder)
    if not (folder / TREE).exists():
        raise RunFolderError(
            f"{folder} is not finished: give the command of its config.json again."
        )
    print(rebuild(arviz_export.load(folder / TREE), folder))


@app.command
def study(
    study: str | None = None,
    /,
    *,
    size: str = "default",
    data: str | None = None,
    out: Path | None = None,
    jobs: int | None = None,
    backend: str = "local",
    scheduler: str | None = None,
    resume: bool = True,
    retry_failed: Annotated[bool, Parameter(negative=())] = False,
    grid: int | None = None,
    network: str = "mlp",
    objectives: str | None = None,
    depths: str | None = None,
    seeds: str | None = None,
    rates: str | None = None,
    device: str | None = None,
) -> None:
    """Run a study: a grid of configurations, one run folder a cell, one table.

    Interrupted or killed, the same command goes on; several runners may share a folder. Without a
    name the built-in studies and the keys of a study file are listed.

    Example: pyrolvm study encoder-complexity --size smoke

    Example: pyrolvm study encoder-complexity --jobs 2 --out runs/widths

    Example: pyrolvm study em-versus-vae --data circle,digits

    Example: pyrolvm study rate-plane --data digits --grid 5

    Example: pyrolvm study helmholtz --data nltcs,adult --objectives coupled,rws --depths 1,2,4,6

    Example: pyrolvm study identifiability

    Example: pyrolvm study my_study.toml --backend dask --scheduler tcp://host:8786

    Args:
        study: Name of a built-in study, or a .toml file.
        size: One of the study's sizes: smoke, default or full for those that are built in.
        data: Data sets, separated by commas. Of a study that names them only these are run; one
            that it does not name takes the place of its data.
        out: Folder; by default runs/study-<name>-<size>.
        jobs: Processes of one thread each, on this machine; by default one for each core.
        backend: Where cells run: local, dask or ray.
        scheduler: Address of a Dask scheduler, for example tcp://host:8786.
        resume: Go on in a folder that has cells already; refused otherwise.
        retry_failed: Try cells again that failed before.
        grid: Weights of each layer (rate-plane only).
        network: mlp or conv (rate-plane only).
        objectives: Among coupled, rws, ws, vimco, elbo and iwae, separated by commas (helmholtz
            only).
        depths: Numbers of layers at which coupled and rws are compared (helmholtz only).
        seeds: Each trains every cell once, for example 0,1,2 (helmholtz only).
        rates: Learning rates, among which validation rows choose (helmholtz only).
        device: Where to compute, for example cuda (helmholtz only).
    """
    if study is None:
        _print_studies()
        return
    spreads = jobs is not None or backend != "local" or scheduler or retry_failed or not resume
    if study in OTHER_STUDIES and spreads:
        from pyrolvm.core.errors import SettingError

        own = {
            RATE_PLANE: "--size, --data, --grid, --network and --out",
            HELMHOLTZ: f"--size, --data, {HELMHOLTZ_OPTIONS} and --out",
            IDENTIFIABILITY: "--size and --out",
        }
        raise SettingError(
            f"{study} trains all models in one process and always goes on where it stopped: it "
            f"takes {own[study]} only."
        )
    if study == IDENTIFIABILITY and data is not None:
        from pyrolvm.core.errors import SettingError

        raise SettingError(
            f"{IDENTIFIABILITY} makes its own data: it takes --size and --out only, but --data "
            f"names {data!r}."
        )
    if study != RATE_PLANE and (grid is not None or network != "mlp"):
        from pyrolvm.core.errors import SettingError

        raise SettingError(f"--grid and --network are for {RATE_PLANE}; {study} has its own grid.")
    of_helmholtz = (objectives, depths, seeds, rates, device)
    if study != HELMHOLTZ and any(each is not None for each in of_helmholtz):
        from pyrolvm.core.errors import SettingError

        raise SettingError(f"The options {HELMHOLTZ_OPTIONS} are for {HELMHOLTZ} only.")
    if study == RATE_PLANE:
        _rate_plane(size, data, grid, network, out)
        return
    if study == IDENTIFIABILITY:
        _identifiability(size, out)
        return
    if study == HELMHOLTZ:
        _helmholtz(size, data, out, *of_helmholtz)
        return
    from joblib import cpu_count

    from pyrolvm.plots.study_figures import check_figures
    from pyrolvm.report.study_page import write_study
    from pyrolvm.report.terminal import print_table
    from pyrolvm.studies.command import find_study, run_study
    from pyrolvm.studies.frame import known_columns

    asked = find_study(study, size, OTHER_STUDIES)
    if data is not None:
        asked = asked.with_data(*data.split(","))
    check_figures(asked.figures, known_columns(asked.cells))
    result, failures = run_study(
        asked, size, out, n_jobs=jobs or cpu_count(), backend=backend, scheduler=scheduler,
        resume=resume, retry_failed=retry_failed,
    )  # fmt: skip
    page, tables = write_study(asked, result)
    for table in tables:
        print_table(table)
    small = "The smoke size shows that the study runs; its figures mean nothing yet."
    for note in asked.notes if size != "smoke" else [small]:
        print(f"Note: {note}")
    print(f"Page: {page}\nTable: {result.folder / 'frame.csv'}, frame.parquet")
    if failures:
        print(f"\nFailed cells: {len(failures)}", *failures, sep="\n  ", file=sys.stderr)
        sys.exit(1)


@app.command(name="list")
def list_names() -> None:
    """Show models, guides, data sets, and which guide serves which model.

    Example: pyrolvm list
    """
    from rich.console import Console

    from pyrolvm.datasets import describe
    from pyrolvm.families import FAMILIES
    from pyrolvm.registry import GUIDES, MODELS, example_model, guides_for
    from pyrolvm.report.terminal import rich_table

    console = Console()
    served = {name: ", ".join(guides_for(example_model(name))) for name in MODELS}
    shown = [(name, _summary(kind), served[name]) for name, kind in MODELS.items()]
    console.print(rich_table("Models", ("name", "what it is", "guides that serve it"), shown))
    rows = [(name, _summary(kind)) for name, kind in GUIDES.items()]
    rows += [(name, f"short for amortized:{name}; also per-datum:{name}") for name in FAMILIES]
    console.print(rich_table("Guides", ("name", "what it is"), rows))
    sets = [(d.name, f"{d.rows} × {d.dim}", d.origin) for d in describe()]
    console.print(rich_table("Data sets", ("name", "rows × columns", "origin"), sets))


@data_app.command(name="list")
def data_list() -> None:
    """List the data sets: rows in all, where each comes from and lies, under which licence.

    Example: pyrolvm data list
    """
    from pyrolvm.datasets import describe
    from pyrolvm.report.terminal import print_table
    from pyrolvm.report.text_table import TextTable

    rows = tuple(
        (d.name, d.kind, str(d.rows), str(d.dim), d.origin, d.licence, d.place) for d in describe()
    )
    headers = ("name", "kind", "rows", "columns", "origin", "licence", "place")
    print_table(TextTable("Data sets", headers, rows, keys=1))


@data_app.command(name="fetch")
def data_fetch(name: str) -> None:
    """Download a data set into the cache, for later use without a network.

    Example: pyrolvm data fetch fashion_mnist

    Example: pyrolvm data fetch nltcs

    Args:
        name: Name of a data set.
    """
    from pyrolvm.datasets import fetch

    places = fetch(name)
    print("\n".join(map(str, places)) or f"{name} needs no download.")


@data_app.command(name="where")
def data_where() -> None:
    """Print the folder of fetched data sets; the environment variable PYROLVM_DATA sets it.

    Example: pyrolvm data where
    """
    from pyrolvm.datasets import cache_folder

    print(cache_folder())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; what a user can mend is one sentence on stderr and exit code 2."""
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except KeyboardInterrupt:
        print("\npyrolvm: interrupted; the same command goes on from here.", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        from pyrolvm.core.errors import PyroLVMError

        if not isinstance(error, (PyroLVMError, CycloptsError, OSError)):
            raise
        print(f"pyrolvm: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


def _rate_plane(
    size: str, data: str | None, grid: int | None, network: str, out: Path | None
) -> None:
    from pyrolvm.report.rate_plane_command import run
    from pyrolvm.report.rate_plane_page import task_table
    from pyrolvm.report.terminal import print_table

    plane, page = run(size, data, grid, network, out)
    print_table(task_table(plane))
    if size == "smoke":
        print("Note: The smoke size shows that the study runs; its figures mean nothing yet.")
    print(f"Page: {page}\nTable: {plane.folder / 'frame.csv'}")


def _identifiability(size: str, out: Path | None) -> None:
    from pyrolvm.report.identifiability_command import run
    from pyrolvm.report.identifiability_page import short_table
    from pyrolvm.report.identifiability_words import headline
    from pyrolvm.report.terminal import print_table

    found, page = run(size, out)
    print_table(short_table(found))
    small = "Note: The smoke size shows that the study runs; its figures mean nothing yet."
    print(headline(found) if size != "smoke" else small)
    print(f"Page: {page}\nTable: {found.folder / 'frame.csv'}, runs.csv")


def _helmholtz(
    size: str,
    data: str | None,
    out: Path | None,
    objectives: str | None,
    depths: str | None,
    seeds: str | None,
    rates: str | None,
    device: str | None,
) -> None:
    from pyrolvm.report.helmholtz_command import run
    from pyrolvm.report.helmholtz_tables import likelihood_table
    from pyrolvm.report.helmholtz_words import headline
    from pyrolvm.report.terminal import print_table

    found, page = run(size, data, out, objectives, depths, seeds, rates, device)
    print_table(likelihood_table(found))
    print(headline(found))
    if size == "smoke":
        print("Note: The smoke size shows that the study runs; its figures mean nothing yet.")
    print(f"Page: {page}\nTable: {found.folder / 'cells.csv'}, differences.csv")


def _print_studies() -> None:
    from rich.console import Console

    from pyrolvm.report import helmholtz_command, identifiability_command, rate_plane_command
    from pyrolvm.report.terminal import rich_table
    from pyrolvm.studies.builtin import descriptions
    from pyrolvm.studies.settings import table

    console = Console()
    own = (rate_plane_command, helmholtz_command, identifiability_command)
    questions = {**descriptions(), **{study.NAME: study.DESCRIPTION for study in own}}
    console.print(rich_table("Studies", ("name", "question"), sorted(questions.items())))
    console.print(rich_table("Keys of a cell", ("key", "default", "meaning"), table()))
    print(f"A study file, with every list an axis:\n\n{STUDY_FILE}")
    print("Names of models, guides and data: pyrolvm list")


def _print_table(tree: xr.DataTree) -> None:
    from rich.console import Console
    from rich.measure import Measurement

    from pyrolvm.report import format_cells, unit
    from pyrolvm.report.table import chain_note
    from pyrolvm.report.terminal import rich_table

    headers, rows = format_cells(tree)
    console = Console()
    title = f"Scored: {tree.attrs['scored']}"
    table = rich_table(title, headers, rows)
    width = Measurement.get(console, console.options.update(width=999), table).maximum
    if not sys.stdout.isatty():  # a file or a pipe takes lines of any length
        console.width = width
    elif width > console.width:  # a number that is cut is worse than one that is elsewhere
        shown = [i for i, h in enumerate(headers) if h.startswith(ESSENTIAL)]
        headers, rows = [headers[i] for i in shown], [[row[i] for i in shown] for row in rows]
        table = rich_table(f"{title} (all columns: table.csv, report.html)", headers, rows)
    console.print(table)
    print(f"Evidence: {tree.attrs['evidence_method']}. Densities in {unit(tree)}.")
    if note := chain_note(tree):
        print(note)


def _summary(kind: type) -> str:
    """First paragraph of a docstring, as plain text."""
    paragraph = (kind.__doc__ or "").strip().split("\n\n")[0]
    return " ".join(paragraph.replace("``", "").split())


if __name__ == "__main__":
    main()
