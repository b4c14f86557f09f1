// The table of scenes (see scenes.py). The text behind it is the truth: "0-2: what happens", one scene a line.
(() => {
  const say = (...given) => globalThis.kinora.say(...given);
  const LINE = /^\s*(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)\s*:\s*(.*?)\s*$/;
  const rounded = (seconds) => Number(seconds.toFixed(2));

  // The scenes of a text, each with its seconds; null where the text says more than a table can.
  const scenesOf = (text) => {
    const scenes = [];
    let end = 0;
    for (const line of String(text ?? "").split("\n")) {
      if (!line.trim()) continue;
      const found = LINE.exec(line);
      if (!found || Math.abs(Number(found[1]) - end) > 0.011 || Number(found[2]) <= Number(found[1])) return null;
      scenes.push({ text: found[3], seconds: rounded(Number(found[2]) - Number(found[1])) });
      end = Number(found[2]);
    }
    return scenes;
  };

  const textOf = (scenes) => {
    let start = 0;
    return scenes
      .map(({ text, seconds }) => {
        const line = `${rounded(start)}-${rounded(start + seconds)}: ${text.replace(/\s+/g, " ")}`;
        start += seconds;
        return line;
      })
      .join("\n");
  };

  const total = (scenes) => rounded(scenes.reduce((sum, scene) => sum + scene.seconds, 0));

  const moved = (scenes, from, by) => {
    const changed = [...scenes];
    const [scene] = changed.splice(from, 1);
    changed.splice(from + by, 0, scene);
    return changed;
  };

  // What stands below the table: how long the scenes are together, and what that means for the clip.
  const lengthOfScenes = (scenes, most) => {
    const sum = total(scenes);
    return sum > most + 0.05
      ? say("{sum} s in all: this model makes at most {most} s, the rest is left out", { sum, most })
      : say("{sum} s in all", { sum });
  };

  // The clip is as long as its scenes; without any, as it was.
  const framesOfScenes = ({ models }, text, fps, model, frames) => {
    const scenes = scenesOf(text);
    const { first, step, last } = models[model];
    if (!scenes?.length || !(fps > 0)) return frames;
    const stops = Math.round((total(scenes) * fps - first) / step);
    return first + step * Math.min(Math.max(0, stops), Math.floor((last - first) / step));
  };

  const made = (tag, properties = {}, ...inside) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...inside);
    return element;
  };

  class Table {
    constructor(board, box) {
      Object.assign(this, { board, box, place: board.querySelector(".scenes"), scenes: [], shown: null, most: Infinity, usual: 2 });
    }

    // The text changed somewhere else: by an example, the history, a reload, or by hand.
    follow(text) {
      if (text === this.shown && this.place.childElementCount) return;
      const scenes = scenesOf(text);
      this.board.classList.toggle("written", scenes === null || (this.board.classList.contains("written") && document.activeElement === this.box));
      this.shown = text;
      this.scenes = scenes ?? [];
      this.draw(scenes === null);
    }

    write(draw = true, focus = null) {
      this.shown = textOf(this.scenes);
      this.box.value = this.shown;
      this.box.dispatchEvent(new Event("input", { bubbles: true }));
      if (draw) this.draw();
      else this.foot();
      if (focus !== null) this.place.querySelectorAll(".scene textarea")[focus]?.focus();
    }

    draw(foreign = false) {
      const last = this.scenes.length - 1;
      this.place.replaceChildren(...this.scenes.map((scene, index) => this.row(scene, index, last)));
      this.sum = made("span", { role: "status" });
      const add = made("button", { type: "button", textContent: last < 0 ? say("Split into scenes") : say("Add a scene") });
      add.addEventListener("click", () => {
        const length = rounded(this.usual);
        if (last < 0) this.scenes = [{ text: "", seconds: length }, { text: "", seconds: length }];
        else this.scenes.push({ text: "", seconds: this.scenes[last].seconds });
        this.write(true, this.scenes.length - (last < 0 ? 2 : 1));
      });
      const asText = made("button", { type: "button", textContent: say("As text") });
      asText.addEventListener("click", () => this.board.classList.toggle("written"));
      this.place.append(made("div", { className: "foot" }, ...(foreign ? [] : [add]), asText, this.sum));
      this.foot();
    }

    foot() {
      this.sum.textContent = this.scenes.length ? lengthOfScenes(this.scenes, this.most) : "";
      this.place.querySelectorAll(".scene").forEach((row, index) => row.classList.toggle("kept", this.isKept(index)));
    }

    // Whether a scene stands in the part of an earlier clip that stays as it is; `slack` frames are half a unit.
    isKept(index) {
      const { frames = 0, fps = 1, slack = 0 } = this.kept ?? {};
      return frames > 0 && total(this.scenes.slice(0, index + 1)) <= (frames + slack) / fps + 0.005;
    }

    row(scene, index, last) {
      const number = index + 1;
      const text = made("textarea", { value: scene.text, rows: 1, placeholder: say("What happens") });
      text.setAttribute("aria-label", say("What happens in scene {number}", { number }));
      text.addEventListener("input", () => { scene.text = text.value; this.write(false); });
      const seconds = made("input", { type: "number", min: 0, step: 0.5, value: scene.seconds });
      seconds.setAttribute("aria-label", say("Seconds of scene {number}", { number }));
      seconds.addEventListener("input", () => {
        const wish = rounded(Number(seconds.value));
        if (!(wish >= 0.1)) return;
        scene.seconds = wish;
        this.write(false);
      });
      seconds.addEventListener("blur", () => { seconds.value = scene.seconds; });
      const button = (sign, label, disabled, act) => {
        const one = made("button", { type: "button", textContent: sign, title: label, disabled });
        one.setAttribute("aria-label", label);
        one.addEventListener("click", act);
        return one;
      };
      const moves = made(
        "div",
        { className: "moves" },
        button("↑", say("Move scene {number} up", { number }), index === 0, () => { this.scenes = moved(this.scenes, index, -1); this.write(true, index - 1); }),
        button("↓", say("Move scene {number} down", { number }), index === last, () => { this.scenes = moved(this.scenes, index, 1); this.write(true, index + 1); }),
        button("✕", say("Remove scene {number}", { number }), false, () => { this.scenes.splice(index, 1); this.write(true, Math.max(0, index - 1)); }),
      );
      const place = made("b", { textContent: index + 1 });
      place.dataset.kept = say("kept");
      return made("div", { className: "scene" }, place, text, made("div", { className: "seconds" }, seconds), moves);
    }
  }

  const tables = new Map();
  const tableOf = (id) => {
    const board = document.querySelector(`#${id}-scenes`);
    const box = document.querySelector(`#${id} textarea`);
    if (!board?.querySelector(".scenes") || !box) return null;
    if (tables.get(id)?.board !== board || tables.get(id).box !== box) tables.set(id, new Table(board, box));
    return tables.get(id);
  };

  const latest = {};
  const showScenes = (id, rules, text, fps, model, frames) => {
    if (typeof document !== "undefined") {
      latest[id] = { text: text ?? "", most: Number((rules.models[model].last / fps).toFixed(2)), usual: frames / fps / 2 };
      showLatest(id);
    }
    // While a form is filled its length is what was kept, for it may have been chosen after the scenes.
    return globalThis.kinora.areFormsFilled() ? framesOfScenes(rules, text, fps, model, frames) : frames;
  };
  const showLatest = (id) => {
    const table = tableOf(id);
    if (!table) return;
    Object.assign(table, { most: latest[id].most, usual: latest[id].usual });
    table.follow(latest[id].text);
  };
  // How many frames of an earlier clip are kept, where the clip starts from `field`.
  const keptScenes = (id, field, slack, frames, fps, start) => {
    const table = tableOf(id);
    if (!table) return;
    table.kept = { frames: start === undefined || start === field ? Number(frames) : 0, fps, slack };
    if (table.sum) table.foot();
  };
  const readScenes = (id, text) => {
    if (scenesOf(text) !== null) document.querySelector(`#${id}-scenes`)?.classList.remove("written");
  };

  globalThis.kinora = Object.assign(globalThis.kinora ?? {}, { scenesOf, textOf, moved, lengthOfScenes, framesOfScenes, showScenes, keptScenes, readScenes });
  if (typeof document === "undefined") return;

  // A tab that was not open when its text came is drawn when it is opened.
  let planned = false;
  new MutationObserver(() => {
    if (planned) return;
    planned = true;
    setTimeout(() => {
      planned = false;
      for (const id of Object.keys(latest)) {
        if (!document.querySelector(`#${id}-scenes .scenes`)?.childElementCount) showLatest(id);
      }
    }, 150);
  }).observe(document.documentElement, { childList: true, subtree: true });
})();
