// What History does in the browser itself.
(() => {
  if (typeof document === "undefined") return;

  const opened = () => document.querySelector(".opened");

  // Escape closes the clip that is open.
  document.addEventListener("keydown", (event) => {
    const writing = event.target.closest?.("input, textarea, [role=listbox]");
    if (event.key !== "Escape" || writing || !opened()?.getClientRects().length) return;
    opened().querySelector(".close")?.click();
  });

  // On a phone the open clip is a sheet over the list, which stays where it was.
  new MutationObserver(() => {
    const sheet = opened()?.getClientRects().length && innerWidth <= 768;
    document.body.style.overflow = sheet ? "hidden" : "";
  }).observe(document.documentElement, { childList: true, subtree: true, attributes: true, attributeFilter: ["class"] });
})();
