"use strict";
(() => {
  // Tooltips at once, and where a finger taps; without this script the browser's own appear.
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.hidden = true;
  document.body.append(tip);
  const words = new WeakMap();
  for (const title of document.querySelectorAll(".chart title")) {
    words.set(title.parentNode, title.textContent);
    title.remove();
  }
  const hide = () => { tip.hidden = true; };
  const show = (event) => {
    let found = event.target;
    while (found instanceof Element && !words.has(found)) found = found.parentNode;
    if (!(found instanceof Element)) { hide(); return; }
    tip.textContent = words.get(found);
    tip.hidden = false;
    const room = document.documentElement.clientWidth;
    const left = Math.min(Math.max(8, event.clientX + 12), room - tip.offsetWidth - 8);
    const above = event.clientY - tip.offsetHeight - 12;
    tip.style.left = `${Math.max(left, 8) + scrollX}px`;
    tip.style.top = `${(above > 4 ? above : event.clientY + 16) + scrollY}px`;
  };
  document.addEventListener("pointermove", (event) => { if (event.pointerType !== "touch") show(event); });
  document.addEventListener("click", show);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

  // No line ends between a number and its unit.
  const quantity = /(\d[\d.,]* (?:%|B|kB|MB|GB|TB|points?|ms)(?!\w)|\d+[dhm] \d\d[hms]\b)/;
  for (const place of document.querySelectorAll(".lead, .detail, .facts dd, .caption, .note")) {
    const parts = place.textContent.split(quantity);
    place.replaceChildren(...parts.map((part, number) => {
      if (number % 2 === 0) return part;
      const span = document.createElement("span");
      span.className = "n";
      span.textContent = part;
      return span;
    }));
  }

  // Tables to sort and to search.
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
  };
  const order = (one, other) => {
    if (typeof one === "number" && typeof other === "number") return one - other;
    if (typeof one === "number") return -1;
    if (typeof other === "number") return 1;
    return one.localeCompare(other, "en", { numeric: true });
  };
  const sort = (table, column, isDown) => {
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [value(row, column), row]);
    rows.sort((one, other) => (isDown ? -1 : 1) * order(one[0], other[0]));
    body.append(...rows.map((pair) => pair[1]));
  };
  for (const table of document.querySelectorAll("table.tool")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const isDown = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", isDown ? "descending" : "ascending");
        sort(table, column, isDown);
      });
    });
    const box = document.createElement("div");
    box.className = "find";
    const wish = document.createElement("label");
    wish.textContent = "Search ";
    const input = document.createElement("input");
    input.type = "search";
    const told = document.createElement("output");
    wish.append(input);
    box.append(wish, told);
    const frame = table.parentNode;
    frame.classList.add("tool-scroll");
    frame.before(box);
    const texts = new Map([...table.tBodies[0].rows].map((row) =>
      [row, [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase()]));
    const find = () => {
      const wanted = input.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const [row, text] of texts) {
        row.hidden = !wanted.every((word) => text.includes(word));
        shown += row.hidden ? 0 : 1;
      }
      told.textContent = `${shown.toLocaleString("en")} of ${table.tBodies[0].rows.length.toLocaleString("en")} rows`;
    };
    input.addEventListener("input", find);
    find();
  }
})();
