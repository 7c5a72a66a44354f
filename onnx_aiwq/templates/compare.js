// The page of a comparison.

const { rows, metrics, fronts } = data;
const named = rows.map((row, index) => `#${index + 1} ${row.label}`);
const form = (metric) => (value) => (metric.unit === "" ? count(value) : si(value, metric.unit));

function interval(row, metric) {
  const found = row.values[metric.name];
  return metric.exact || !found ? "" : `${form(metric)(found[1])} to ${form(metric)(found[2])}`;
}

// --- matrix and differences --------------------------------------------------------------------------------------

new DataTable(document.getElementById("row-table"), {
  label: "Models and hardware",
  rows,
  columns: [
    { name: "#", text: (row) => String(row.index + 1), value: (row) => row.index },
    { name: "Model", text: (row) => row.file + (row.partial ? " (partial)" : ""), sub: (row) => row.folder, value: (row) => row.model, left: true },
    { name: "Hardware", text: (row) => row.hardware, sub: (row) => row.source, value: (row) => row.hardware, left: true },
    ...metrics.map((metric) => ({
      name: metric.title,
      text: (row) => (row.values[metric.name] ? form(metric)(row.values[metric.name][0]) : "unknown"),
      sub: (row) => interval(row, metric),
      value: (row) => row.values[metric.name] && row.values[metric.name][0],
    })),
    { name: "Front", text: (row) => (row.front ? "yes" : "no"), value: (row) => Number(row.front) },
  ],
  search: (row) => `${row.model} ${row.hardware}`,
});

if (data.differences.length) {
  new DataTable(document.getElementById("difference-table"), {
    label: "Differences",
    rows: data.differences,
    columns: [
      { name: "Row", text: (each) => named[each.row], value: (each) => each.row, left: true },
      { name: "Against", text: (each) => named[each.reference], value: (each) => each.reference, left: true },
      ...metrics.map((metric) => ({ name: metric.title, wrap: true, text: (each) => each.texts[metric.name] || "unknown", value: (each) => each.ratios[metric.name] ?? null })),
    ],
    search: (each) => `${named[each.row]} ${named[each.reference]}`,
  });
}

if (data.changes) {
  const pair = (key, text) => (each) => {
    const [one, other] = [each.before, each.after].map((side) => (side ? text(side[key]) : "none"));
    return one === other ? one : `${one} → ${other}`;
  };
  const grown = (key) => (each) => ((each.after && each.after[key]) || 0) - ((each.before && each.before[key]) || 0);
  const change = (name, key, text) => ({ name, text: pair(key, text), value: grown(key) });
  new DataTable(document.getElementById("change-table"), {
    label: "What changed",
    rows: data.changes.entries,
    columns: [
      { name: data.changes.by === "node" ? "Node" : "Operator", text: (each) => each.name, value: (each) => each.name, left: true },
      { name: "Change", text: (each) => each.change, value: (each) => each.change, left: true },
      change("Nodes", "nodes", count),
      change("TOs", "transistor_operations", count),
      change("MACs", "macs", count),
      change("Bytes", "bytes", bytes),
      change("Energy", "joules", (value) => si(value, "J")),
    ],
    search: (each) => each.name,
  });
}

// --- one metric of all rows --------------------------------------------------------------------------------------

let shown = metrics.find((metric) => rows.some((row) => row.values[metric.name]));

// Whiskers: the interval of a value, along one axis or both.
function whisker(colour, horizontal) {
  return (_, api) => {
    const [low, high] = horizontal
      ? [api.coord([api.value(1), api.value(0)]), api.coord([api.value(2), api.value(0)])]
      : [api.coord([api.value(0), api.value(1)]), api.coord([api.value(0), api.value(2)])];
    const line = (x1, y1, x2, y2) => ({ type: "line", shape: { x1, y1, x2, y2 }, style: { stroke: colour, lineWidth: 1.5 } });
    const ends = horizontal
      ? [line(low[0], low[1] - 5, low[0], low[1] + 5), line(high[0], high[1] - 5, high[0], high[1] + 5)]
      : [line(low[0] - 5, low[1], low[0] + 5, low[1]), line(high[0] - 5, high[1], high[0] + 5, high[1])];
    return { type: "group", children: [line(low[0], low[1], high[0], high[1]), ...ends] };
  };
}

function barChart() {
  const text = form(shown);
  const known = rows.filter((row) => row.values[shown.name]);
  const value = (row) => row.values[shown.name];
  return {
    tooltip: tip((found) => {
      const row = known[found.dataIndex];
      return [named[row.index], [shown.title, text(value(row)[0])], ["interval", interval(row, shown) || "exact"], ["source", row.source]];
    }),
    grid: { ...base().grid, top: 8, right: 40 },
    xAxis: axis("", { type: "value", axisLabel: { color: ink("muted"), formatter: text, hideOverlap: true } }),
    yAxis: axis("", { type: "category", inverse: true, data: known.map((row) => named[row.index]), axisLabel: { color: ink("text"), width: Math.min(320, 0.42 * document.getElementById("bar-chart").clientWidth), overflow: "truncate", interval: 0 }, splitLine: { show: false } }),
    series: [
      { type: "bar", barMaxWidth: 20, data: known.map((row) => ({ value: value(row)[0], itemStyle: { color: row.front ? ink("accent") : ink("other"), borderRadius: [0, 3, 3, 0] } })) },
      ...(shown.exact ? [] : [{ type: "custom", silent: true, z: 3, renderItem: whisker(ink("text"), true), encode: { x: [1, 2], y: 0 }, data: known.map((row, index) => [index, value(row)[1], value(row)[2]]) }]),
    ],
  };
}

// --- Pareto ------------------------------------------------------------------------------------------------------

const chosen = { x: data.pareto_metrics[0], y: data.pareto_metrics[1] };
const metricOf = (name) => metrics.find((metric) => metric.name === name);

function paretoChart() {
  const [x, y] = [metricOf(chosen.x), metricOf(chosen.y)];
  const known = rows.filter((row) => row.values[x.name] && row.values[y.name]);
  const front = (fronts[`${x.name} ${y.name}`] || []).map((index) => rows[index]);
  const place = (row) => ({ value: [row.values[x.name][0], row.values[y.name][0]], row });
  const on = new Set(front);
  const label = { show: known.length <= 30, position: "right", color: ink("text"), formatter: (found) => `#${found.data.row.index + 1}` };
  const whiskers = (metric, other, horizontal) => ({
    type: "custom", silent: true, renderItem: whisker(ink("line"), horizontal), z: 1,
    encode: horizontal ? { x: [1, 2], y: 0 } : { x: 0, y: [1, 2] },
    data: metric.exact ? [] : known.map((row) => [row.values[other.name][0], row.values[metric.name][1], row.values[metric.name][2]]),
  });
  const kind = known.every((row) => row.values[x.name][1] > 0 && row.values[y.name][1] > 0) ? "log" : "value";
  const labels = (metric) => ({ type: kind, scale: true, axisLabel: { color: ink("muted"), formatter: form(metric), hideOverlap: true } });
  return {
    tooltip: tip((found) => {
      if (!found.data || !found.data.row) return [];
      const { row } = found.data;
      return [named[row.index], [x.title, form(x)(row.values[x.name][0])], [y.title, form(y)(row.values[y.name][0])], ["on the front", on.has(row) ? "yes" : "no"]];
    }),
    legend: { top: 0, data: ["on the front", "beaten"], textStyle: { color: ink("text") } },
    grid: { ...base().grid, top: 36, right: 50 },
    xAxis: below(x.title + (x.unit ? `, ${x.unit}` : ""), labels(x)),
    yAxis: beside(y.title + (y.unit ? `, ${y.unit}` : ""), labels(y)),
    series: [
      whiskers(x, y, true),
      whiskers(y, x, false),
      { type: "line", silent: true, step: "end", symbol: "none", lineStyle: { color: ink("accent"), type: "dashed", width: 1.5 }, data: front.map((row) => place(row).value) },
      { type: "scatter", name: "on the front", symbolSize: 13, z: 4, itemStyle: { color: ink("accent") }, label, data: front.map(place) },
      { type: "scatter", name: "beaten", symbolSize: 11, z: 4, itemStyle: { color: ink("other") }, label, data: known.filter((row) => !on.has(row)).map(place) },
    ],
  };
}

function chooser(id, key, draw) {
  const list = document.getElementById(id);
  for (const metric of metrics) list.append(make("option", { value: metric.name, selected: metric.name === chosen[key] }, metric.title));
  list.addEventListener("change", () => {
    chosen[key] = list.value;
    draw();
    say();
  });
}

function say() {
  const front = fronts[`${chosen.x} ${chosen.y}`] || [];
  const title = `${metricOf(chosen.x).title} and ${metricOf(chosen.y).title}`;
  document.getElementById("front").textContent = chosen.x === chosen.y ? "Choose two different columns." : `Front of ${title}: ${front.map((index) => named[index]).join(", ") || "no complete row"}.`;
}

later([
  () => {
    const { draw } = chart("pareto-chart", paretoChart);
    chooser("pareto-x", "x", draw);
    chooser("pareto-y", "y", draw);
    say();
  },
  () => {
    document.getElementById("bar-chart").style.height = `${Math.max(180, 34 * rows.length + 50)}px`;
    const { draw } = chart("bar-chart", barChart);
    const list = document.getElementById("bar-metric");
    for (const metric of metrics) list.append(make("option", { value: metric.name, selected: metric === shown }, metric.title));
    list.addEventListener("change", () => {
      shown = metricOf(list.value);
      draw();
    });
  },
  () => (document.documentElement.dataset.ready = String(Math.round(performance.now()))), // ms since the page was asked for
]);
