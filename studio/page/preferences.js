// What one browser prefers, kept by it alone: light or dark, how much of the page is shown, what is told when a clip is
// done. `<kinora-preferences>` draws it for the Settings tab; other parts of the page draw single switches of it.
(() => {
  const say = (...given) => globalThis.kinora.say(...given);
  const CHOICES = {
    theme: { label: "Theme", options: [["", "As the system"], ["light", "Light"], ["dark", "Dark"]] },
    view: { label: "Show", options: [["", "Everything"], ["simple", "Only what a clip needs"]] },
  };

  // Whether the page is dark: as it was chosen, else as the system is.
  const isDark = (theme, systemIsDark) => (theme ? theme === "dark" : systemIsDark);

  globalThis.kinora = Object.assign(globalThis.kinora ?? {}, { isDark });
  if (typeof HTMLElement === "undefined") return;

  // A browser that keeps nothing has no preferences, and nothing else is lost.
  const remembered = (name) => {
    try { return localStorage.getItem(`kinora-${name}`) ?? ""; } catch { return ""; }
  };
  const remember = (name, value) => {
    try { localStorage.setItem(`kinora-${name}`, value); } catch { /* as said */ }
    dispatchEvent(new CustomEvent("kinora-preference", { detail: name }));
  };

  // ---- what they do

  const system = matchMedia("(prefers-color-scheme: dark)");
  const paint = () => {
    const dark = isDark(remembered("theme"), system.matches);
    if (document.body && document.body.classList.contains("dark") !== dark) document.body.classList.toggle("dark", dark);
    document.documentElement.style.colorScheme = dark ? "dark" : "light";
    document.documentElement.dataset.view = remembered("view");
  };
  addEventListener("kinora-preference", paint);
  system.addEventListener("change", paint);
  paint();
  // Gradio sets its own idea of the theme once it is there, and when the system changes.
  addEventListener("DOMContentLoaded", () => {
    paint();
    new MutationObserver(paint).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  });

  // Two soft tones, made here: no file is fetched.
  const chime = () => {
    const context = new AudioContext();
    [[660, 0], [880, 0.18]].forEach(([pitch, after]) => {
      const [tone, loudness] = [context.createOscillator(), context.createGain()];
      tone.frequency.value = pitch;
      loudness.gain.setValueAtTime(0.12, context.currentTime + after);
      loudness.gain.exponentialRampToValueAtTime(0.001, context.currentTime + after + 0.5);
      tone.connect(loudness).connect(context.destination);
      tone.start(context.currentTime + after);
      tone.stop(context.currentTime + after + 0.5);
      tone.onended = () => context.state === "running" && after && context.close();
    });
  };
  const SWITCHES = {
    notify: {
      label: "Notification",
      allowed: async () => "Notification" in globalThis && (await Notification.requestPermission()) === "granted",
    },
    sound: { label: "Sound", allowed: () => { chime(); return true; } },
  };

  // ---- how they are set

  const made = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  // What shows a preference follows it, wherever it was changed.
  const follow = (element, name, show) => {
    addEventListener("kinora-preference", ({ detail }) => detail === name && show());
    show();
    return element;
  };

  // A switch that is remembered once it is allowed.
  const option = (name) => {
    const { label, allowed } = SWITCHES[name];
    const box = made("input", { type: "checkbox" });
    box.onchange = async () => remember(name, box.checked && (await allowed()) ? "yes" : "no");
    return follow(made("label", {}, box, ` ${say(label)}`), name, () => { box.checked = remembered(name) === "yes"; });
  };

  const choice = (name) => {
    const { label, options } = CHOICES[name];
    const list = made("select", { name }, ...options.map(([value, text]) => made("option", { value, textContent: say(text) })));
    list.onchange = () => remember(name, list.value);
    return follow(made("label", {}, made("span", { textContent: say(label) }), list), name, () => { list.value = remembered(name); });
  };

  class Preferences extends HTMLElement {
    connectedCallback() {
      if (this.firstChild) return;
      const done = made("fieldset", {}, made("legend", { textContent: say("When a clip is done") }), option("notify"), option("sound"));
      this.replaceChildren(...Object.keys(CHOICES).map(choice), done);
    }
  }
  Object.assign(globalThis.kinora, { remembered, remember, option, chime });
  customElements.define("kinora-preferences", Preferences);
})();
