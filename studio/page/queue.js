// The queue, on every tab: `<kinora-queue>` is a line in the head of the page that opens a list of all clips that are
// not made yet. What it shows are the data of queue_rows.py; what is pressed goes out through `send(name, id)`.
(() => {
  // ---- data in, words out

  const say = (...given) => globalThis.kinora.say(...given);

  const pageTitle = ({ percent, waiting }, fresh) => {
    const more = waiting ? say("{count} waiting", { count: waiting }) : "";
    if (percent !== null && percent !== undefined) return `(${[`${percent} %`, more].filter(Boolean).join(" · ")}) Kinora`;
    return waiting ? `(${more}) Kinora` : fresh ? "✓ Kinora" : "Kinora";
  };

  // What has ended since the last look; everything is old at the first one, and what ended before anything known is too:
  // it comes into view where something newer was deleted.
  const ended = (known, news) => {
    const since = Math.max(...[...(known?.values() ?? [])].map(({ at }) => at));
    return known ? news.filter(({ id, state, at }) => known.get(id)?.state !== state && at >= since) : [];
  };

  const announcement = ({ state, title }) =>
    ({ done: [say("Your clip is done"), title], failed: [say("A clip could not be made"), title] })[state];

  globalThis.kinora = Object.assign(globalThis.kinora ?? {}, { pageTitle, ended, announcement });
  if (typeof HTMLElement === "undefined") return;

  const { remembered, remember, option } = globalThis.kinora;

  const made = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const write = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };
  const address = (path) => {
    const { root, api_prefix } = globalThis.gradio_config ?? {};
    return `${root ?? ""}${api_prefix ?? "/gradio_api"}/file=${path.split("/").map(encodeURIComponent).join("/")}`;
  };

  class Queue extends HTMLElement {
    connectedCallback() {
      if (this.drawer) return;
      this.rows = new Map();
      this.count = made("span", { className: "queue-count" });
      this.chip = made("button", { type: "button", className: "queue-chip", onclick: () => this.open(!this.isOpen) }, say("Queue"), this.count);
      this.chip.setAttribute("aria-controls", "queue-drawer");
      this.summary = made("p", { className: "queue-summary" });
      this.pausing = made("div", { className: "queue-actions" });
      this.list = made("ol", { className: "queue-list" });
      this.ended = made("ol", { className: "queue-list" });
      this.endedTitle = made("h3", { textContent: say("Not made") });
      this.drawer = made("section", { id: "queue-drawer", className: "queue-drawer" },
        made("header", {}, made("h2", { textContent: say("Queue") }),
          made("button", { type: "button", textContent: say("Close"), onclick: () => { this.open(false); this.chip.focus(); } })),
        this.summary, this.pausing, this.list, this.endedTitle, this.ended,
        made("footer", {}, made("p", { textContent: say("When a clip is done") }), option("notify"), option("sound")),
      );
      this.drawer.setAttribute("aria-label", say("Queue"));
      addEventListener("focus", () => { this.fresh = false; this.title(); });
      this.replaceChildren(this.chip, this.drawer);
      this.open(remembered("queue-open") === "yes" && innerWidth > 768);
    }

    // Escape closes what lies on top, and does nothing else then: keys.js would end a clip.
    escape(event) {
      const writing = event.target.closest?.("input:not([type=checkbox]), textarea, [role=listbox]");
      if (event.key !== "Escape" || !this.isOpen || writing || document.querySelector("dialog[open]")) return;
      event.preventDefault();
      this.open(false);
      this.chip.focus();
    }

    open(on) {
      this.isOpen = on;
      this.drawer.hidden = !on;
      this.chip.setAttribute("aria-expanded", String(on));
      remember("queue-open", on ? "yes" : "no");
    }

    show(data) {
      if (!data) return;
      this.data = data;
      write(this.count, data.short);
      this.chip.classList.toggle("busy", data.rows.length > 0);
      write(this.summary, data.summary);
      this.buttons(this.pausing, data.pausing, "");
      const focused = document.activeElement;
      this.fill(this.list, data.rows);
      this.fill(this.ended, data.ended);
      if (this.contains(focused) && focused !== document.activeElement) focused.focus();
      const there = new Set([...data.rows, ...data.ended].map((row) => row.id));
      [...this.rows].filter(([id]) => !there.has(id)).forEach(([id, row]) => { row.item.remove(); this.rows.delete(id); });
      this.endedTitle.hidden = this.ended.hidden = !data.ended.length;
      this.tell(data.news);
      this.title();
    }

    // Rows stay the same elements while they move and change, so that nobody loses the button they are at.
    fill(list, rows) {
      rows.forEach((data, index) => {
        const row = this.rows.get(data.id) ?? this.row(data.id);
        if (list.children[index] !== row.item) list.insertBefore(row.item, list.children[index] ?? null);
        row.item.className = `queue-row ${data.state}`;
        write(row.title, data.title);
        row.title.title = data.title;
        write(row.about, data.about);
        write(row.line, data.line);
        row.bar.hidden = data.percent === null;
        row.bar.setAttribute("aria-valuenow", data.percent ?? 0);
        row.bar.firstChild.style.width = `${data.percent ?? 0}%`;
        row.picture.hidden = !data.picture;
        if (data.picture && row.shown !== data.picture) row.picture.src = address((row.shown = data.picture));
        this.buttons(row.actions, data.actions, data.id);
      });
    }

    row(id) {
      const row = {
        picture: made("img", { alt: "", loading: "lazy" }),
        title: made("b"), about: made("p", { className: "about" }), line: made("p", { className: "line" }),
        bar: made("div", { className: "bar" }, made("i")), actions: made("div", { className: "queue-actions" }),
      };
      row.bar.setAttribute("role", "progressbar");
      row.bar.setAttribute("aria-label", say("Progress"));
      const text = made("div", { className: "queue-text" }, row.title, row.about, row.line, row.bar, row.actions);
      row.item = made("li", {}, made("div", { className: "queue-picture" }, row.picture), text);
      this.rows.set(id, row);
      return row;
    }

    buttons(place, actions, id) {
      const wanted = actions.map(({ name }) => name);
      [...place.children].filter((one) => !wanted.includes(one.dataset.name)).forEach((one) => one.remove());
      actions.forEach(({ name, label, title }, index) => {
        let button = [...place.children].find((one) => one.dataset.name === name);
        if (!button) {
          button = made("button", { type: "button", onclick: () => this.send(name, id) });
          button.dataset.name = name;
        }
        if (place.children[index] !== button) place.insertBefore(button, place.children[index] ?? null);
        write(button, label);
        button.title = title;
        button.setAttribute("aria-label", label === title ? title : `${label}: ${title}`);
      });
    }

    // What ended since the last look, for those who want to hear of it.
    tell(news) {
      const told = ended(this.known, news).map(announcement).filter(Boolean);
      this.known = new Map([...(this.known ?? []), ...news.map(({ id, state, at }) => [id, { state, at }])]);
      if (!told.length) return;
      this.fresh = true;
      if (remembered("sound") === "yes") globalThis.kinora.chime();
      if (remembered("notify") === "yes" && globalThis.Notification?.permission === "granted") {
        try { // phones have them only in service workers
          told.forEach(([title, body]) => new Notification(title, { body, tag: "kinora" }));
        } catch { /* the page's title says it too */ }
      }
    }

    title() {
      const title = pageTitle(this.data ?? {}, this.fresh);
      if (document.title !== title) document.title = title;
    }
  }
  customElements.define("kinora-queue", Queue);
  document.addEventListener("keydown", (event) => document.querySelector("kinora-queue")?.escape(event), true);
})();
