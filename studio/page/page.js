// What the page does in the browser itself. Gradio's events call the functions of `kinora` by name and hand over their
// numbers and words as data (see `script` in plumbing.py); the rest watches the page.
(() => {
  // ---- data in, values out

  const fill = (sentence, values) => sentence.replace(/\{(\w+)\}/g, (_, name) => values[name]);
  const escaped = (text) => String(text).replace(/[&<>"']/g, (sign) => `&#${sign.codePointAt(0)};`);
  const quiet = (text) => `<span class="count">${escaped(text)}</span>`;
  const exact = (frames, fps) => (frames / fps).toFixed(2);

  // A model makes `first`, `first + step`, ... up to `last` frames.
  const nearest = ({ first, step, last }, wanted) =>
    first + step * Math.min(Math.max(0, Math.round((wanted - first) / step)), Math.floor((last - first) / step));

  const constant = (value) => value;

  const promptCount = (sentence, text) => quiet(fill(sentence, { count: (text || "").length.toLocaleString("en-US") }));

  // One output takes a value, several take a list of them.
  const presetSteps = (presets, model, name) => {
    const counts = Object.values(presets[model][name]);
    return counts.length > 1 ? counts : counts[0];
  };

  const lengthCaption = ({ models, sentences }, fps, model, frames, size) => {
    const { first, step, last, unit } = models[model];
    const units = (frames - first) / step + 1;
    const parts = unit ? [fill(units === 1 ? sentences.unit : sentences.units, { units })] : [];
    parts.push(fill(sentences.length, { frames, fps, seconds: exact(frames, fps) }));
    const [, width, height] = /^(\d+)x(\d+)$/.exec(size) ?? [];
    if (unit && width) parts.push(fill(sentences.size, { width, height }));
    parts.push(fill(sentences.most, { seconds: exact(last, fps) }));
    return parts.join(", ");
  };

  // Seconds are another way to set the frames: they go to the nearest length that the model can make.
  const framesFromSeconds = (rules, seconds, fps, model, frames) =>
    seconds > 0 && fps > 0 ? nearest(rules.models[model], seconds * fps) : frames;

  // The frames are what counts, so the seconds follow them, unless somebody has just typed a number that means the same.
  const secondsFromFrames = (rules, seconds, fps, model, frames, size) => {
    const same = seconds > 0 && framesFromSeconds(rules, seconds, fps, model, frames) === frames;
    return [same ? seconds : Number(exact(frames, fps)), quiet(lengthCaption(rules, fps, model, frames, size))];
  };

  // Leaving the field shows what will be made, and says so where that is not what was asked for.
  const settledSeconds = (rules, seconds, fps, model, frames, size) => {
    const { last } = rules.models[model];
    const { tooLong, tooShort } = rules.sentences;
    const made = exact(frames, fps);
    const words = seconds > Number(exact(last, fps)) ? tooLong : !(seconds > 0) ? tooShort : "";
    const remark = words ? `<span class="remark" role="status">${escaped(fill(words, { asked: seconds ?? 0, seconds: made }))}</span> ` : "";
    return [Number(made), remark + quiet(lengthCaption(rules, fps, model, frames, size))];
  };

  // How much larger a small clip is drawn: a whole number of times, so that each of its pixels is a square.
  const enlargement = (most, width, available) => Math.max(1, Math.min(most, Math.floor(available / width)));

  // ---- what gradio's events do to the page

  // The clip itself shows which frame is picked: its video stops there.
  const showFrame = (name, frame, count) => {
    const video = document.querySelector(`#${name}-video video`);
    if (!video || !video.duration || !count) return;
    video.pause();
    video.currentTime = ((frame - 0.5) / count) * video.duration;
  };

  globalThis.kinora = {
    constant, promptCount, presetSteps, framesFromSeconds, secondsFromFrames, settledSeconds, enlargement, showFrame,
  };
  if (typeof document === "undefined") return;

  // ---- watching the page

  const visible = (element) => element.offsetParent !== null;
  const onPhone = () => innerWidth <= 768;

  // Buttons that need their context in their name.
  const label = () => {
    document.querySelectorAll(".slots").forEach((board) =>
      board.querySelectorAll(".slot").forEach((slot, index) => {
        const name = `picture ${index + 1}`;
        for (const [kind, words] of [["left", `Move ${name} left`], ["right", `Move ${name} right`], ["clear", `Clear ${name}`]]) {
          slot.querySelector(`button.${kind}`)?.setAttribute("aria-label", words);
        }
        slot.querySelector(".keep input")?.setAttribute("aria-label", `Keep the background of ${name}`);
        slot.querySelector("input[type=file]")?.setAttribute("aria-label", `Choose ${name}`);
      }),
    );
  };

  const currentCard = () => [...document.querySelectorAll(".status .card")].find(visible);

  // Progress in the title of the browser's tab.
  const title = () => {
    const card = currentCard();
    const share = card?.querySelector(".bar")?.getAttribute("aria-valuenow");
    const prefix = card?.matches(".running, .waiting") ? `(${share ?? 0} %) ` : card?.matches(".done") ? "✓ " : "";
    if (document.title !== `${prefix}Kinora`) document.title = `${prefix}Kinora`;
  };

  // What goes on, spoken when it changes and not each second: the region stays while the cards come and go.
  const spoken = document.createElement("div");
  spoken.className = "spoken";
  spoken.setAttribute("role", "status");
  const speak = () => {
    if (!spoken.isConnected && document.body) document.body.append(spoken);
    const card = currentCard();
    const parts = card?.matches(".failed") ? ".stage, p" : ".stage";
    const words = [...(card?.querySelectorAll(parts) ?? [])].map((part) => part.textContent).join(". ");
    if (!card?.matches(".empty") && spoken.textContent !== words) spoken.textContent = words;
  };

  // On a phone the result stands below the form, and a clip of the history below the list: go there.
  let wasActive = false;
  let wasOpen = false;
  const follow = () => {
    const card = currentCard();
    const active = card?.matches(".running, .waiting") ?? false;
    if (active && !wasActive && onPhone()) card.scrollIntoView({ block: "start", behavior: "smooth" });
    wasActive = active;
    const opened = document.querySelector(".opened");
    const open = Boolean(opened && visible(opened));
    if (open && !wasOpen && onPhone()) opened.scrollIntoView({ block: "start", behavior: "smooth" });
    wasOpen = open;
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
    setTimeout(() => { planned = false; label(); title(); speak(); follow(); enlarge(); }, 200);
  };
  new MutationObserver(look).observe(document.documentElement, { childList: true, subtree: true });
  addEventListener("resize", look);
  document.addEventListener("loadedmetadata", enlarge, true);

  // A picture pasted anywhere goes into the first empty place for one.
  document.addEventListener("paste", (event) => {
    const pictures = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
    const places = [...document.querySelectorAll(".slot, .first-frame")].filter(visible);
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

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    [...document.querySelectorAll("button.go")].find(visible)?.click();
  });
})();
