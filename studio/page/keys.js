// The keyboard: Ctrl+Enter makes a clip, Esc ends one, Space plays, arrows step through frames, ? tells of all this.
(() => {
  const say = (...given) => globalThis.kinora.say(...given);
  const KEYS = [
    ["Ctrl + Enter", "Generate"],
    ["Esc", "End the clip that is being made (asks first)"],
    ["Space", "Play or pause the clip"],
    ["← →", "One frame back or on"],
    ["Ctrl + V", "Put a picture into the first empty place"],
    ["?", "Show or hide this list"],
  ];
  const FPS = 12; // where the player's classes do not say

  // Keys belong to a field while somebody is in it.
  const isField = ({ tagName, type, isContentEditable }) =>
    isContentEditable || ["TEXTAREA", "SELECT"].includes(tagName) || (tagName === "INPUT" && !["checkbox", "radio", "button"].includes(type));
  // What a button, a tab or a player does with a key itself, it keeps.
  const takesKeys = (element) => isField(element) || ["BUTTON", "A", "INPUT", "VIDEO", "SUMMARY"].includes(element.tagName) || element.role === "tab";

  // Which of our actions a key is; `at` is the element that has the focus.
  const actionOf = ({ key, ctrlKey, metaKey, altKey }, at) => {
    if (key === "Enter" && (ctrlKey || metaKey)) return "generate";
    if (ctrlKey || metaKey || altKey) return "";
    if (key === "Escape") return isField(at) ? "" : "end";
    if (key === "?" && !isField(at)) return "help";
    if (takesKeys(at)) return "";
    return { " ": "play", ArrowLeft: "back", ArrowRight: "on" }[key] ?? "";
  };

  globalThis.kinora = Object.assign(globalThis.kinora ?? {}, { actionOf });
  if (typeof document === "undefined") return;

  const visible = (element) => element.offsetParent !== null;
  const first = (selector) => [...document.querySelectorAll(selector)].find(visible);

  const help = () => {
    const there = document.querySelector("dialog.keys:not(.mending)");
    if (there) { there.close(); return; }
    const dialog = document.createElement("dialog");
    dialog.className = "keys";
    dialog.setAttribute("aria-label", say("Keys"));
    const list = document.createElement("dl");
    for (const [key, does] of KEYS) {
      for (const [tag, text] of [["dt", say(key)], ["dd", say(does)]]) list.append(Object.assign(document.createElement(tag), { textContent: text }));
    }
    const close = Object.assign(document.createElement("button"), { textContent: say("Close"), type: "button" });
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => dialog.remove());
    dialog.append(Object.assign(document.createElement("h2"), { textContent: say("Keys") }), list, close);
    document.body.append(dialog);
    dialog.showModal();
  };

  const step = (by) => {
    const video = first(".clip video");
    if (!video?.duration) return;
    video.pause();
    const fps = Number(/\bfps-([\d.]+)/.exec(video.closest(".clip").className)?.[1]) || FPS;
    const last = Math.round(video.duration * fps) - 1;
    const frame = Math.min(last, Math.max(0, Math.floor(video.currentTime * fps + 0.01) + by));
    video.currentTime = (frame + 0.5) / fps; // its middle: a seek to an edge may show the neighbour
  };
  const act = {
    generate: () => first("button.go")?.click(),
    end: () => {
      const cancel = first("button[id$='-cancel']");
      if (cancel && confirm(say("End the clip that is being made?"))) cancel.click();
    },
    help,
    play: () => {
      const video = first(".clip video");
      if (video) video.paused ? video.play() : video.pause();
    },
    back: () => step(-1),
    on: () => step(1),
  };

  document.addEventListener("keydown", (event) => {
    const open = document.querySelector("dialog[open]");
    if (event.defaultPrevented || (open && (event.key !== "?" || open.matches(".mending")))) return;
    const name = actionOf(event, event.target);
    if (!name) return;
    if (event.repeat && !["back", "on"].includes(name)) { event.preventDefault(); return; } // held down, once is meant
    if (["play", "back", "on"].includes(name) && !first(".clip video")) return;
    if (name !== "end") event.preventDefault();
    act[name]();
  });
})();
