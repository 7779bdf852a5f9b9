// Sorts tables by a click on a column heading, and filters the table of the front page.
(() => {
  const order = new Intl.Collator("en", { numeric: true });

  // The number at the start of a cell ("0.9786", "1,024", "+0.01", "over 0.97"), otherwise its text; "" means missing.
  const value = (row, column) => {
    const cell = row.cells[column];
    const text = cell.classList.contains("pending") ? "" : cell.textContent.trim().replace(/^–$/, "");
    const number = /^(?:about |almost |over )?([+\-−]?[\d,]*\.?\d+)\b/.exec(text);
    return number ? Number(number[1].replaceAll(",", "").replace("−", "-")) : text;
  };

  const compare = (first, second) => {
    if (typeof first === "number" && typeof second === "number") return first - second;
    return order.compare(String(first), String(second));
  };

  const sort = (table, heading) => {
    const down = heading.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].map((row) => [value(row, heading.cellIndex), row]);
    const known = rows.filter(([key]) => key !== "");
    const missing = rows.filter(([key]) => key === ""); // last in both directions
    known.sort(([first], [second]) => (down ? -1 : 1) * compare(first, second));
    table.tBodies[0].append(...[...known, ...missing].map(([, row]) => row));
  };

  for (const table of document.querySelectorAll("table[data-sortable]")) {
    for (const heading of table.tHead.rows[0].cells) {
      if ("fixed" in heading.dataset) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      button.addEventListener("click", () => sort(table, heading));
      heading.append(button);
    }
  }

  const form = document.querySelector("[data-filters]");
  if (!form) return;
  const [search, assignment, verdict, count] = ["filter", "assignment", "verdict", "count"].map((id) => document.getElementById(id));
  const rows = [...document.querySelector("table.results").tBodies[0].rows];
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.cells[0].textContent.toLowerCase();
      row.hidden = !(
        words.every((word) => text.includes(word)) &&
        (!assignment.value || row.dataset.assignment === assignment.value) &&
        (!verdict?.value || row.dataset.verdict === verdict.value)
      );
    }
    const shown = rows.filter((row) => !row.hidden).length;
    count.textContent = shown === rows.length ? `${shown} experiments` : `${shown} of ${rows.length} experiments`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  filter(); // the browser may have restored form values
})();
