// What the page does in the browser itself. Gradio's events call the functions of `kinora` by name and hand over their
// numbers and words as data (see `script` in plumbing.py); the rest watches the page.
(() => {
  // ---- data in, values out

  const say = (...given) => globalThis.kinora.say(...given);
  const sayName = (name) => globalThis.kinora.sayName(name);
  const escaped = (text) => String(text).replace(/[&<>"']/g, (sign) => `&#${sign.codePointAt(0)};`);
  const quiet = (text) => `<span class="count">${escaped(text)}</span>`;
  const exact = (frames, fps) => (frames / fps).toFixed(2);

  // A model makes `first`, `first + step`, ... up to `last` frames.
  const nearest = ({ first, step, last }, wanted) =>
    first + step * Math.min(Math.max(0, Math.round((wanted - first) / step)), Math.floor((last - first) / step));

  const constant = (value) => value;

  const promptCount = (sentence, text) => quiet(say(sentence, { count: (text || "").length.toLocaleString("en-US") }));

  // A seed is typed, or drawn anew for every clip: then its field only says so.
  const seedField = (most, random, seed) => {
    const drawn = () => Math.floor(Math.random() * (most + 1));
    return { __type__: "update", interactive: !random, value: random ? null : seed || drawn() };
  };

  // Gradio draws a number without a value as 0, which is a seed like any other.
  const undrawnSeed = (random, seed) => (random ? null : seed);

  // What is set, on the line that opens to set it: "Starter · Wide · 2.75 s · Standard · random seed".
  const settingsLine = ({ models, sentences }, model, size, frames, fps, quality, steps, random, seed, clips) => {
    const { title, shapes } = models[model] ?? { title: model, shapes: {} };
    const said = [sayName(title), shapes[size] ? sayName(shapes[size]) : String(size).replace("x", " × "), say("{seconds} s", { seconds: (frames / fps).toFixed(2) })];
    said.push(quality ? say(quality) : say(sentences.steps, { steps }));
    said.push(random ? say(sentences.random) : say(sentences.seed, { seed }));
    if (clips > 1) said.push(say(sentences.clips, { clips }));
    return { __type__: "update", label: said.join(" · ") };
  };

  // One output takes a value, several take a list of them.
  const presetSteps = (presets, model, name) => {
    const counts = Object.values(presets[model][name]);
    return counts.length > 1 ? counts : counts[0];
  };

  // The length in words; where it is not what was asked for, that first.
  const lengthCaption = ({ models, sentences }, seconds, fps, model, frames) => {
    const { first, last } = models[model];
    const [least, most, made] = [first, last, frames].map((count) => exact(count, fps));
    const wrong = seconds > Number(most) ? sentences.tooLong : seconds < Number(least) ? sentences.tooShort : "";
    const remark = wrong && `<span class="remark" role="status">${escaped(say(wrong, { asked: seconds, seconds: made }))}</span> `;
    return remark + quiet([say(sentences.length, { frames, fps, seconds: made }), say(sentences.most, { seconds: most })].join(say(", ")));
  };

  const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
  const update = (changes) => ({ __type__: "update", ...changes });

  // A wish in seconds becomes the nearest length that the model can make, and its caption says what became of it.
  const framesFromSeconds = (rules, seconds, fps, model, frames) => {
    if (!(fps > 0)) return [frames, update({})];
    const made = isNumber(seconds) ? nearest(rules.models[model], seconds * fps) : frames;
    return [made, lengthCaption(rules, isNumber(seconds) ? seconds : Number(exact(made, fps)), fps, model, made)];
  };

  const isTyping = (field) =>
    typeof document !== "undefined" && document.activeElement?.matches(`#${field} input[type=number]`);

  // The frames are what counts, so the seconds and their range follow them, but for a number that is being typed.
  const secondsFromFrames = (rules, seconds, fps, model, frames) => {
    if (!(fps > 0)) return [update({}), update({})]; // its field is being written
    const { first, step, last } = rules.models[model];
    const [minimum, maximum, value] = [first, last, frames].map((count) => Number(exact(count, fps)));
    const range = { minimum, maximum, step: Number((step / fps).toFixed(4)) };
    const kept = isTyping(rules.field) && isNumber(seconds);
    const wish = isNumber(seconds) && nearest(rules.models[model], seconds * fps) === frames ? seconds : value;
    return [update(kept ? range : { ...range, value }), lengthCaption(rules, wish, fps, model, frames)];
  };

  // How much larger a small clip is drawn: a whole number of times, so that each of its pixels is a square.
  const enlargement = (most, width, available) => Math.max(1, Math.min(most, Math.floor(available / width)));

  // How the result stands, for the button that leads there; nothing where there is none.
  const resultWords = (kind, percent) => {
    if (/\brunning\b/.test(kind)) return percent ? `${percent} %` : say("Making");
    return /\bwaiting\b/.test(kind) ? say("Waiting") : /\bfailed\b/.test(kind) ? say("Not made") : /\bempty\b/.test(kind) ? "" : say("Clip");
  };

  // What became of the clip that is shown: it has "begun" to be made, or is "done" just now; else "".
  const followed = (before, now) => {
    const busy = (state) => state === "running" || state === "waiting";
    return busy(now) && !busy(before) ? "begun" : now === "done" && busy(before) ? "done" : "";
  };

  // ---- what gradio's events do to the page

  // The clip itself shows which frame is picked: its video stops there.
  const showFrame = (name, frame, count) => {
    const video = document.querySelector(`#${name}-video video`);
    if (!video || !video.duration || !count) return;
    video.pause();
    video.currentTime = ((frame - 0.5) / count) * video.duration;
  };

  // Of the fields that a clip can start from, the one that is filled becomes the choice.
  const startFrom = (field, held, choice) => (held && held.length !== 0 ? field : choice);

  globalThis.kinora = {
    ...globalThis.kinora, constant, startFrom, promptCount, presetSteps, framesFromSeconds, secondsFromFrames, seedField, undrawnSeed, settingsLine, enlargement, showFrame,
    resultWords, followed,
  };
  if (typeof document === "undefined") return;

  // ---- watching the page

  const visible = (element) => element.offsetParent !== null;
  const onPhone = () => innerWidth <= 768;

  // What gradio calls its own buttons in English, whatever the language.
  const GRADIOS = ["Remove Image", "Upload file", "Capture from camera", "Paste from clipboard", "Gradio footer navigation"];

  // Buttons that need their context in their name.
  const label = () => {
    for (const attribute of ["aria-label", "title"]) {
      for (const name of GRADIOS.filter((one) => say(one) !== one)) {
        document.querySelectorAll(`[${attribute}="${name}"]`).forEach((one) => one.setAttribute(attribute, say(name)));
      }
    }
    document.querySelectorAll(".slots").forEach((board) =>
      board.querySelectorAll(".slot").forEach((slot, index) => {
        const number = index + 1;
        const words = {
          "button.left": say("Move picture {number} left", { number }),
          "button.right": say("Move picture {number} right", { number }),
          ".icon-button-wrapper button": say("Clear picture {number}", { number }),
        };
        for (const [kind, word] of Object.entries(words)) slot.querySelector(kind)?.setAttribute("aria-label", word);
        slot.querySelector(".keep input")?.setAttribute("aria-label", say("Keep the background of picture {number}", { number }));
        slot.querySelector("input[type=file]")?.setAttribute("aria-label", say("Choose picture {number}", { number }));
      }),
    );
  };

  const currentCard = () => [...document.querySelectorAll(".status .card")].find(visible);

  // What goes on, spoken when it changes and not each second: the region stays while the cards come and go.
  const spoken = document.createElement("div");
  spoken.className = "spoken";
  spoken.setAttribute("role", "status");
  const speak = () => {
    if (!spoken.isConnected && document.body) document.body.append(spoken);
    const card = currentCard();
    const parts = card?.matches(".failed") ? ".stage, p" : ".stage";
    const words = [...(card?.querySelectorAll(parts) ?? [])].map((part) => part.textContent).join(say(". "));
    if (!card?.matches(".empty") && spoken.textContent !== words) spoken.textContent = words;
  };

  // On a phone the result stands below the form. The page goes there when a clip begins, and once more when it is done,
  // unless somebody writes, or has gone elsewhere since.
  const FIELD = "textarea, input:not([type=checkbox], [type=radio], [type=button])";
  let before = { place: "", state: "" };
  let left = false;
  const show = (element) => {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    element.scrollIntoView({ block: "start", behavior: still ? "auto" : "smooth" });
  };
  const follow = () => {
    const card = currentCard();
    const now = {
      place: card?.closest(".status")?.id ?? "",
      state: ["running", "waiting", "done"].find((state) => card?.matches(`.${state}`)) ?? "",
    };
    const step = now.place === before.place ? followed(before.state, now.state) : ""; // another tab is no step
    const elsewhere = left || document.activeElement?.matches(FIELD);
    if (onPhone() && (step === "begun" || (step === "done" && !elsewhere))) show(card);
    if (step === "begun") left = false;
    before = now;
  };
  for (const gesture of ["touchmove", "wheel"]) addEventListener(gesture, () => { left = true; }, { passive: true });

  // From then on a button beside Generate says how it stands, and leads there.
  const lead = () => {
    const card = currentCard();
    const dock = [...document.querySelectorAll(".controls .dock")].find(visible);
    if (!dock || !card) return;
    let button = dock.querySelector(".to-result");
    if (!button) {
      button = Object.assign(document.createElement("button"), { className: "to-result", type: "button" });
      button.addEventListener("click", () => currentCard() && show(currentCard()));
      dock.append(button);
    }
    const words = resultWords(card.className, card.querySelector("[role=progressbar]")?.getAttribute("aria-valuenow"));
    if (button.textContent !== words) button.textContent = words;
    button.hidden = !words || !onPhone();
  };

  // Clips of the small built-in models keep their own pixels, however wide the column is.
  const enlarge = () => {
    document.querySelectorAll(".own-pixels video").forEach((video) => {
      const room = video.closest(".own-pixels").clientWidth;
      if (!video.videoWidth || !room) return;
      const times = enlargement(4, video.videoWidth, room);
      for (const [side, pixels] of [["width", video.videoWidth], ["height", video.videoHeight]]) {
        if (video.style[side] !== `${pixels * times}px`) video.style[side] = `${pixels * times}px`;
      }
    });
    document.querySelectorAll(".clip:not(.own-pixels) video[style]").forEach((video) => video.removeAttribute("style"));
  };

  let planned = false;
  const look = () => {
    if (planned) return;
    planned = true;
    setTimeout(() => { planned = false; label(); speak(); follow(); lead(); enlarge(); }, 200);
  };
  new MutationObserver(look).observe(document.documentElement, { childList: true, subtree: true });
  addEventListener("resize", look);
  document.addEventListener("loadedmetadata", enlarge, true);

  // A picture pasted anywhere goes into the first empty place for one; text that comes with its picture is text.
  document.addEventListener("paste", (event) => {
    const written = event.target.closest?.("textarea, input, [contenteditable]") && event.clipboardData?.types.includes("text/plain");
    if (written || document.querySelector("dialog[open]")) return;
    const pictures = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
    // One that is not chosen to start from becomes so by what is put there.
    const places = [...document.querySelectorAll(".slot, .first-frame")].filter((place) => visible(place.closest(".starts") ?? place));
    const empty = places.find((place) => !place.querySelector("[data-testid=image] img"));
    const input = empty?.querySelector("input[type=file]");
    if (!pictures.length || !input) return;
    event.preventDefault();
    event.stopPropagation();
    const given = new DataTransfer();
    given.items.add(pictures[0]);
    input.files = given.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }, true);
})();
