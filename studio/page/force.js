// A force on the picture that a clip begins with: an arrow from where it pushes, as long as its way. Pressed and dragged,
// it writes the numbers beside it; whatever changes these, the arrow follows.
(() => {
  // The way of the weakest push and of the strongest, in widths of the frame.
  const [LEAST, MOST] = [1 / 8, 1 / 2];
  const CLICK = 0.02; // widths: a shorter drag is a click

  const limited = (value, least, most) => Math.min(most, Math.max(least, value));
  const rounded = (value) => Math.round(100 * value) / 100;

  // What a drag means: `from` and `to` are [across, down] in shares of the picture, `shape` is its height in widths.
  const forceOf = (from, to, shape) => {
    const [right, up] = [to[0] - from[0], (from[1] - to[1]) * shape];
    const way = Math.hypot(right, up);
    const place = { force_x: rounded(limited(from[0], 0, 1)), force_y: rounded(limited(1 - from[1], 0, 1)) };
    if (way < CLICK) return place;
    return {
      ...place,
      force_angle: (Math.round((Math.atan2(up, right) * 180) / Math.PI) + 360) % 360,
      force_strength: rounded(limited((way - LEAST) / (MOST - LEAST), 0, 1)),
    };
  };

  // Both ends of the arrow of a force, likewise; wind blows from the middle.
  const arrowOf = (kind, { force_x, force_y, force_angle, force_strength }, shape) => {
    const from = kind === "wind" ? [0.5, 0.5] : [force_x, 1 - force_y];
    const [way, turn] = [LEAST + (MOST - LEAST) * force_strength, (force_angle * Math.PI) / 180];
    return [from, [from[0] + way * Math.cos(turn), from[1] - (way * Math.sin(turn)) / shape]];
  };

  // Field of the picture -> its fields, and the force as it stands.
  const held = new Map();

  const showForce = (places, kind, ...numbers) => {
    const force = Object.fromEntries(Object.keys(places.fields).map((name, index) => [name, Number(numbers[index])]));
    held.set(places.picture, { places, kind, force });
    if (typeof document !== "undefined") setTimeout(() => draw(places.picture), 50);
  };

  globalThis.kinora = Object.assign(globalThis.kinora ?? {}, { forceOf, arrowOf, showForce });
  if (typeof document === "undefined") return;

  const SVG = "http://www.w3.org/2000/svg";

  const draw = (picture) => {
    const { kind, force } = held.get(picture);
    const figure = document.querySelector(`#${picture} .crop-view figure`);
    const image = figure?.querySelector("img");
    figure?.querySelectorAll("svg.force").forEach((old) => old.remove());
    if (!image || !kind || kind === "none") return;
    if (!image.complete) {
      image.addEventListener("load", () => draw(picture), { once: true });
      return;
    }
    // The picture keeps its shape inside its box.
    const scale = Math.min(image.clientWidth / image.naturalWidth, image.clientHeight / image.naturalHeight);
    const [wide, high] = [image.naturalWidth * scale, image.naturalHeight * scale];
    if (!(wide > 0)) return;
    const sheet = document.createElementNS(SVG, "svg");
    sheet.setAttribute("class", "force");
    sheet.setAttribute("role", "img");
    sheet.setAttribute("aria-label", globalThis.kinora.say("The force: {force_angle} degrees, strength {force_strength}", force));
    sheet.dataset.picture = picture;
    sheet.setAttribute("viewBox", `0 0 ${wide} ${high}`);
    Object.assign(sheet.style, {
      left: `${image.offsetLeft + image.clientLeft + (image.clientWidth - wide) / 2}px`,
      top: `${image.offsetTop + image.clientTop + (image.clientHeight - high) / 2}px`,
      width: `${wide}px`,
      height: `${high}px`,
    });
    const ends = arrowOf(kind, force, high / wide).map(([x, y]) => [x * wide, y * high]);
    const [[x, y], [toX, toY]] = ends;
    const turn = Math.atan2(toY - y, toX - x);
    const wing = (side) => `L ${toX - 12 * Math.cos(turn + side)} ${toY - 12 * Math.sin(turn + side)}`;
    for (const name of ["ground", "line"]) {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("class", name);
      path.setAttribute("d", `M ${x} ${y} L ${toX} ${toY} ${wing(0.5)} M ${toX} ${toY} ${wing(-0.5)}`);
      sheet.append(path);
    }
    const dot = document.createElementNS(SVG, "circle");
    for (const [name, value] of Object.entries({ cx: x, cy: y, r: 5 })) dot.setAttribute(name, value);
    sheet.append(dot);
    figure.append(sheet);
  };

  const at = (sheet, event) => {
    const box = sheet.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };

  let drag = null;
  document.addEventListener("pointerdown", (event) => {
    const sheet = event.target.closest?.("svg.force");
    if (!sheet) return;
    event.preventDefault();
    const box = sheet.getBoundingClientRect();
    drag = { picture: sheet.dataset.picture, box, from: at(sheet, event), to: at(sheet, event) };
  });
  document.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const { picture, box, from } = drag;
    drag.to = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    const state = held.get(picture);
    Object.assign(state.force, forceOf(from, drag.to, box.height / box.width));
    draw(picture);
  });
  document.addEventListener("pointercancel", () => { drag = null; });
  document.addEventListener("pointerup", () => {
    if (!drag) return;
    const { picture, box, from, to } = drag;
    drag = null;
    const { places } = held.get(picture);
    for (const [name, value] of Object.entries(forceOf(from, to, box.height / box.width))) {
      const field = document.querySelector(`#${places.fields[name]} input[type=number]`);
      if (!field || Number(field.value) === value) continue;
      field.value = value;
      field.dispatchEvent(new Event("input", { bubbles: true }));
    }
  });
  addEventListener("resize", () => [...held.keys()].forEach(draw));
})();
