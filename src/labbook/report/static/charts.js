// Draws the charts of a page with Observable Plot from embedded JSON; hovering shows values.
window.labbookCharts = (() => {
  const COLOURS = 8; // --series-0 to --series-7 in the style sheet
  const HEIGHT = 260;
  const MAX_LABELLED = 20; // maximum number of classes for which a confusion matrix shows names and counts

  const colour = (series) => `var(--series-${series.colour % COLOURS})`;
  const format = (value) => (value === 0 || Math.abs(value) >= 1e-3 ? Number(value.toPrecision(5)).toLocaleString("en", { maximumFractionDigits: 6 }) : value.toExponential(2));
  const share = (value) => `${(100 * value).toFixed(1)}%`;

  // Ticks of a logarithmic axis: 1, 2 and 5 times powers of ten, or at most six powers of ten for a wide range.
  const logTicks = (low, high) => {
    const exponents = d3.range(Math.floor(Math.log10(low)), Math.ceil(Math.log10(high)) + 1);
    const step = Math.ceil(exponents.length / 6);
    const ticks = exponents.length > 4 ? exponents.filter((_, index) => index % step === 0).map((exponent) => 10 ** exponent) : exponents.flatMap((exponent) => [1, 2, 5].map((digit) => digit * 10 ** exponent));
    return ticks.filter((tick) => tick >= low && tick <= high);
  };

  const legend = (series) => {
    const list = document.createElement("ul");
    list.className = "legend";
    for (const line of series) {
      const item = document.createElement("li");
      const swatch = document.createElement("span");
      swatch.style.borderTop = `3px ${line.dashed ? "dashed" : "solid"} ${colour(line)}`;
      item.append(swatch, line.name);
      list.append(item);
    }
    return list;
  };

  const lines = (chart, width) => {
    const points = chart.series.flatMap((line) => line.x.map((x, index) => ({ x, y: line.y[index], line: line.name })));
    const known = points.filter((point) => point.y !== null && (chart.scale !== "log" || point.y > 0));
    const positive = known.map((point) => point.y).filter((y) => y > 0);
    const bounds = positive.length ? d3.extent([...positive, ...(chart.y_range ?? []).filter((end) => end > 0)]) : [1, 1];
    const columns = [...d3.group(known, (point) => point.x)].map(([x, group]) => ({
      x,
      y: d3.max(group, (point) => point.y),
      text: [`${chart.x} ${format(x)}`, ...group.map((point) => `${point.line}: ${format(point.y)}`)].join("\n"),
    }));
    const integerTicks = chart.x === "epoch" && d3.max(points, (point) => point.x) < 10;
    return Plot.plot({
      width,
      height: HEIGHT,
      marginLeft: 56,
      x: { label: chart.x, ...(integerTicks ? { interval: 1 } : {}) },
      y: {
        label: chart.y,
        grid: true,
        type: chart.scale,
        ...(chart.scale === "symlog" && positive.length ? { constant: bounds[0] } : {}),
        ...(chart.y_range ? { domain: chart.y_range } : {}),
        ...{ linear: { nice: true }, log: { ticks: logTicks(...bounds), tickFormat: "~g" }, symlog: { ticks: [0, ...logTicks(2 * bounds[0], bounds[1])], tickFormat: "~g" } }[chart.scale],
      },
      marks: [
        chart.target === null ? null : Plot.ruleY([chart.target], { strokeDasharray: "2 3" }),
        chart.selected === null ? null : Plot.ruleX([chart.selected], { strokeDasharray: "2 3" }),
        ...chart.series.map((line) => {
          const linePoints = known.filter((point) => point.line === line.name);
          const withDots = chart.dots || linePoints.length < 2;
          return [
            Plot.lineY(linePoints, { x: "x", y: "y", stroke: colour(line), strokeDasharray: line.dashed ? "5 4" : null }),
            withDots ? Plot.dot(linePoints, { x: "x", y: "y", fill: colour(line), r: 3 }) : null,
          ];
        }),
        Plot.ruleX(columns, Plot.pointerX({ x: "x", strokeOpacity: 0.4 })),
        Plot.tip(columns, Plot.pointerX({ x: "x", y: "y", title: "text", maxRadius: Infinity })),
      ],
    });
  };

  const confusion = (matrix, width) => {
    const cells = matrix.counts.flatMap((row, actual) => {
      const total = d3.sum(row);
      return row.map((count, predicted) => ({
        actual: matrix.classes[actual],
        predicted: matrix.classes[predicted],
        count,
        share: total ? count / total : 0,
        right: actual === predicted,
      }));
    });
    const small = matrix.classes.length <= MAX_LABELLED;
    const shown = small ? cells : cells.filter((cell) => cell.count);
    const margin = small ? 8 + 6.5 * d3.max(matrix.classes, (name) => name.length) : 20;
    const side = Math.min(width, 560, small ? margin + 60 + 44 * matrix.classes.length : Infinity);
    const cellSize = (side - margin - 18) / matrix.classes.length; // in pixels; a digit is 6 pixels wide
    const printed = small && 6 * d3.max(cells, (cell) => String(cell.count).length) < cellSize;
    const names = small ? { tickSize: 0 } : { ticks: [] };
    return Plot.plot({
      width: side,
      height: side - (small ? 0 : 20),
      marginLeft: margin + 18,
      marginBottom: margin + 18,
      marginTop: 4,
      x: { domain: matrix.classes, label: "predicted", tickRotate: small && matrix.classes.some((name) => name.length > 2) ? -90 : 0, ...names },
      y: { domain: matrix.classes, label: "actual", ...names },
      opacity: { domain: [0, 1], range: [0.04, 0.9] },
      marks: [
        Plot.cell(shown, {
          x: "predicted",
          y: "actual",
          fill: (cell) => (cell.right ? "var(--series-0)" : "var(--series-2)"),
          fillOpacity: (cell) => (cell.right ? cell.share : Math.min(1, 3 * cell.share)), // emphasise the few mistakes
          inset: small ? 0.5 : 0,
        }),
        printed ? Plot.text(shown, { x: "predicted", y: "actual", text: (cell) => cell.count.toLocaleString("en"), fill: (cell) => (cell.right && cell.share > 0.5 ? "var(--paper)" : "var(--ink)") }) : null,
        Plot.tip(
          shown,
          Plot.pointer({
            x: "predicted",
            y: "actual",
            title: (cell) =>
              `${cell.actual}${cell.right ? " classified correctly" : ` taken for ${cell.predicted}`}\n${cell.count.toLocaleString("en")} ${matrix.unit}, ${share(cell.share)} of the class`,
          }),
        ),
      ],
    });
  };

  const reliability = ({ bins }, width) =>
    Plot.plot({
      width: Math.min(width, 480),
      height: 320,
      x: { domain: [0, 1], label: "confidence" },
      y: { domain: [0, 1], label: "accuracy", grid: true },
      marks: [
        Plot.rect(bins, { x1: "from", x2: "to", y1: 0, y2: "accuracy", fill: "var(--series-0)", fillOpacity: 0.35, inset: 0.5 }),
        Plot.line([[0, 0], [1, 1]], { strokeDasharray: "2 3" }),
        Plot.dot(bins, { x: "confidence", y: "accuracy", fill: "var(--series-0)", r: 3.5 }),
        Plot.tip(
          bins,
          Plot.pointerX({
            x: "confidence",
            y: "accuracy",
            title: (bin) => `${bin.samples.toLocaleString("en")} samples with confidence ${bin.from.toFixed(2)} to ${bin.to.toFixed(2)}\nmean confidence ${bin.confidence}\naccuracy ${bin.accuracy}`,
            maxRadius: Infinity,
          }),
        ),
      ],
    });

  const kinds = { lines, confusion, reliability };

  // Draws a chart, and redraws it when the width of its container changes.
  const draw = (container, kind, data) => {
    let width = 0;
    const redraw = () => {
      if (container.clientWidth === width || !container.clientWidth) return;
      width = container.clientWidth;
      const svg = kinds[kind](data, width);
      svg.setAttribute("aria-hidden", "true"); // its marks have generic labels; the container has the description
      const picture = document.createElement("div");
      picture.setAttribute("role", "img");
      picture.setAttribute("aria-label", data.label);
      picture.append(svg);
      const drawn = document.createElement("div");
      drawn.className = "drawn";
      if (kind === "lines") drawn.append(legend(data.series));
      drawn.append(picture);
      container.querySelector(".drawn")?.remove();
      container.append(drawn);
    };
    new ResizeObserver(redraw).observe(container);
    redraw();
  };

  for (const container of document.querySelectorAll("[data-chart]")) {
    draw(container, container.dataset.chart, JSON.parse(container.querySelector("script").textContent));
  }
  return { draw, colour };
})();
