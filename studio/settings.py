"""How one studio is set up: folders, devices, who may reach it. Made once, from flags and environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from engines.errors import StudioError

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Settings:
    """Everything a studio is told when it starts.

    Attributes:
        outputs: where clips, their settings, uploaded pictures and the job list are kept.
        models: folder with downloaded checkpoints; None leaves it to the engine layer.
        devices: names such as "cpu" or "cuda:0", one worker process each; empty finds them.
        memory_gb: most memory of its device that a worker may use, in GB; None leaves the choice to the worker.
        overrides: "engine/model/role=path", for checkpoint files kept elsewhere.
        public: strangers use this studio (a Hugging Face Space): each sees only their own clips, and limits apply.
        in_event: run jobs inside the page's event instead of a worker process (ZeroGPU demands it).
        queue_limit: most jobs that may wait at once.
    """

    outputs: Path = Path("outputs")
    models: Path | None = None
    devices: tuple[str, ...] = ()
    memory_gb: float | None = None
    overrides: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 7860
    user: str = "kinora"
    password: str = field(default="", repr=False)
    public: bool = False
    in_event: bool = False
    queue_limit: int = 200
    open_browser: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "outputs", self.outputs.expanduser().resolve())
        if self.models is not None:
            object.__setattr__(self, "models", self.models.expanduser().resolve())
        if self.host not in LOCAL_HOSTS and not self.password and not self.public:
            raise StudioError(
                f"Serving on {self.host} lets other machines in, so it needs a password:",
                hint="set KINORA_PASSWORD (the user name is kinora), or serve on 127.0.0.1.",
            )

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
        return self.outputs / "pictures"


def from_environment(**flags: object) -> Settings:
    """Settings from KINORA_* and Hugging Face's own variables; a flag that is not None wins."""
    env = os.environ
    on_spaces = "SPACE_ID" in env
    values: dict[str, object] = {
        "outputs": Path(env.get("KINORA_OUTPUTS", "outputs")),
        "password": env.get("KINORA_PASSWORD", ""),
        "host": env.get("GRADIO_SERVER_NAME", "0.0.0.0" if on_spaces else "127.0.0.1"),
        "port": int(env.get("GRADIO_SERVER_PORT", "7860")),
        "public": on_spaces or env.get("KINORA_PUBLIC", "") == "1",
        "in_event": env.get("SPACES_ZERO_GPU", "") not in ("", "0", "false"),
    }
    if "KINORA_MODELS" in env:
        values["models"] = Path(env["KINORA_MODELS"])
    if "KINORA_DEVICES" in env:
        values["devices"] = tuple(name.strip() for name in env["KINORA_DEVICES"].split(",") if name.strip())
    values |= {name: value for name, value in flags.items() if value is not None}
    if values["public"]:
        values.setdefault("queue_limit", 10)
    return Settings(**values)  # type: ignore[arg-type]
