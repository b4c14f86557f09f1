// The browser's stores, where it has them. With cookies blocked even to look at them is an error, and gradio looks: then
// stores of this page's own hold what is kept, as long as it is open. First of all scripts.
(() => {
  for (const name of typeof window === "undefined" ? [] : ["localStorage", "sessionStorage"]) {
    try { void window[name].length; } catch {
      const held = new Map();
      const value = {
        getItem: (key) => held.get(String(key)) ?? null, setItem: (key, text) => { held.set(String(key), String(text)); },
        removeItem: (key) => { held.delete(String(key)); }, clear: () => held.clear(),
        key: (index) => [...held.keys()][index] ?? null, get length() { return held.size; },
      };
      Object.defineProperty(window, name, { configurable: true, value });
    }
  }
})();
