// What History does in the browser itself.
(() => {
  if (typeof document === "undefined") return;

  const opened = () => document.querySelector(".opened");

  // Escape closes the clip that is open, where nothing lies over it, and does nothing else then.
  document.addEventListener("keydown", (event) => {
    const writing = event.target.closest?.("input, textarea, [role=listbox]");
    const above = event.defaultPrevented || document.querySelector("dialog[open]");
    if (event.key !== "Escape" || writing || above || !opened()?.getClientRects().length) return;
    event.preventDefault();
    opened().querySelector(".close")?.click();
  }, true);

  // On a phone the open clip is a sheet over the list, which stays where it was.
  new MutationObserver(() => {
    const sheet = opened()?.getClientRects().length && innerWidth <= 768;
    document.body.style.overflow = sheet ? "hidden" : "";
  }).observe(document.documentElement, { childList: true, subtree: true, attributes: true, attributeFilter: ["class"] });

  // A video dropped anywhere but on a field of its own is read for its settings.
  const isVideo = (item) => item.kind === "file" && /^video\//.test(item.type);
  const elsewhere = (event) => !event.target.closest?.("[data-testid=video], [data-testid=file-upload], .upload-container, button:has(input[type=file])");
  document.addEventListener("dragover", (event) => {
    if ([...(event.dataTransfer?.items ?? [])].some(isVideo) && elsewhere(event)) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    const video = [...(event.dataTransfer?.files ?? [])].find((file) => /^video\//.test(file.type));
    if (!video || !elsewhere(event)) return;
    event.preventDefault();
    document.querySelector("[role=tab][data-tab-id=history]")?.click();
    const fold = document.querySelector("#history-import");
    const given = new DataTransfer();
    given.items.add(video);
    const fill = (tries) => {
      const input = fold?.querySelector("input[type=file]");
      if (input) {
        input.files = given.files;
        input.dispatchEvent(new Event("change", { bubbles: true }));
        fold.scrollIntoView({ block: "center" });
      } else if (tries) {
        const head = fold?.querySelector("button");
        if (head && !head.classList.contains("open")) head.click();
        setTimeout(fill, 300, tries - 1);
      }
    };
    fill(10);
  });
})();
