"""How one studio is set up: folders, devices, who may reach it. Made once, from flags, environment and a file."""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from engines.errors import StudioError
from engines.media import credentials
from engines.memory import planning
from engines.memory.budget import read_limits
from engines.memory.planning import PRECISIONS
from engines.parallel import choosing
from engines.prompting.tasks import REFINERS
from engines.runtime import compiling
from engines.runtime.attention import AUTO, CHOICES, unusable
from engines.runtime.settings import MachineSettings
from engines.wording import either, given, printable
from studio import adapters, language, settings_file
from studio.paths import absolute, reason

PICTURES, PRESETS, FOR_BROWSERS = "pictures", "presets", ".browser"
"""Folders in the outputs folder."""

# Folders that others than Kinora look for in the environment, also in worker processes, which run elsewhere.
_FOLDERS = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "GRADIO_TEMP_DIR", "TMPDIR")
_SPACE = "Hugging Face Space"
# Whose variables are as good as not there while they are empty; gradio, for one, reads some as numbers.
_PREFIXES = ("KINORA_", "GRADIO_", "HF_", "HUGGINGFACE_", "SPACE", "OMP_", "XDG_CACHE_HOME", "TMPDIR")


class BadSetting(StudioError):
    """A flag, a variable or a folder that a studio cannot be started with."""


@dataclass(frozen=True, kw_only=True)
class Settings(MachineSettings):
    """Everything a studio is told when it starts. What its workers must know too stands in MachineSettings.

    Attributes:
        adapters: where adapters are that people choose by name; None for the folder of this name among the models.
        outputs: where clips, their settings, uploaded pictures and the job list are kept.
        devices: names such as "cpu" or "cuda:0", one worker process each; empty finds them. A second process on the
            CPU is called "cpu:1".
        cluster: the head of a Ray cluster whose machines make the clips, "host:port"; "" for this machine's devices.
        split: whether several devices make one clip together, and how: of engines.parallel.choosing.CHOICES.
        names: other names under which a proxy or the network knows this machine.
        root_path: where a proxy serves the page: a path, or a whole address.
        password_made: nobody chose the password: it was made for this run, and whoever started the studio is told it.
        public: strangers use this studio (a Hugging Face Space): each sees only their own clips, and limits apply.
        offline: nothing in the studio reaches for another machine.
        hosted: all requests come through a proxy that tells where from (a Hugging Face Space).
        in_event: run jobs inside the page's event instead of a worker process (ZeroGPU demands it).
        queue_limit: most jobs that may wait at once.
        refiner: who refines prompts: a name of engines/prompting/tasks.py.
        metadata: clips carry the settings that made them inside; the JSON file beside them does in any case.
        language: what the page speaks: of studio.language.CHOICES.
        config: the settings file that was read; None if there is none.
        origins: setting -> the flag, the variable or the name of the file that gave it; the others have their default.
    """

    outputs: Path = Path("outputs")
    adapters: Path | None = None
    devices: tuple[str, ...] = ()
    cluster: str = ""
    split: str = choosing.NONE
    host: str = "127.0.0.1"
    port: int = 7860
    names: tuple[str, ...] = ()
    root_path: str = ""
    user: str = "kinora"
    password: str = field(default="", repr=False)
    password_made: bool = False
    public: bool = False
    offline: bool = False
    hosted: bool = False
    in_event: bool = False
    queue_limit: int = 200
    refiner: str = "rules"
    metadata: bool = True
    language: str = language.AUTO
    config: Path | None = None
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    open_browser: bool = False

    def __post_init__(self) -> None:
        for folder in (self.outputs, self.models, *self.more_models, self.certificate, self.adapters):
            if "\0" in str(folder):
                raise BadSetting(f"{given(str(folder))} cannot be the name of a file or folder:", hint="correct it.")
        object.__setattr__(self, "outputs", Path(os.path.realpath(absolute(self.outputs))))
        if self.models is not None:
            object.__setattr__(self, "models", Path(os.path.realpath(absolute(self.models))))
        if self.certificate is not None:
            object.__setattr__(self, "certificate", absolute(self.certificate))
        more = tuple(Path(os.path.realpath(absolute(folder))) for folder in self.more_models)
        object.__setattr__(self, "more_models", more)
        if self.adapters is not None:
            object.__setattr__(self, "adapters", Path(os.path.realpath(absolute(self.adapters))))
        if not is_loopback(self.host) and not self.password and not self.public:
            raise BadSetting(
                f"Serving on {self.host} lets other machines in, so it needs a password:",
                hint="set KINORA_PASSWORD (the user name is kinora), or serve on 127.0.0.1.",
            )

    @property
    def owned(self) -> bool:
        """Whether everybody whom the page lets in sits at this machine, as far as it is told."""
        return is_loopback(self.host) and not (self.public or self.names or self.root_path)

    @property
    def adapter_folder(self) -> Path | None:
        """Where adapters are chosen from; None where no folder is named."""
        return self.adapters or (self.models / adapters.FOLDER if self.models is not None else None)

    @property
    def auth(self) -> tuple[str, str] | None:
        """User name and password for the page, if there are any."""
        return (self.user, self.password) if self.password else None

    @property
    def database(self) -> Path:
        """Where the job list is kept."""
        return self.outputs / "studio.sqlite3"

    @property
    def pictures(self) -> Path:
        """Where uploaded pictures are kept, by content."""
        return self.outputs / PICTURES

    @property
    def for_browsers(self) -> Path:
        """Where uploads and second names of clips are, which browsers may fetch: gradio's folder."""
        chosen = os.environ.get("GRADIO_TEMP_DIR", "")
        return Path(chosen) if chosen else self.outputs / FOR_BROWSERS

    @property
    def most_upload_bytes(self) -> int:
        """How much the uploads may take together."""
        return 2 * 10**9 if self.public else 20 * 10**9


def check_models_folder(settings: Settings) -> None:
    """Raise BadSetting where the models folder that somebody named is none."""
    folder = settings.models
    try:
        wrong = (
            ""
            if folder is None or folder.is_dir()
            else "is a file, not a folder"
            if folder.exists()
            else "is not there"
        )
    except OSError as error:
        wrong = f"cannot be opened: {reason(error)}"
    if folder is not None and wrong:
        raise BadSetting(
            f'The models folder "{printable(folder.name)}" {wrong}.', hint="Name another, or make it first."
        )


def check_computing(settings: Settings) -> None:
    """Raise BadSetting where the attention or the precision that somebody chose cannot be computed here, or nothing be
    compiled."""
    check_compiling(settings)
    for device in settings.devices or ("",):
        if why := unusable(settings.attention, device):
            raise BadSetting(why)
    if settings.precision == planning.INT8 and find_spec("torchao") is None:
        raise BadSetting(
            "The precision int8 needs torchao, which is not installed:",
            hint="run pip install -r requirements-quantised.txt, or choose another.",
        )


def check_certificate(settings: Settings) -> None:
    """Raise BadCertificate where the certificate that somebody chose cannot sign."""
    if settings.certificate is not None:
        credentials.opened(settings.certificate)


def check_compiling(settings: Settings) -> None:
    """Raise BadSetting where networks are always to be compiled, and cannot be here."""
    for device in settings.devices or ("",):
        if settings.compile == compiling.ON and (why := compiling.unusable(device.partition(":")[0])):
            raise BadSetting(why)


def check_cluster(settings: Settings) -> None:
    """Raise BadSetting where these settings cannot be had from a cluster."""
    if settings.split != choosing.NONE:
        raise BadSetting("Machines of a cluster do not make one clip together:", hint="leave --split out.")
    if settings.devices:
        raise BadSetting("--devices names what this machine has:", hint="leave it out with --cluster.")
    if settings.certificate is not None:
        raise BadSetting("A certificate's key does not leave this machine:", hint="leave --certificate out.")
    if settings.in_event:
        raise BadSetting("On ZeroGPU clips are made inside the visitor's call:", hint="leave --cluster out.")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    name = host.strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


# How the text of a flag or variable is read; ValueError says what it must be.
def _port(text: str) -> int:
    if not text.strip().isdecimal() or not 0 < int(text[:9]) < 2**16:
        raise ValueError("a whole number from 1 to 65535")
    return int(text)


def _devices(text: str) -> tuple[str, ...]:
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    if not names or not all(re.fullmatch(r"(cpu|cuda)(:\d{1,3})?|mps", name) for name in names):
        raise ValueError("cpu, mps, cuda, cuda:0, cuda:1, ...")
    names = ["cpu" if name.startswith("cpu:") else name for name in names]  # they are counted anew
    processors = [f"cpu:{number}" if number else "cpu" for number in range(names.count("cpu"))]
    numbered = iter(processors)
    whole = (next(numbered) if name == "cpu" else "cuda:0" if name == "cuda" else name for name in names)
    return tuple(dict.fromkeys(whole))


def _cluster(text: str) -> str:
    host, _, port = text.strip().rpartition(":")
    if not re.fullmatch(r"[\w.-]+|\[[\da-fA-F:]+\]", host) or not port.isdecimal() or not 0 < int(port[:9]) < 2**16:
        raise ValueError("the address of a Ray cluster's head, such as 10.0.0.5:6379")
    return text.strip()


def _one_of(names: Collection[str]) -> Callable[[str], str]:
    """Reads one of these names."""

    def read(text: str) -> str:
        name = text.strip().lower()
        if name not in names:
            raise ValueError(either([*names]))
        return name

    return read


def _switch(text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.strip().lower() not in words:
        raise ValueError("1 or 0")
    return words[text.strip().lower()]


def _not_off(text: str) -> bool:
    return text.strip().lower() not in ("0", "false")


def _folders(text: str) -> tuple[Path, ...]:
    return tuple(Path(name.strip()) for name in text.split(",") if name.strip())


def _names(text: str) -> tuple[str, ...]:
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    if not all(re.fullmatch(r"[\w.-]+", name) for name in names):
        raise ValueError("names of machines such as studio.example, with commas between them")
    return tuple(names)


def _root_path(text: str) -> str:
    path = text.strip().rstrip("/")
    if path and not re.fullmatch(r"(https?://[\w.\[\]:-]+)?(/[\w.~%-]+)*", path):
        raise ValueError("a path such as /kinora, or a whole address such as https://studio.example/kinora")
    return path


Counts = Literal["", "now", "reload", "restart"]
"""When a change on the page counts: from the next clip, load or start on; "" where the page only shows it."""


@dataclass(frozen=True)
class Source:
    """One setting from outside: its flag, the variables that may hold it, the first first, and how text is read.

    Attributes:
        takes: the kinds of values that it may have in the settings file; none keeps it out of there.
        title: what it is called on the page.
        choices: all that it may be, if these are few; `names` what people read of them, where that is another word.
        page: whether the page changes it too, and when that counts.
    """

    setting: str
    flag: str
    variables: tuple[str, ...]
    read: Callable[[str], Any]
    metavar: str
    help: str
    default: str = ""
    takes: tuple[type, ...] = (str,)
    title: str = ""
    choices: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    page: Counts = ""


SOURCES = (
    Source("outputs", "--outputs", ("KINORA_OUTPUTS",), Path, "DIR", "folder of clips and job list", "outputs",
           title="Clips", page="restart"),
    Source("models", "--models", ("KINORA_MODELS",), Path, "DIR", "folder with downloaded checkpoints",
           title="Models", page="restart"),
    Source("more_models", "--more-models", ("KINORA_MORE_MODELS",), _folders, "DIR",
           "other folders with checkpoints, which are only read; several with commas", "none", takes=(str, list),
           title="More models"),
    Source("adapters", "--adapters", ("KINORA_ADAPTERS",), Path, "DIR", "folder of LoRA files to choose from",
           "adapters in the models folder", title="Adapters", page="restart"),
    Source("devices", "--devices", ("KINORA_DEVICES",), _devices, "NAME",
           "what makes clips: cpu, mps, cuda:0, ...; several with commas", "the best there is", takes=(str, list),
           title="Devices", page="restart"),
    Source("cluster", "--cluster", ("KINORA_CLUSTER",), _cluster, "ADDRESS",
           "the machines of a Ray cluster make the clips; the address of its head, such as 10.0.0.5:6379",
           title="Cluster"),
    Source("split", "--split", ("KINORA_SPLIT",), _one_of(choosing.CHOICES), "HOW",
           f"several devices make one clip together: {', '.join(choosing.CHOICES)}", choosing.NONE,
           title="Several devices", choices=tuple(choosing.CHOICES), page="restart"),
    Source("memory_gb", "--memory-gb", ("KINORA_MEMORY_GB",), read_limits, "X",
           "use at most X GB of every device; cuda:0=8,cuda:1=20 for each", "what is free, less a reserve",
           takes=(float, int, str, dict), title="Memory (GB)", page="now"),
    Source("precision", "--precision", ("KINORA_PRECISION",), _one_of(PRECISIONS), "NAME",
           f"what networks are held in: {', '.join(PRECISIONS)}; int8 makes their weights 8 bits wide", planning.AUTO,
           title="Precision", choices=PRECISIONS, page="restart"),
    Source("attention", "--attention", ("KINORA_ATTENTION",), _one_of(CHOICES), "NAME",
           f"what computes attention: {', '.join(CHOICES)}", AUTO,
           title="Attention", choices=tuple(CHOICES), page="restart"),
    Source("compile", "--compile", ("KINORA_COMPILE",), _one_of(compiling.CHOICES), "WHEN",
           f"compile networks, so that all steps but the first are sooner: {', '.join(compiling.CHOICES)}",
           compiling.OFF, title="Compile", choices=tuple(compiling.CHOICES), page="restart"),
    Source("certificate", "--certificate", ("KINORA_CERTIFICATE",), Path, "FILE",
           "PEM file of a certificate chain and its key, which signs every clip (C2PA)", title="Certificate"),
    Source("host", "--host", ("KINORA_HOST", "GRADIO_SERVER_NAME"), str.strip, "ADDRESS",
           "address to listen on; others than this machine's own have a password, made at each start if there is none",
           "127.0.0.1", title="Address"),
    Source("port", "--port", ("KINORA_PORT", "GRADIO_SERVER_PORT"), _port, "N", "port to listen on", "7860",
           takes=(int,), title="Port"),
    Source("root_path", "--root-path", ("KINORA_ROOT_PATH", "GRADIO_ROOT_PATH"), _root_path, "PATH",
           "where a proxy serves the page, such as /kinora or https://studio.example/kinora", title="Behind a proxy"),
    Source("names", "--name", ("KINORA_NAMES",), _names, "NAME", "another name that browsers know this machine by",
           takes=(str, list), title="Names"),
    Source("password", "", ("KINORA_PASSWORD",), str, "", "lets people in; the user name is kinora", takes=(),
           title="Password"),
    Source("refiner", "--refiner", ("KINORA_REFINER",), _one_of(REFINERS), "NAME",
           "who refines prompts: rules; endpoint, set up by KINORA_REFINER_URL, _MODEL and _KEY; qwen-3b or qwen-7b",
           "rules", title="Refiner", choices=tuple(REFINERS), page="restart"),
    Source("metadata", "--metadata", ("KINORA_METADATA",), _switch, "1|0",
           "clips carry the settings that made them, prompt included; the JSON file beside them does in any case", "1",
           takes=(bool,), title="Settings inside clips", page="now"),
    Source("language", "--language", ("KINORA_LANGUAGE",), _one_of(language.CHOICES), "NAME",
           "language of the page: auto (what each browser asks for), en or zh", language.AUTO, title="Language",
           choices=language.CHOICES, names=tuple(language.TITLES.values()), page="reload"),
    Source("preload", "", ("KINORA_PRELOAD",), _switch, "", "import heavy libraries before the first clip is asked for",
           takes=(bool,), title="Load ahead", page="restart"),
    Source("offline", "--offline", ("KINORA_OFFLINE", "HF_HUB_OFFLINE"), _switch, "",
           "use no network: nothing is downloaded, and no other machine refines prompts", takes=(bool,),
           title="Offline", page="restart"),
    Source("public", "", ("KINORA_PUBLIC",), _switch, "", "1 where strangers share the studio", takes=(bool,),
           title="Shared"),
    Source("in_event", "", ("SPACES_ZERO_GPU",), _not_off, "", "set by Hugging Face's ZeroGPU", takes=(),
           title="ZeroGPU"),
    Source("config", "--config", ("KINORA_CONFIG",), Path, "FILE", "a TOML file of these settings",
           f"{settings_file.NAME} in the working folder, if there is one", takes=(), title="Settings file"),
)  # fmt: skip


@dataclass(frozen=True)
class Given:
    """The value that somebody gave a setting, and by what: a flag, a variable, or the name of the settings file."""

    value: Any
    origin: str


def from_environment(**flags: object) -> Settings:
    """Settings from flags, the environment and the settings file, as SOURCES lists them, in this order.

    A flag that is not None wins, its text is read alike. Where other machines are let in and nobody chose a password,
    one is made.

    Raises:
        BadSetting: naming the flag, the variable or the key of the file, what it must be and what it is.
    """
    known = given_settings(flags)
    on_spaces = "SPACE_ID" in os.environ
    values: dict[str, Any] = {"hosted": True, "host": "0.0.0.0"} if on_spaces else {}
    values |= {setting: found.value for setting, found in known.items()}
    values |= {name: value for name, value in flags.items() if value is not None and not isinstance(value, str)}
    origins = {setting: found.origin for setting, found in known.items()}
    if on_spaces:
        values["public"] = True
        origins = {"host": _SPACE} | origins | {"public": _SPACE}
    if values.get("offline"):
        os.environ["HF_HUB_OFFLINE"] = "1"  # for huggingface_hub here and in the workers
    if values.get("public"):
        values.setdefault("queue_limit", 10)
    elif not is_loopback(values.get("host", Settings.host)) and not values.get("password"):
        values |= {"password": secrets.token_urlsafe(9), "password_made": True}
    return Settings(**values, origins=origins)


def given_settings(flags: Mapping[str, object]) -> dict[str, Given]:
    """What flags, the environment and the settings file say, setting by setting; raises as from_environment."""
    env = tidied_environment()
    known: dict[str, Given] = {}
    for source in SOURCES:
        for name, text in _given(source, env, flags):
            try:
                known[source.setting] = Given(source.read(text), name)
            except ValueError as error:
                raise BadSetting(f"{name} must be {error}; you gave {given(text)}.") from None
            break
    path = settings_file.found(str(known["config"].value) if "config" in known else "")
    if path is not None:
        known["config"] = Given(path, known["config"].origin if "config" in known else "the working folder")
        known = in_file(path) | known
    return known


def in_file(path: Path) -> dict[str, Given]:
    """What a settings file says. Folders in it are named from where it lies; an empty text says nothing.

    Raises:
        BadSetting: as from_environment.
    """
    name = printable(path.name)
    try:
        written = settings_file.read(path)
    except ValueError as error:
        raise BadSetting(str(error)) from None
    sources = {source.setting: source for source in SOURCES}
    known: dict[str, Given] = {}
    for key, value in written.items():
        if key not in sources or not sources[key].takes:
            raise BadSetting(_no_key(key, name, sources))
        source = sources[key]
        try:
            text = settings_file.as_text(value, source.takes).strip()
            if text and source.read in (Path, _folders):
                names = (one.strip() for one in text.split(",")) if source.read is _folders else (text,)
                text = ",".join(
                    str(absolute(one) if one.startswith("~") else path.parent / one) for one in names if one
                )
            if text:
                known[key] = Given(source.read(text), name)
        except ValueError as error:
            raise BadSetting(f"{key} in {name} must be {error}; you gave {settings_file.shown(value)}.") from None
    return known


def _no_key(key: str, file: str, sources: Mapping[str, Source]) -> str:
    """The sentence for a key of the settings file that is none."""
    if key in sources:
        return f"{key} cannot be set in {file}: set {sources[key].variables[0]} instead."
    possible = [name for name, source in sources.items() if source.takes]
    near = difflib.get_close_matches(key.lower().replace("-", "_"), possible, n=1)
    meant = f'did you mean "{near[0]}"?' if near else f"choose {either(possible)}."
    return f'There is no setting "{printable(key)}", which stands in {file}: {meant}'


def tidied_environment() -> Mapping[str, str]:
    """This process's environment without variables that are set but empty, its folders absolute.

    In place, for libraries and worker processes read it too.
    """
    for name, text in list(os.environ.items()):
        if name.startswith(_PREFIXES) and not text.strip():
            del os.environ[name]
        elif name in _FOLDERS:
            os.environ[name] = str(absolute(text))
    return os.environ


def _given(source: Source, env: Mapping[str, str], flags: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    flag = flags.get(source.setting)
    if isinstance(flag, str) and flag.strip():
        yield source.flag, flag
    yield from ((name, env[name]) for name in source.variables if name in env)
