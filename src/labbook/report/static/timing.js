// Fills in training times and dates from reports/timing.js, if it exists; pages do not contain them, because they differ between runs.
(() => {
  const timing = window.labbookTiming;
  if (!timing) return;
  const format = (seconds) => (seconds < 10 ? seconds.toFixed(1) : Math.round(seconds).toLocaleString("en"));
  for (const cell of document.querySelectorAll("[data-seconds]")) {
    const entry = timing.runs[cell.dataset.seconds];
    if (entry) cell.textContent = format(entry.seconds);
  }
  for (const cell of document.querySelectorAll("[data-total]")) {
    const entry = timing.runs[cell.dataset.total];
    if (entry) cell.textContent = format(entry.total);
  }
  for (const cell of document.querySelectorAll("[data-ratio]")) {
    const [first, second] = cell.dataset.ratio.split(" ").map((name) => timing.runs[name]);
    if (first && second) cell.textContent = (second.seconds / first.seconds).toFixed(2);
  }
  for (const cell of document.querySelectorAll("[data-environment]")) cell.textContent = timing[cell.dataset.environment];
})();
