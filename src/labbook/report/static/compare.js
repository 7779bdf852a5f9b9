// Compares two experiments. The URL fragment names them, so that links to a comparison work.
(() => {
  const runs = window.labbookRuns;
  const names = Object.keys(runs);
  const [first, second, swap, container] = ["first", "second", "swap", "comparison"].map((id) => document.getElementById(id));

  const element = (tag, options = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), options);
    node.append(...children);
    return node;
  };

  const COUNTS = ["Parameters", "Epochs", "Seeds"];
  const SECONDS = "Seconds per training";

  const format = (value, key) => {
    if (value === null || value === undefined) return "–";
    if (typeof value !== "number") return value;
    if (key === SECONDS) return value.toFixed(1);
    return COUNTS.includes(key) ? value.toLocaleString("en") : value.toFixed(4);
  };

  // One row per key of either experiment. If any key has a number in both, there is a column of differences.
  const table = (title, one, other, [left, right]) => {
    const keys = [...new Set([...Object.keys(one), ...Object.keys(other)])];
    const numeric = keys.some((key) => typeof one[key] === "number" && typeof other[key] === "number");
    const rows = keys
      .filter((key) => (one[key] ?? null) !== null || (other[key] ?? null) !== null)
      .map((key) => {
        const [a, b] = [one[key], other[key]];
        const both = typeof a === "number" && typeof b === "number";
        const cells = [a, b].map((value) => element("td", { className: numeric ? "number" : "" }, format(value, key)));
        if (numeric) {
          const gap = !both || a === b ? "" : (b > a ? "+" : "−") + format(Math.abs(b - a), key);
          cells.push(element("td", { className: "number" }, gap));
        }
        return element("tr", { className: a === b ? "" : "changed" }, element("th", { scope: "row" }, key), ...cells);
      });
    if (!rows.length) return "";
    const headings = [left, right, ...(numeric ? ["Second − first"] : [])];
    const head = element("tr", {}, element("td"), ...headings.map((text) => element("th", { scope: "col" }, text)));
    const node = element("table", { className: "settings" }, element("thead", {}, head), element("tbody", {}, ...rows));
    const region = element("div", { className: "scroll", role: "region", tabIndex: 0, ariaLabel: title }, node);
    return element("section", {}, element("h2", {}, title), region);
  };

  // The lines of both experiments in one chart: the first solid, the second dashed, one colour per split.
  const together = (one, other, [left, right]) =>
    one.learning.map((chart, index) => {
      const counterpart = other.learning[index];
      const same = chart.x === counterpart.x;
      const series = [
        ...chart.series.map((line) => ({ ...line, name: `${left}, ${line.name}` })),
        ...(left === right ? [] : counterpart.series.map((line) => ({ ...line, name: `${right}, ${line.name}`, dashed: true }))),
      ];
      const x = same ? chart.x : `${chart.x} or ${counterpart.x}`;
      return { ...chart, x, series, selected: null, label: `${chart.y} of ${left}, solid, and ${right}, dashed, by ${x}` };
    });

  const pictures = (one, other, pair) =>
    Object.entries({ samples: "Test samples", filters: "Filters", activations: "Activations", attributions: "Attributions" })
      .filter(([kind]) => one.pictures[kind] || other.pictures[kind])
      .map(([kind, title]) => {
        const shown = [one, other].map((run, index) => {
          const picture = run.pictures[kind];
          const caption = element("figcaption", {}, element("code", {}, pair[index]), picture ? "" : ": none");
          const image = picture ? element("img", { src: picture.path, width: picture.width, height: picture.height, alt: picture.alt }) : "";
          return element("figure", { className: "picture" }, image, caption);
        });
        return element("section", {}, element("h2", {}, title), element("div", { className: "charts" }, ...shown));
      });

  // Statistical tests, which the report stage computed for each pair with the same test set, in a single order.
  const tests = ([left, right]) => {
    const pairs = window.labbookPairs;
    const [result, sign] = pairs[left]?.[right] ? [pairs[left][right], 1] : [pairs[right]?.[left], -1];
    if (!result?.difference && !result?.mcnemar) return "";
    const sentences = [];
    if (result.difference) {
      const { mean, low, high, paired } = result.difference;
      const points = [mean, ...(sign > 0 ? [low, high] : [high, low])].map((value) => signed(100 * sign * value));
      const words = low <= 0 && high >= 0 ? "no difference in mean test accuracy was measured" : "the mean test accuracies differ";
      sentences.push(`Over the seeds, ${words}: second − first is ${points[0]} percentage points (95% interval ${points[1]} to ${points[2]}, ${paired ? "paired by seed" : "unpaired, by Welch’s test"}).`);
    }
    if (result.mcnemar) {
      const [one, other] = sign > 0 ? ["first", "second"] : ["second", "first"];
      const [b, c] = [result.mcnemar[one], result.mcnemar[other]].map((count) => count.toLocaleString("en"));
      const p = result.mcnemar.p < 0.0001 ? "p < 0.0001" : `p = ${result.mcnemar.p.toFixed(4)}`;
      sentences.push(
        `McNemar’s exact test of the first seeds: on the same test set, ${b} samples are classified correctly by the first model only and ${c} by the second model only; ${p}. The test compares these two trained models; other seeds may give a different result.`,
      );
    }
    return element("section", { id: "tests" }, element("h2", {}, "Statistical tests"), ...sentences.map((text) => element("p", {}, text)));
  };

  const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);
  const seconds = (name) => window.labbookTiming?.runs[name]?.seconds ?? null;
  const flat = (quality) =>
    Object.fromEntries(
      Object.entries(quality).flatMap(([method, metrics]) =>
        Object.entries(metrics)
          .filter(([, value]) => typeof value === "number")
          .map(([key, value]) => [`${method.replace("layer_gradcam", "Grad-CAM").replace("gradcam", "Grad-CAM")}, ${key}`.replaceAll("_", " "), value]),
      ),
    );

  const show = () => {
    const pair = [first.value, second.value];
    const [one, other] = pair.map((name) => runs[name]);
    history.replaceState(null, "", `#first=${pair[0]}&second=${pair[1]}`);
    const headings = pair.map((name, index) =>
      element("p", {}, element("a", { href: `experiments/${name}.html` }, element("code", {}, name)), ` ${[one, other][index].title}`),
    );
    const metrics = pair.map((name, index) => ({ ...[one, other][index].metrics, [SECONDS]: seconds(name) }));
    const charts = together(one, other, pair).map((chart) => [element("div", { className: "chart" }), chart]);
    container.replaceChildren(
      element("div", { className: "charts" }, ...headings),
      table("Metrics", ...metrics, pair),
      tests(pair),
      element("section", {}, element("h2", {}, "Learning curves"), element("div", { className: "charts" }, ...charts.map(([node]) => node))),
      table("Settings", one.settings, other.settings, pair),
      table("Test accuracy by class", one.classes, other.classes, pair),
      ...pictures(one, other, pair),
      table("Quality of attributions", flat(one.attribution_quality), flat(other.attribution_quality), pair),
    );
    for (const [node, chart] of charts) window.labbookCharts.draw(node, "lines", chart);
  };

  const choose = () => {
    const parameters = new URLSearchParams(location.hash.slice(1));
    first.value = names.includes(parameters.get("first")) ? parameters.get("first") : names[0];
    const next = names[(names.indexOf(first.value) + 1) % names.length];
    second.value = names.includes(parameters.get("second")) ? parameters.get("second") : next;
    show();
  };

  if (!names.length) {
    container.replaceChildren(element("p", { className: "pending" }, "No experiment has been run on this data."));
    return;
  }
  for (const select of [first, second]) {
    select.append(...names.map((name) => element("option", { value: name }, `${runs[name].assignment}: ${name}`)));
    select.addEventListener("change", show);
  }
  swap.addEventListener("click", () => {
    [first.value, second.value] = [second.value, first.value];
    show();
  });
  window.addEventListener("hashchange", choose);
  choose();
})();
