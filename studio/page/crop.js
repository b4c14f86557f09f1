// The clip's frame on its picture is dragged where it should lie; the slider of its position follows, and so does all else.
(() => {
  // Where the middle of the frame is put, 0..100 %, along the side that is cut off; `at` and `frame` are shares of it.
  const positionAt = (at, frame) => {
    const room = 1 - frame;
    return room > 0 ? Math.round(100 * Math.min(1, Math.max(0, (at - frame / 2) / room))) : 50;
  };

  globalThis.kinora = Object.assign(globalThis.kinora ?? {}, { positionAt });
  if (typeof document === "undefined") return;

  // The view says how large the frame is of it: data-wide and data-high, shares of its sides.
  const dragTo = (image, event) => {
    const figure = image.closest("figure");
    const [wide, high] = [Number(figure.dataset.wide), Number(figure.dataset.high)];
    const field = image.closest(".first-frame")?.querySelector("[id$='-position'] input[type=number]");
    if (!field || !(wide > 0) || !(high > 0)) return;
    const box = image.getBoundingClientRect();
    // The picture keeps its shape inside its box.
    const scale = Math.min(box.width / image.naturalWidth, box.height / image.naturalHeight);
    const [width, height] = [image.naturalWidth * scale, image.naturalHeight * scale];
    const [left, top] = [box.left + (box.width - width) / 2, box.top + (box.height - height) / 2];
    const across = wide < high;
    const value = across ? positionAt((event.clientX - left) / width, wide) : positionAt((event.clientY - top) / height, high);
    if (Number(field.value) === value) return;
    field.value = value;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  };

  let held = null;
  document.addEventListener("pointerdown", (event) => {
    const image = event.target.closest?.(".crop-view figure[data-wide] img");
    if (!image) return;
    event.preventDefault();
    held = image.closest(".crop-view");
    dragTo(image, event);
  });
  document.addEventListener("pointermove", (event) => {
    const image = held?.querySelector("figure img");
    if (image) dragTo(image, event);
  });
  for (const end of ["pointerup", "pointercancel"]) document.addEventListener(end, () => { held = null; });
})();
