"""Content credentials: files signed and read back, certificates refused in a sentence, clips that are never lost."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from PIL import Image

from engines.editing import pictures
from engines.loading.store import Store
from engines.media import credentials, metadata
from engines.media.credentials import BadCertificate, opened, sign, signed, signer_of
from engines.media.marking import XMP, gif_mark, is_marked
from engines.media.video import VideoWriter, read_frames, write_poster
from engines.messages import Generate
from engines.runtime.device_service import DeviceService
from engines.runtime.runner import run
from engines.runtime.session import Session
from engines.runtime.settings import RuntimeSettings
from engines.validation import build_request
from studio.settings import Settings, check_certificate
from tests import certificates
from tests.engines.tiny import TINY, write_checkpoint

FRAMES = np.random.default_rng(0).integers(0, 255, (5, 48, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates.write(tmp_path_factory.mktemp("certificate") / "signer.pem")


def made(path: Path) -> Path:
    """A marked file of the kind that its name says."""
    form = path.suffix[1:]
    if form == "mp4":
        writer = VideoWriter(path, fps=8, tags={"comment": "{}", "description": "AI-generated video"})
        writer.write(FRAMES)
        writer.close()
    elif form == "png":
        write_poster(path, FRAMES[0], parameters="{}")
    else:
        pictures.write(path, iter(FRAMES), fps=Fraction(8), form=form, quality=80, comment="{}", marked=True)
    return path


def shown(path: Path) -> list[np.ndarray]:
    if path.suffix == ".mp4":
        return [*read_frames(path)]
    with Image.open(path) as picture:
        return [np.asarray(picture.convert("RGB"))]


def marks(path: Path) -> bool:
    """Whether the file bears the mark, as a reader of its kind finds it."""
    if path.suffix in (".mp4", ".gif"):
        return is_marked(path) or gif_mark(path) == XMP.encode()
    with Image.open(path) as picture:
        told = picture.info.get("xmp") or picture.info["XML:com.adobe.xmp"].encode()
    return XMP.encode() in told


def test_an_avif_keeps_its_mark_and_is_not_signed(certificate: Path, tmp_path: Path) -> None:
    path = made(tmp_path / "clip.avif")
    content = path.read_bytes()
    assert signed([path], certificate) == ["This clip is not signed. AVIF is not signed: it would lose its other mark."]
    assert marks(path) and path.read_bytes() == content


@pytest.mark.parametrize("form", ["mp4", "png", "gif", "webp"])
def test_a_signed_file_shows_the_same_is_marked_and_says_who_signed_it(
    form: str, certificate: Path, tmp_path: Path
) -> None:
    path = made(tmp_path / f"clip.{form}")
    assert signer_of(path) == ""
    before = shown(path)
    sign(path, opened(certificate))
    assert signer_of(path) == certificates.SIGNER
    assert [other.name for other in tmp_path.iterdir()] == [path.name]
    assert all(map(np.array_equal, before, shown(path))) and marks(path)
    content = bytearray(path.read_bytes())
    content[content.rindex(b"trainedAlgorithmicMedia")] ^= 1
    path.write_bytes(content)
    assert signer_of(path) == "", "what was changed since is not what was signed"


def test_a_certificate_that_signs_nothing_is_refused_in_one_sentence(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = certificate.read_text()
    head = good.rpartition("-----BEGIN PRIVATE KEY")[0]
    stranger = ec.generate_private_key(ec.SECP256R1())
    written = {
        "none.pem": None,
        "empty.pem": "",
        "keyless.pem": head,
        "damaged.pem": good.replace("MII", "XXX", 1),
        "stranger.pem": head + certificates.pem(stranger).decode(),
        "locked.pem": head + certificates.pem(stranger, b"secret").decode(),
    }
    says = {
        "none.pem": "is not there", "empty.pem": "is no certificate to sign with", "keyless.pem": "and its key",
        "damaged.pem": "is damaged", "stranger.pem": "is not that of its first certificate",
        "locked.pem": "locked by a password", "expired.pem": "expired on 20", "early.pem": "is not valid before 20",
        "server.pem": "does not sign content credentials",
    }  # fmt: skip
    for name, text in written.items():
        if text is not None:
            (tmp_path / name).write_text(text)
    certificates.write(tmp_path / "expired.pem", begins_days=-9, ends_days=-2)
    certificates.write(tmp_path / "early.pem", begins_days=2)
    certificates.write(tmp_path / "server.pem", for_signing=False)
    for name, sentence in says.items():
        with pytest.raises(BadCertificate, match=sentence) as refused:
            check_certificate(Settings(outputs=tmp_path / "outputs", certificate=tmp_path / name))
        said = str(refused.value)
        assert name in said and str(tmp_path) not in said and "\n" not in said
    monkeypatch.setattr(credentials, "find_spec", lambda name: None if name == "c2pa" else object())
    with pytest.raises(BadCertificate, match="without c2pa: pip install -r requirements-credentials"):
        opened(certificate)
    check_certificate(Settings(outputs=tmp_path / "outputs"))


def test_a_clip_that_cannot_be_signed_is_kept_and_says_so(tmp_path: Path) -> None:
    path = made(tmp_path / "clip.mp4")
    content = path.read_bytes()
    expired = certificates.write(tmp_path / "expired.pem", begins_days=-9, ends_days=-2)
    (note,) = signed([path], expired)
    assert note.startswith('This clip is not signed. The certificate "expired.pem" expired on')
    assert path.read_bytes() == content and signed([path], None) == []


def test_a_run_signs_its_clip_and_poster(certificate: Path, tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    context = Session("cpu", store=Store(models=tmp_path)).context("tiny", TINY.model("small"))
    request = build_request(TINY, {"prompt": "a bear"})
    *_, done = run(TINY, request, context, output_dir=tmp_path / "out", job_id="clip", certificate=certificate)
    assert [signer_of(Path(file)) for file in (done.result.video, done.result.poster)] == [certificates.SIGNER] * 2
    assert metadata.read(Path(done.result.video)).prompt == "a bear" and done.result.notes == ("tiny",)
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [".json", ".mp4", ".png"]


def test_an_edit_of_a_generated_clip_is_signed_too(certificate: Path, tmp_path: Path) -> None:
    clip = made(tmp_path / "clip.mp4")
    service = DeviceService(RuntimeSettings(device="cpu", outputs=tmp_path / "out", certificate=certificate))
    *_, done = service.make(Generate(job="a", engine="edit/reverse", request={"clip": {"path": str(clip)}}))
    assert [signer_of(Path(file)) for file in (done.result.video, done.result.poster)] == [certificates.SIGNER] * 2


def test_a_signed_clip_is_read_like_any_other(certificate: Path, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    told = metadata.Metadata(engine="phantom-wan", model="starter", parameters={"prompt": "a star"}, seed=3)
    writer = VideoWriter(path, fps=8, tags={"comment": told.model_dump_json()})
    writer.write(FRAMES)
    writer.close()
    assert signed([path], certificate) == []
    assert metadata.read(path).seed == 3 and signer_of(path)
