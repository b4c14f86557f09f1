// Clips in step: `<kinora-compare data-shown="...">` plays two to nine of them on one clock, frame by frame if wanted,
// and shows where they differ. The data are those of compare.py; every text is set as text.
(() => {
  const say = (...given) => globalThis.kinora.say(...given);

  // ---- one clock for clips of any length and rate: `frame` counts the steps of the quickest clip, 0 is the first

  const clock = (clips) => {
    const fps = Math.max(...clips.map((clip) => clip.fps));
    const seconds = Math.max(...clips.map((clip) => clip.frames / clip.fps));
    return { fps, frames: Math.max(1, Math.round(seconds * fps)) };
  };

  // The middle of a frame: a seek to its edge may show its neighbour. A clip that is over stays at its last frame.
  const secondsAt = (clip, fps, frame) => Math.min((frame + 0.5) / fps, (clip.frames - 0.5) / clip.fps);

  const frameAt = ({ fps, frames }, seconds) => Math.min(frames - 1, Math.max(0, Math.floor(seconds * fps)));

  const position = ({ fps, frames }, frame) =>
    say("frame {frame} of {frames} · {seconds} s", { frame: frame + 1, frames, seconds: ((frame + 1) / fps).toFixed(2) });

  globalThis.kinora = Object.assign(globalThis.kinora ?? {}, { clock, secondsAt, frameAt, position });
  if (typeof HTMLElement === "undefined") return;

  // ---- the element

  const made = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const address = (path) => {
    const { root, api_prefix } = globalThis.gradio_config ?? {};
    return `${root ?? ""}${api_prefix ?? "/gradio_api"}/file=${path.split("/").map(encodeURIComponent).join("/")}`;
  };
  const atRest = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

  class Compare extends HTMLElement {
    static observedAttributes = ["data-shown"];

    connectedCallback() {
      if (!this.videos) this.draw();
    }

    disconnectedCallback() {
      cancelAnimationFrame(this.next);
      this.videos?.forEach((video) => video.pause());
      this.videos = null;
    }

    attributeChangedCallback() {
      if (this.isConnected) this.draw();
    }

    draw() {
      cancelAnimationFrame(this.next);
      const { clips, differing } = JSON.parse(this.dataset.shown);
      this.clips = clips;
      this.clock = clock(clips);
      this.frame = 0;
      this.playing = this.difference = false;
      this.videos = clips.map((clip) =>
        made("video", { src: address(clip.path), muted: true, playsInline: true, preload: "auto" }),
      );
      this.canvases = clips.map(() => made("canvas", { hidden: true }));
      this.videos.forEach((video) => ["seeked", "loadeddata"].forEach((name) => video.addEventListener(name, () => this.paint())));
      const figures = clips.map((clip, index) =>
        made("figure", { className: clip.pixelated ? "pixelated" : "" },
          made("div", { className: "screen" }, this.videos[index], this.canvases[index]),
          made("figcaption", {}, made("b", { textContent: "ABCDEFGHI"[index] }), ` ${clip.label}`),
        ),
      );
      const button = (name, label, press) => {
        const one = made("button", { type: "button", textContent: say(name), onclick: press });
        one.setAttribute("aria-label", say(label));
        return one;
      };
      this.play = button("Play", "Play all", () => this.toggle());
      this.slider = made("input", { type: "range", min: 0, max: this.clock.frames - 1, step: 1, value: 0 });
      this.slider.setAttribute("aria-label", say("Frame"));
      this.slider.oninput = () => this.show(Number(this.slider.value));
      this.told = made("span", { className: "position" }); // the slider says it to screen readers, when asked
      this.differ = button("Difference", "Show where each clip differs from A", () => this.toggleDifference());
      this.differ.setAttribute("aria-pressed", "false");
      const controls = made("div", { className: "transport" },
        this.play,
        button("◂", "One frame back", () => this.show(this.frame - 1)),
        button("▸", "One frame on", () => this.show(this.frame + 1)),
        this.slider, this.told, this.differ,
      );
      this.replaceChildren(
        made("div", { className: `screens of-${clips.length}` }, ...figures), controls, this.settings(differing),
      );
      this.onkeydown = (event) => this.press(event);
      this.show(0);
      if (!atRest()) this.toggle();
    }

    // What was set differently, a column for each clip; a line where nothing was.
    settings(differing) {
      if (!differing.length) return made("p", { className: "same", textContent: say("All settings are the same.") });
      const row = ({ label, values }) =>
        made("tr", {}, made("th", { scope: "row", textContent: label }), ...values.map((text) => made("td", { textContent: text })));
      const letters = this.clips.map((_, index) => made("th", { scope: "col", textContent: "ABCDEFGHI"[index] }));
      const head = made("tr", {}, made("th", { scope: "col", textContent: say("What differs") }), ...letters);
      return made("table", { className: "facts differing" }, made("thead", {}, head), made("tbody", {}, ...differing.map(row)));
    }

    // Every clip at the same moment, and none of them moving.
    show(frame) {
      this.pause();
      this.frame = Math.min(this.clock.frames - 1, Math.max(0, frame));
      this.videos.forEach((video, index) => {
        video.currentTime = secondsAt(this.clips[index], this.clock.fps, this.frame);
      });
      this.tell();
    }

    tell() {
      this.slider.value = this.frame;
      this.told.textContent = position(this.clock, this.frame);
      this.slider.setAttribute("aria-valuetext", this.told.textContent);
      this.paint();
    }

    toggle() {
      if (this.playing) return this.show(this.frame);
      this.playing = true;
      this.play.textContent = say("Pause");
      this.play.setAttribute("aria-label", say("Pause all"));
      if (this.frame >= this.clock.frames - 1) this.frame = 0;
      this.began = performance.now() - (this.frame / this.clock.fps) * 1000;
      this.videos.forEach((video) => video.play().catch(() => {}));
      this.turn();
    }

    pause() {
      this.playing = false;
      cancelAnimationFrame(this.next);
      this.play.textContent = say("Play");
      this.play.setAttribute("aria-label", say("Play all"));
      this.videos.forEach((video) => video.pause());
    }

    // The page's own clock leads: one that a slow clip led would hold up the others. Who strays is called back.
    turn() {
      if (!this.playing) return;
      if (!this.getClientRects().length) { this.pause(); return; } // its fold or tab was closed
      const length = this.clock.frames / this.clock.fps;
      let seconds = (performance.now() - this.began) / 1000;
      if (this.videos.some((video) => video.readyState < 2)) this.began = performance.now() - (this.frame / this.clock.fps) * 1000;
      else if (seconds >= length) {
        this.began = performance.now();
        seconds = 0;
        this.videos.forEach((video) => { video.currentTime = 0; });
      }
      this.frame = frameAt(this.clock, seconds);
      this.videos.forEach((video, index) => {
        const wanted = Math.min(seconds, (this.clips[index].frames - 0.5) / this.clips[index].fps);
        const over = wanted < seconds;
        if (over) video.pause();
        else if (video.paused) video.play().catch(() => {});
        if (!video.seeking && Math.abs(video.currentTime - wanted) > Math.max(0.12, 2 / this.clips[index].fps)) video.currentTime = wanted;
      });
      this.tell();
      this.next = requestAnimationFrame(() => this.turn());
    }

    toggleDifference() {
      this.difference = !this.difference;
      this.differ.setAttribute("aria-pressed", String(this.difference));
      this.paint();
    }

    // |clip - A|, four times as strong, over every clip but A.
    paint() {
      const [first, ...others] = this.videos;
      others.forEach((video, index) => {
        const canvas = this.canvases[index + 1];
        canvas.hidden = !this.difference;
        if (!this.difference || first.readyState < 2 || video.readyState < 2) return;
        const [width, height] = [first.videoWidth, first.videoHeight];
        if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
        const context = canvas.getContext("2d", { willReadFrequently: true });
        context.globalCompositeOperation = "copy";
        context.drawImage(first, 0, 0, width, height);
        context.globalCompositeOperation = "difference";
        context.drawImage(video, 0, 0, width, height);
        context.globalCompositeOperation = "lighter";
        for (const _ of [2, 4]) context.drawImage(canvas, 0, 0);
      });
    }

    press(event) {
      const on = event.target.tagName;
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === " " && on !== "BUTTON") this.toggle();
      else if (step && on !== "INPUT") this.show(this.frame + step);
      else return;
      event.preventDefault();
      event.stopPropagation();
    }
  }
  customElements.define("kinora-compare", Compare);
})();
