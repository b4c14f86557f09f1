"""The page as a person uses it, in a real Chromium with a real worker process behind it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.browser.conftest import unfold

pytestmark = pytest.mark.browser


def put_picture(page, path: Path, *, slot: int = 1) -> None:
    page.locator(f"#phantom-wan-references-{slot} input[type=file]").set_input_files(path)


def generate(page, prompt: str) -> None:
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_role("button", name="Generate").click()


def set_many_steps(page) -> None:
    """200 steps: a clip that is still being made when it is looked for."""
    open_settings(page)
    unfold(page.get_by_role("button", name="Advanced settings"))
    page.get_by_label("number input for Steps").fill("200")
    page.get_by_label("number input for Steps").press("Tab")


def wait_for_status(page, words: str) -> None:
    page.locator("#phantom-wan-status").get_by_text(re.compile(words)).first.wait_for()


def check_it_plays(video) -> None:
    """The browser decodes the clip and its time goes on."""
    video.wait_for()
    video.page.wait_for_function("video => video.readyState >= 2 && video.videoWidth > 0", arg=video.element_handle())
    video.evaluate("async video => { video.muted = true; await video.play(); }")
    video.page.wait_for_function("video => video.currentTime > 0.3", arg=video.element_handle())


def check_its_pixels_are_squares(video, *, most: int) -> None:
    """A small clip is drawn `most` times larger where there is room, else a smaller whole number of times."""
    for width in (1400, 390):
        video.page.set_viewport_size({"width": width, "height": 900})
        video.page.wait_for_timeout(600)
        shown = video.evaluate(
            "video => [video.clientWidth / video.videoWidth, video.clientHeight / video.videoHeight]"
        )
        assert shown[0] == shown[1] == int(shown[0]) and 1 <= shown[0] <= most
        assert shown[0] == most or width < 400
        assert video.evaluate("video => getComputedStyle(video).imageRendering") == "pixelated"
    video.page.set_viewport_size({"width": 1400, "height": 900})
    video.page.get_by_text("96 × 64 pixels, drawn larger without smoothing").first.wait_for()


def test_a_picture_becomes_a_clip_that_plays_and_can_be_made_again(page, picture: Path, tmp_path: Path) -> None:
    page.get_by_role("button", name="Clear picture 1").click()
    page.locator("#phantom-wan-references-1 img").wait_for(state="detached")
    put_picture(page, picture)
    page.locator(".slot .model-view img").first.wait_for()
    generate(page, "a blue square slides")
    wait_for_status(page, "^Done")
    video = page.locator("#phantom-wan-video video")
    check_it_plays(video)
    assert video.evaluate("video => [video.videoWidth, video.videoHeight, video.duration]") == [96, 64, 2.75]
    check_its_pixels_are_squares(video, most=4)
    video.evaluate("video => { video.pause(); video.currentTime = 0; document.activeElement.blur(); }")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("video => Math.floor(video.currentTime * 12) === 1", arg=video.element_handle())
    assert page.locator("#phantom-wan-video.fps-12").count() == 1

    with page.expect_download() as download:
        page.locator("#phantom-wan-download").click()
    download.value.save_as(tmp_path / "clip.mp4")
    assert (tmp_path / "clip.mp4").read_bytes()[4:8] == b"ftyp"

    # Its settings come back from the history.
    page.get_by_label("Prompt", exact=True).fill("something else")
    page.get_by_role("tab", name="History").click()
    page.locator("#history button").first.click()
    check_it_plays(page.locator("#history-video video"))
    page.get_by_role("button", name="Use these settings").click()
    page.wait_for_function(
        "() => document.querySelector('#phantom-wan-prompt textarea').value == 'a blue square slides'"
    )
    page.locator("#phantom-wan-settings > button").get_by_text(re.compile(r"Standard · seed \d+")).wait_for()

    page.get_by_role("tab", name="History").click()
    before = page.locator("#history button img").count()
    page.locator("#history button").first.click()
    page.locator("#history-delete").click()
    count = "document.querySelectorAll('#history button img').length"
    page.wait_for_function(f"before => {count} < before", arg=before)
    page.locator("#history-undo").click()
    page.wait_for_function(f"before => {count} == before", arg=before)


def test_a_reload_finds_the_running_clip_and_cancel_ends_it(page, picture: Path) -> None:
    page.locator("#phantom-wan-go").wait_for()
    set_many_steps(page)
    generate(page, "a red star goes slowly")
    wait_for_status(page, r"Making the video · \d+ of 200")
    page.locator("#phantom-wan-preview img").wait_for()

    page.reload()
    wait_for_status(page, r"Making the video · \d+ of 200")
    page.locator("#phantom-wan-preview img").wait_for()
    page.wait_for_function("document.title.match(/^\\(\\d+ %\\) Kinora$/)")

    page.locator("#phantom-wan-cancel").click()
    wait_for_status(page, "^Cancelled$")
    page.locator("#phantom-wan-cancel").wait_for(state="hidden")


def test_an_answer_from_before_the_click_hides_no_clip(page) -> None:
    """What a page asks for when it opens may be answered after Generate was pressed and has been answered."""
    held: list[tuple] = []
    pressed = told = False

    def answer(route) -> None:
        if pressed:
            route.continue_()
            return
        response = route.fetch()
        if told:
            route.fulfill(response=response)
        else:
            held.append((route, response))

    page.route("**/run/predict", answer)
    page.reload()
    page.get_by_role("button", name="Generate").wait_for()
    set_many_steps(page)
    pressed = True
    generate(page, "a red star goes slowly")
    page.locator("#phantom-wan-cancel").wait_for()
    assert held, "the page asks when it opens"
    told = True
    for route, response in held:
        route.fulfill(response=response)
    page.locator("#phantom-wan-cancel").wait_for(state="hidden")
    page.locator("#phantom-wan-cancel").click()
    wait_for_status(page, "^Cancelled$")
    page.locator("#phantom-wan-cancel").wait_for(state="hidden")


def test_what_is_wrong_is_said_in_a_sentence_beside_the_form(page, tmp_path: Path) -> None:
    text = tmp_path / "notes.png"
    text.write_text("I am no picture.\n")
    put_picture(page, text, slot=2)
    page.locator(".slot .problem").get_by_text('"notes.png" is not a picture').wait_for()
    generate(page, "")
    problems = page.locator("#phantom-wan-problems .problems")
    problems.get_by_text("is not a picture").wait_for()
    problems.get_by_text("Write a prompt").wait_for()
    assert "/tmp" not in problems.inner_text()
    page.get_by_label("Prompt", exact=True).press_sequentially("x")
    problems.wait_for(state="detached")


def test_what_is_typed_is_shown_as_it_was_typed(page) -> None:
    unfold(page.get_by_role("tab", name="Long video"))
    text = "first <b>bold</b> & <img src=x onerror=alert(1)>"
    page.locator("#pyramid-flow-storyboard-scenes").get_by_role("button", name="As text").click()
    page.locator("#pyramid-flow-storyboard textarea").fill(text)
    page.locator("#pyramid-flow-go").click()
    page.locator("#pyramid-flow-problems").get_by_text(text).wait_for()
    page.locator("#pyramid-flow-storyboard-reading").get_by_text(text).wait_for()
    assert page.locator("#pyramid-flow-problems img, [data-testid=toast-text] img, .hint img").count() == 0


PASTE = """async () => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 60, height: 40 });
  canvas.getContext("2d").fillRect(0, 0, 60, 40);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  const given = new DataTransfer();
  given.items.add(new File([blob], "image.png", { type: "image/png" }));
  const pasted = new ClipboardEvent("paste", { clipboardData: given, bubbles: true, cancelable: true });
  document.activeElement.dispatchEvent(pasted);
}"""


def test_a_pasted_picture_goes_to_the_first_empty_place(page) -> None:
    page.locator("#phantom-wan-references-1 img").wait_for()  # the example's
    page.get_by_label("Prompt", exact=True).focus()
    page.evaluate(PASTE)
    page.locator("#phantom-wan-references-2 img").wait_for()
    page.get_by_role("tab", name="Long video").click()
    page.locator("#pyramid-flow-first_picture-1 input[type=file]").wait_for(state="attached")
    page.evaluate(PASTE)
    page.locator("#pyramid-flow-first_picture-1 img").wait_for()


def test_slots_move_and_examples_fill_the_form(page) -> None:
    page.get_by_role("button", name="Move picture 1 right").click()
    page.locator("#phantom-wan-references-2 img").wait_for()
    page.locator("#phantom-wan-references-1 img").wait_for(state="detached")
    page.get_by_role("button", name="Two friends").click()
    page.locator("#phantom-wan-references-1 img").wait_for()
    page.wait_for_function("() => document.querySelector('#phantom-wan-prompt textarea').value.includes(' and ')")


def test_another_engine_takes_over_what_was_said(page, picture: Path) -> None:
    put_picture(page, picture, slot=2)
    page.locator("#phantom-wan-references-2 img").wait_for()
    page.get_by_label("Prompt", exact=True).fill("a blue square and a ball")
    page.get_by_role("radio", name="BindWeave").check()
    page.locator("#bindweave-go").wait_for()
    assert not page.locator("#phantom-wan-go").is_visible()
    page.wait_for_function("() => document.querySelector('#bindweave-prompt textarea').value.includes('and a ball')")
    page.locator("#bindweave-references-2 img").wait_for()
    page.locator("#bindweave-references .model-view img").nth(1).wait_for()
    assert page.get_by_role("tab", name="Subject references").count() == 1

    page.get_by_label("Prompt", exact=True).fill("a blue square alone")
    page.locator("#bindweave-area").get_by_role("button", name="Clear picture 2").click()
    page.locator("#bindweave-references-2 img").wait_for(state="detached")
    page.get_by_role("radio", name="Phantom-Wan").check()
    page.locator("#phantom-wan-go").wait_for()
    page.wait_for_function("() => document.querySelector('#phantom-wan-prompt textarea').value.includes('alone')")
    page.locator("#phantom-wan-references-2 img").wait_for(state="detached")
    page.locator("#phantom-wan-references-1 img").wait_for()


def test_the_terminal_says_where_the_page_is(page, server) -> None:
    assert f"Kinora is at {server.url} (Ctrl+C ends it)." in server.log.read_text(encoding="utf-8").splitlines()


def test_the_page_fits_a_phone(page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for name in ("Subject references", "Image to video", "Long video", "History"):
        assert page.get_by_role("tab", name=name).is_visible()
    box = page.get_by_role("button", name="Generate").bounding_box()
    assert box["y"] + box["height"] <= 844, "Generate is not in sight"


def test_a_prompt_is_refined_accepted_and_taken_back(page) -> None:
    prompt = page.get_by_label("Prompt", exact=True)
    suggestion = page.locator("#phantom-wan-refinement")
    page.get_by_role("button", name="Refine prompt").click()
    suggestion.get_by_text("fine as it is").wait_for()
    assert not page.get_by_role("button", name="Use this").is_visible(), "nothing to accept where nothing changes"

    prompt.fill("A crimson ball goes to the right on the lawn with a dog")
    page.locator("#phantom-wan-prompt-remark").get_by_text("not taught dog").wait_for()
    page.get_by_role("button", name="Refine prompt").click()
    suggestion.locator("ins", has_text="red circle moves").wait_for()
    suggestion.locator("summary", has_text="The words it knows").wait_for()
    page.get_by_role("button", name="Use this").click()
    page.wait_for_function("() => document.querySelector('#phantom-wan-prompt textarea').value.includes('green floor')")

    prompt.fill("a red star spins")
    open_settings(page)
    page.locator("#phantom-wan-model input").click()
    page.get_by_role("option", name=re.compile("1.3B")).first.click()
    page.get_by_text("The published 1.3B model").or_(page.get_by_text("not installed")).first.wait_for()
    page.get_by_role("button", name="Refine prompt").click()
    suggestion.locator("ins").first.wait_for()
    page.get_by_role("button", name="Use this").click()
    page.wait_for_function("() => document.querySelector('#phantom-wan-prompt textarea').value.includes('camera')")
    page.get_by_role("button", name="Undo").click()
    page.wait_for_function("() => document.querySelector('#phantom-wan-prompt textarea').value == 'a red star spins'")

    # What is written after a suggestion was taken cannot be thrown away by Undo.
    page.get_by_role("button", name="Refine prompt").click()
    page.get_by_role("button", name="Use this").click()
    page.get_by_role("button", name="Undo").wait_for()
    prompt.press_sequentially(" slowly")
    page.get_by_role("button", name="Undo").wait_for(state="hidden")


@pytest.mark.timeout(600)  # five tabs, each with its engine: 104 s on two slow cores, and more beside other tests
def test_every_tab_refines_its_prompt(page) -> None:
    said = "A crimson ball falls down on the lawn"
    for tab, engine in (
        ("Subject references", "bindweave"),
        ("Image to video", "flashi2v"),
        ("Physics", "phantom-physics"),
        ("Long video", "pyramid-flow"),
    ):
        page.get_by_role("tab", name=tab).click()
        if engine == "bindweave":  # the tab's second engine; its first has a test of its own
            page.get_by_role("radio", name="BindWeave").check()
        area, text = page.locator(f"#{engine}-area"), page.locator(f"#{engine}-prompt textarea")
        text.fill(said)
        area.get_by_role("button", name="Refine prompt").click()
        page.locator(f"#{engine}-refinement ins").first.wait_for()
        area.get_by_role("button", name="Use this").click()
        area.get_by_role("button", name="Undo").wait_for()
        assert text.input_value() != said
        area.get_by_role("button", name="Undo").click()
        page.wait_for_function(f"said => document.querySelector('#{engine}-prompt textarea').value == said", arg=said)


def frames_field(page):
    return page.locator("#phantom-wan-frames input[type=number]")


def open_settings(page, name: str = "phantom-wan") -> None:
    """Open the line that says what is set."""
    unfold(page.locator(f"#{name}-settings > button"))
    page.locator(f"#{name}-model").wait_for()


def test_seconds_and_frames_follow_each_other(page) -> None:
    line = page.locator("#phantom-wan-settings > button")
    line.get_by_text("Starter · Wide · 2.75 s · Standard · random seed").wait_for()
    open_settings(page)
    page.get_by_text("33 frames @ 12 fps = 2.75 s, at most 4.08 s").wait_for()
    seconds = page.locator("#phantom-wan-seconds input[type=number]")
    seconds.fill("1")
    page.get_by_text("13 frames @ 12 fps = 1.08 s, at most 4.08 s").wait_for()
    assert seconds.input_value() == "1", "what is typed stays while typing"
    seconds.press("Tab")
    page.wait_for_function("() => document.querySelector('#phantom-wan-seconds input').value == '1.08'")
    seconds.fill("60")
    page.get_by_text("60 s is more than this model makes: set to 4.08 s.").wait_for()
    seconds.press("Tab")
    line.get_by_text("4.08 s").wait_for()
    unfold(page.get_by_role("button", name="Advanced settings"))
    frames_field(page).fill("17")
    frames_field(page).press("Tab")
    page.wait_for_function("() => document.querySelector('#phantom-wan-seconds input').value == '1.42'")
    page.locator("#phantom-wan-seed-random input").uncheck()
    page.get_by_label("Seed", exact=True).fill("7")
    line.get_by_text("seed 7").wait_for()


def test_a_frame_of_a_clip_becomes_the_picture_of_another(page) -> None:
    open_settings(page)
    page.get_by_text("Draft").click()
    page.locator("#phantom-wan-seconds input[type=number]").fill("0.75")
    generate(page, "a red star bounces on a green floor under a sky background")
    wait_for_status(page, "^Done")
    page.get_by_role("button", name="Use a frame of this clip").click()
    page.get_by_role("button", name="First frame").click()
    video = page.locator("#phantom-wan-video video")
    page.wait_for_function("video => video.paused && video.currentTime < 1 / 12", arg=video.element_handle())
    page.get_by_role("button", name="Send to Image to video").click()
    picture = page.locator("#flashi2v-picture-1 img")
    picture.wait_for()
    assert picture.evaluate(
        "async image => { await image.decode(); return [image.naturalWidth, image.naturalHeight]; }"
    ) == [96, 64]
    page.get_by_text("The clip begins with the whole picture.").wait_for()
    assert not page.locator("#flashi2v-picture-position").is_visible()

    # Another shape: its crop is shown and can be moved.
    open_settings(page, "flashi2v")
    page.locator("#flashi2v-width input").fill("64x64")
    page.locator("#flashi2v-width input").press("Enter")
    page.get_by_text("33 % of the picture is cut off").wait_for()
    page.locator("#flashi2v-picture-position").wait_for()

    # From the history into a reference slot, and what the clip is worth.
    page.get_by_role("tab", name="History").click()
    page.locator("#history button").first.click()
    check_it_plays(page.locator("#history-video video"))
    page.locator("#history-quality").get_by_role("button", name="Quality").click()
    page.locator("#history-measure").click()
    page.locator("#history-figures").get_by_text("Flicker").wait_for()
    page.locator("#history-send").get_by_role("button", name="Use a frame of this clip").click()
    page.locator("#history-to-phantom-wan").click()
    page.locator("#phantom-wan-references-2 img").wait_for()

    # The last frame of the newest clip, without looking for it.
    page.get_by_role("tab", name="Image to video").click()
    before = picture.get_attribute("src")
    page.locator("#flashi2v-picture-last").click()
    page.wait_for_function(
        "before => document.querySelector('#flashi2v-picture-1 img')?.getAttribute('src') != before", arg=before
    )


def test_both_ends_of_every_slider_can_be_read(page) -> None:
    """A slider gives way where its column is narrow; the mark at its end is not pushed out and cut."""
    page.get_by_role("tab", name="Physics", exact=True).click()
    open_settings(page, "phantom-physics")
    unfold(page.get_by_role("button", name="Advanced settings"))
    page.locator("#phantom-physics-frames").wait_for()
    for width in (800, 1280, 1600):
        page.set_viewport_size({"width": width, "height": 900})
        cut = page.evaluate(
            """() => [...document.querySelectorAll("input[type=range]")].map((slider) => slider.closest(".block"))
                .filter((block) => block.offsetParent && block.scrollWidth > block.clientWidth)
                .map((block) => block.id)"""
        )
        assert cut == []
