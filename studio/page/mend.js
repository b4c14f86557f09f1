// A cut-out is mended with a brush: strokes over its picture, written as text into its slot (see engines/media/brush.py).
(() => {
  const say = (...given) => globalThis.kinora.say(...given);
  const MOST_CHARACTERS = 20000;
  const percent = (share) => Number((100 * Math.min(1, Math.max(0, share))).toFixed(1));

  // A stroke as text: its points are shares of the picture's sides, its radius is in percent of the longer one.
  const strokeText = (adds, radius, points) =>
    `${adds ? "+" : "-"}${radius} ${points.map(({ x, y }) => `${percent(x)},${percent(y)}`).join(" ")}`;
  const strokesOf = (text) => String(text ?? "").split(";").map((one) => one.trim()).filter(Boolean);
  const withStroke = (text, stroke) => {
    const longer = [...strokesOf(text), stroke].join("; ");
    return longer.length > MOST_CHARACTERS ? null : longer;
  };
  const withoutLast = (text) => strokesOf(text).slice(0, -1).join("; ");

  globalThis.kinora = Object.assign(globalThis.kinora ?? {}, { strokeText, withStroke, withoutLast });
  if (typeof document === "undefined") return;

  const made = (tag, properties = {}, ...inside) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...inside);
    return element;
  };
  const choice = (name, value, words, checked) =>
    made("label", {}, made("input", { type: "radio", name, value, checked }), say(words));

  class Mending {
    constructor(slot) {
      this.slot = slot;
      this.canvas = made("canvas", { tabIndex: 0 });
      this.canvas.setAttribute("aria-label", say("The picture; what is cut off is faint"));
      this.size = made("input", { type: "range", min: 1, max: 12, step: 0.5, value: 4 });
      this.size.setAttribute("aria-label", say("Size of the brush"));
      this.said = made("span", { className: "quiet" });
      this.said.setAttribute("role", "status");
      const button = (words, act, classes = "") => {
        const one = made("button", { type: "button", textContent: say(words), className: classes });
        one.addEventListener("click", act);
        return one;
      };
      const tools = made(
        "div",
        { className: "tools" },
        choice("mend", "+", "Belongs to the subject", true),
        choice("mend", "-", "Is background", false),
        made("label", {}, say("Brush"), this.size),
        button("Undo", () => this.write(withoutLast(this.text))),
        button("Start over", () => this.write("")),
        button("Done", () => this.dialog.close(), "done"),
        this.said,
      );
      this.dialog = made("dialog", { className: "keys mending" }, made("h2", { textContent: say("Mend the cut-out") }), this.canvas, tools);
      this.dialog.setAttribute("aria-label", say("Mend the cut-out"));
      this.dialog.addEventListener("close", () => { this.watch.disconnect(); this.dialog.remove(); });
      this.watch = new MutationObserver(() => this.draw());
      this.watch.observe(slot, { childList: true, subtree: true, attributes: true });
      for (const [kind, act] of [["pointerdown", "begin"], ["pointermove", "go_on"], ["pointerup", "end"], ["pointercancel", "end"]]) {
        this.canvas.addEventListener(kind, (event) => this[act](event));
      }
      document.body.append(this.dialog);
      this.dialog.showModal();
      this.draw();
    }

    get box() { return this.slot.querySelector(".brush textarea, .brush input"); }
    get text() { return this.box?.value ?? ""; }
    get adds() { return this.dialog.querySelector("input[value='+']").checked; }

    // The picture comes anew from the studio after each stroke.
    draw() {
      const { picture: source, strokes } = this.slot.querySelector("template.below")?.dataset ?? {};
      if (!source || (source === this.source && strokes === this.strokes)) return;
      [this.source, this.strokes] = [source, strokes]; // strokes that change nothing bring the same picture
      const image = new Image();
      image.addEventListener("load", () => {
        if (!this.points) this.show(image); // else the stroke that is being painted brings another
      });
      image.src = source;
    }

    show(image) {
      this.image = image;
      Object.assign(this.canvas, { width: image.naturalWidth, height: image.naturalHeight });
      this.canvas.getContext("2d").drawImage(image, 0, 0);
      this.said.textContent = "";
    }

    at(event) {
      const box = this.canvas.getBoundingClientRect();
      return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
    }

    begin(event) {
      if (event.button) return;
      event.preventDefault();
      this.canvas.setPointerCapture(event.pointerId);
      this.points = [this.at(event)];
      this.paint();
    }

    go_on(event) {
      if (!this.points) return;
      const [last, point] = [this.points.at(-1), this.at(event)];
      if (Math.hypot(point.x - last.x, point.y - last.y) < 0.008) return;
      this.points.push(point);
      this.paint();
    }

    end() {
      if (!this.points) return;
      const text = withStroke(this.text, strokeText(this.adds, Number(this.size.value), this.points));
      this.points = null;
      if (text === null) { this.show(this.image); this.said.textContent = say("That is as many strokes as there can be: start over with a larger brush."); return; }
      this.write(text);
    }

    paint() {
      const pen = this.canvas.getContext("2d");
      const { width, height } = this.canvas;
      const [from, to] = [this.points.at(-2) ?? this.points.at(-1), this.points.at(-1)];
      Object.assign(pen, { lineCap: "round", lineWidth: (2 * Number(this.size.value) * Math.max(width, height)) / 100 });
      pen.strokeStyle = this.adds ? "rgb(21 128 61 / 45%)" : "rgb(185 28 28 / 45%)";
      pen.beginPath();
      pen.moveTo(from.x * width, from.y * height);
      pen.lineTo(to.x * width + 0.01, to.y * height);
      pen.stroke();
    }

    write(text) {
      if (text === this.text) return;
      this.box.value = text;
      this.box.dispatchEvent(new Event("input", { bubbles: true }));
      this.said.textContent = "…";
    }
  }

  document.addEventListener("click", (event) => {
    const slot = event.target.closest?.(".slot .mend")?.closest(".slot");
    if (slot) new Mending(slot);
  });
})();
