// The page's words in its language. The server translates what it sends; what these files say themselves, `say` does:
// the English is the key, with its values as {name}, and gradio_config.kinora has the words (see spoken.py).
(() => {
  const words = () => globalThis.gradio_config?.kinora?.words ?? {};

  // A sentence in the page's language, its values filled in; without values they stay as they are.
  const say = (sentence, values = {}) =>
    (words()[sentence] ?? sentence).replace(/\{(\w+)\}/g, (field, name) => (name in values ? values[name] : field));

  // A name such as "Wide 832 × 480": its first word is one of ours, perhaps without the capital.
  const sayWord = (word) => words()[word] ?? words()[word.toLowerCase()] ?? word;
  const sayName = (name) => words()[name] ?? String(name).replace(/^[A-Za-z]+/, sayWord);

  // The language was changed and saved: everything is said anew. Forms are kept over a reload.
  const speak = (setting, said) => {
    if (setting !== globalThis.gradio_config?.kinora?.setting && !/role="alert"/.test(said)) location.reload();
  };

  globalThis.kinora = Object.assign(globalThis.kinora ?? {}, { say, sayName, speak });
})();
