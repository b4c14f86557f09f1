// What gradio's components do not do by themselves: labels for buttons that need their context, progress in the
// title of the browser's tab, the way to the result on a phone, and Ctrl+Enter for Generate.
(() => {
  const visible = (element) => element.offsetParent !== null;

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

  const title = () => {
    const card = [...document.querySelectorAll(".status .card")].find(visible);
    const share = card?.querySelector(".bar")?.getAttribute("aria-valuenow");
    const prefix = card?.matches(".running, .waiting") ? `(${share ?? 0} %) ` : card?.matches(".done") ? "✓ " : "";
    if (document.title !== `${prefix}Kinora`) document.title = `${prefix}Kinora`;
  };

  // On a phone the result stands below the form: go there when a clip begins.
  let wasActive = false;
  const follow = () => {
    const card = [...document.querySelectorAll(".status .card")].find(visible);
    const active = card?.matches(".running, .waiting") ?? false;
    if (active && !wasActive && innerWidth <= 768) card.scrollIntoView({ block: "start", behavior: "smooth" });
    wasActive = active;
  };

  let planned = false;
  new MutationObserver(() => {
    if (planned) return;
    planned = true;
    setTimeout(() => { planned = false; label(); title(); follow(); }, 200);
  }).observe(document.documentElement, { childList: true, subtree: true });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    [...document.querySelectorAll("button.go")].find(visible)?.click();
  });
})();
