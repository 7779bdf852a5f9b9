// Seconds and dates, which stand in reports/timing.js and in no page, are put where the page wants them.
(() => {
  const timing = window.labbookTiming;
  if (!timing) return;
  for (const cell of document.querySelectorAll("[data-seconds]")) {
    const entry = timing.runs[cell.dataset.seconds];
    if (!entry) continue;
    cell.textContent = entry.seconds < 10 ? entry.seconds.toFixed(1) : Math.round(entry.seconds).toLocaleString("en");
  }
  for (const cell of document.querySelectorAll("[data-ratio]")) {
    const [first, second] = cell.dataset.ratio.split(" ").map((name) => timing.runs[name]);
    if (first && second) cell.textContent = (second.seconds / first.seconds).toFixed(2);
  }
  for (const cell of document.querySelectorAll("[data-about]")) cell.textContent = timing[cell.dataset.about];
})();
