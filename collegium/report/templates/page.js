"use strict";
(() => {
  document.documentElement.classList.add("js");
  const numbers = JSON.parse(document.getElementById("numbers").textContent);
  const tip = document.getElementById("tip");

  const tell = (text, x, y) => {
    tip.textContent = text;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 8))}px`;
    tip.style.top = `${Math.max(4, y - box.height - 12)}px`;
  };
  const write = (value, percent) =>
    value === null ? "-" : percent ? `${(100 * value).toFixed(2)} %` : String(+value.toPrecision(4));

  // Values under the pointer, or at the epoch the arrow keys have reached.
  for (const figure of document.querySelectorAll("figure[data-key]")) {
    const chart = numbers[figure.dataset.key];
    if (!chart || !chart.lines.length) continue;
    const plot = figure.querySelector(".plot"), cursor = figure.querySelector(".cursor");
    const [left, right, low, high] = chart.frame;
    const places = [...new Set(chart.lines.flatMap((line) => line.x))].sort((a, b) => a - b);
    let at = places.length - 1;
    const show = (y) => {
      const part = left + ((places[at] - low) / (high - low)) * (right - left);
      const box = plot.getBoundingClientRect();
      cursor.style.left = `${100 * part}%`;
      cursor.hidden = false;
      const rows = chart.lines
        .filter((line) => line.x.includes(places[at]))
        .map((line) => `${line.name}: ${write(line.y[line.x.indexOf(places[at])], chart.percent)}`);
      tell([String(+places[at].toPrecision(4)), ...rows].join("\n"), box.left + part * box.width, y);
    };
    const hide = () => { cursor.hidden = true; tip.hidden = true; };
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect();
      const x = low + (((event.clientX - box.left) / box.width - left) / (right - left)) * (high - low);
      at = places.reduce((best, value, i) => (Math.abs(value - x) < Math.abs(places[best] - x) ? i : best), 0);
      show(event.clientY);
    });
    plot.addEventListener("pointerleave", hide);
    figure.addEventListener("blur", hide);
    figure.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return event.key === "Escape" && hide();
      event.preventDefault();
      at = Math.max(0, Math.min(places.length - 1, cursor.hidden ? at : at + step));
      show(plot.getBoundingClientRect().top + 40);
    });
  }

  // A click on a column's name sorts by it.
  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent;
        const order = (a, b) => {
          const [x, y] = [key(a), key(b)], difference = Number(x) - Number(y);
          return Number.isNaN(difference) ? x.localeCompare(y) : difference;
        };
        const rows = [...body.rows].sort(order);
        body.append(...(down ? rows.reverse() : rows));
      });
    });
  }

  // Example cards by rule, class, and whether the student is right.
  for (const form of document.querySelectorAll("form.filter")) {
    const cards = [...form.parentElement.querySelectorAll(".cards > li")];
    const chosen = [...form.querySelectorAll("select")];
    const apply = () => {
      for (const card of cards)
        card.hidden = !chosen.every((s) => !s.value || card.dataset[s.dataset.filter] === s.value);
      const left = cards.filter((card) => !card.hidden).length;
      form.querySelector("output").textContent = `${left} of ${cards.length} shown`;
    };
    form.addEventListener("change", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    apply();
  }
})();
