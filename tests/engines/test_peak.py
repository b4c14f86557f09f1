"""On a CPU the memory that is really taken stays under the stated number, for every built-in model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from engines.registry import SPECS

ROOT = Path(__file__).parents[2]
STATED = 1_400_000_000
# In a process of its own, as a worker is: this one holds what other tests imported.
PROGRAM = """
import json, sys
from pathlib import Path
from engines.messages import Generate
from engines.runtime.device_service import DeviceService
from engines.runtime.settings import RuntimeSettings

stated, outputs, orders = json.loads(sys.argv[1])
service = DeviceService(RuntimeSettings(device="cpu", outputs=Path(outputs), memory_gb={"": stated / 1e9}))
for engine, request in orders:
    *_, last = service.make(Generate(job=f"{engine}-{request['model']}", engine=engine, request=request))
    print(json.dumps([engine, last.result.peak_bytes if last.type == "done" else last.text]))
"""


@pytest.mark.timeout(900)
def test_every_built_in_model_stays_under_the_stated_number(tmp_path: Path) -> None:
    picture = tmp_path / "red.png"
    Image.new("RGB", (96, 64), "red").save(picture)
    files = {"references": [{"path": str(picture)}], "picture": {"path": str(picture)}}
    orders = []
    for spec in SPECS.values():
        for model in (model for model in spec.models if not any(weights.repo for weights in model.weights)):
            taken = {name: value for name, value in files.items() if name in spec.request_type.model_fields}
            steps = dict.fromkeys(model.presets.get("Draft", {"steps": 1}), 1)
            orders.append([spec.name, {"model": model.name, "prompt": "A red star moves right.", **taken, **steps}])
    assert len(orders) >= 4
    told = json.dumps([STATED, str(tmp_path / "outputs"), orders])
    ended = subprocess.run([sys.executable, "-c", PROGRAM, told], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    peaks = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(peaks) == len(orders)
    assert all(isinstance(peak, int) and 0.2 * STATED < peak <= STATED for _, peak in peaks), peaks
    print(peaks)
