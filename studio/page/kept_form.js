// Forms over a reload: what their components hold is kept by this browser tab, and for a new one by the browser.
(() => {
  const KEY = "kinora-forms";
  const stores = () => (typeof document === "undefined" ? [] : [sessionStorage, localStorage]);
  const kept = { forms: {}, engines: {}, tab: "" };
  let filled = false;
  let planned = 0;

  // A browser that keeps nothing, or has no room, costs the form after a reload and nothing else.
  const save = () => {
    clearTimeout(planned);
    for (const store of stores()) {
      try { store.setItem(KEY, JSON.stringify(kept)); } catch { /* as said */ }
    }
  };
  const soon = () => {
    clearTimeout(planned);
    planned = setTimeout(save, 250);
  };

  // Values come one by one; `layout` says how many of them each control has.
  const byControl = (layout, values) => {
    let place = 0;
    return Object.fromEntries(layout.map(([name, count]) => [name, values.slice(place, (place += count))]));
  };

  const rememberForm = (layout, engine, ...values) => {
    if (!filled) return;
    kept.forms[engine] = byControl(layout, values);
    soon();
  };
  const rememberEngine = (tab, engine) => {
    if (!filled) return;
    kept.engines[tab] = engine;
    soon();
  };

  const tabs = () => [...document.querySelectorAll("#tabs > .tab-wrapper [role=tab]")];

  const rememberedForms = () => {
    for (const store of stores()) {
      try {
        const found = JSON.parse(store.getItem(KEY));
        if (!found) continue;
        Object.assign(kept, found);
        break;
      } catch { /* of another version, or damaged: the page as it is drawn */ }
    }
    tabs().find((tab) => tab.dataset.tabId === kept.tab)?.click();
    return { forms: kept.forms, engines: kept.engines };
  };
  // What somebody writes before that answer is there would be lost in it: it is written once more.
  const written = new Map();
  const note = ({ target }) => { if (target.matches?.("textarea, input")) written.set(target, target.value); };
  const writeAgain = () => {
    document.removeEventListener("input", note, true);
    for (const [field, text] of written) {
      if (!field.isConnected || field.value === text) continue;
      field.value = text;
      field.dispatchEvent(new Event("input", { bubbles: true }));
    }
  };
  // From here on what changes is a person's doing.
  const formsAreFilled = () => {
    setTimeout(writeAgain, 100);
    setTimeout(() => { filled = true; }, 300);
  };

  const areFormsFilled = () => filled;

  globalThis.kinora = { ...globalThis.kinora, areFormsFilled, rememberForm, rememberEngine, rememberedForms, formsAreFilled, byControl };
  if (typeof document === "undefined") return;
  document.addEventListener("input", note, true);
  addEventListener("pagehide", () => filled && save());
  document.addEventListener("click", (event) => {
    const tab = event.target.closest?.("#tabs > .tab-wrapper [role=tab]");
    if (!tab || !filled) return;
    kept.tab = tab.dataset.tabId;
    soon();
  });
})();
