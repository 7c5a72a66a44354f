// The page of one report.

const { columns, names, operators, energy } = data;
const total = energy.joules;
const nodes = columns.name.map((name, index) => ({
  index,
  name,
  op: names.op[columns.op[index]],
  path: names.path[columns.path[index]],
  dtype: names.dtype[columns.dtype[index]],
  status: names.status[columns.status[index]],
  tos: columns.tos[index],
  macs: columns.macs[index],
  bytes: columns.bytes[index],
  joules: columns.joules[index],
  seconds: columns.seconds[index],
  live: columns.live[index],
}));

const MEASURES = {
  joules: { name: "energy", text: (value) => si(value, "J") },
  tos: { name: "transistor operations", text: count },
  macs: { name: "MACs", text: count },
  bytes: { name: "bytes moved", text: bytes },
};

// The costliest operators have a colour of their own, everywhere on the page.
const coloured = new Map(operators.slice(0, 7).map((operator, index) => [operator.name, index]));

function colourOf(op) {
  return coloured.has(op) ? palette()[coloured.get(op)] : ink("other");
}

// --- tables ------------------------------------------------------------------------------------------------------

function measured(rows) {
  const most = Math.max(...rows.map((row) => row.joules || 0), 0);
  return [
    { name: "TOs", text: (row) => count(row.tos), value: (row) => row.tos },
    { name: "MACs", text: (row) => count(row.macs), value: (row) => row.macs },
    { name: "Bytes", text: (row) => bytes(row.bytes), value: (row) => row.bytes },
    { name: "Energy", text: (row) => si(row.joules, "J"), value: (row) => row.joules },
    { name: "Share", text: (row) => percent(row.joules, total), value: (row) => row.joules, bar: (row) => (most ? row.joules / most : 0) },
  ];
}

const word = (name, key) => ({ name, text: (row) => row[key], value: (row) => row[key], left: true });

new DataTable(document.getElementById("operator-table"), {
  label: "Operators",
  rows: operators,
  columns: [word("Operator", "name"), { name: "Nodes", text: (row) => count(row.nodes), value: (row) => row.nodes }, ...measured(operators)],
  sorted: { column: 6, descending: true },
  search: (row) => row.name,
  page: 12,
});

new DataTable(document.getElementById("node-table"), {
  label: "Nodes in execution order",
  rows: nodes,
  columns: [
    word("Node", "name"),
    word("Operator", "op"),
    { name: "Step", text: (row) => String(row.index + 1), value: (row) => row.index },
    word("Type", "dtype"),
    word("Status", "status"),
    ...measured(nodes),
    { name: "Time", text: (row) => si(row.seconds, "s"), value: (row) => row.seconds },
    { name: "Live memory", text: (row) => bytes(row.live), value: (row) => row.live },
  ],
  sorted: { column: 8, descending: true },
  search: (row) => `${row.name} ${row.op} ${row.path}`,
  filters: [
    { name: "operators", values: [...names.op].sort(), of: (row) => row.op },
    { name: "statuses", values: names.status, of: (row) => row.status },
  ],
});

// --- energy by operator ------------------------------------------------------------------------------------------

let measure = total === null ? "tos" : "joules";

function ranked() {
  const known = operators.filter((operator) => operator[measure] > 0).sort((a, b) => b[measure] - a[measure]);
  const shown = known.slice(0, 11).map((operator) => ({ name: operator.name, value: operator[measure] }));
  const rest = known.slice(11).reduce((sum, operator) => sum + operator[measure], 0);
  return rest > 0 ? [...shown, { name: `${known.length - 11} others`, value: rest }] : shown;
}

function operatorChart() {
  const { text, name } = MEASURES[measure];
  const shown = ranked();
  const sum = shown.reduce((before, each) => before + each.value, 0);
  return {
    tooltip: tip((found) => [found.name, [name, text(found.value)], ["share", percent(found.value, sum)]]),
    grid: { ...base().grid, right: 64, top: 8 },
    xAxis: axis("", { type: "value", splitNumber: 3, axisLabel: { color: ink("muted"), formatter: (value) => text(value), hideOverlap: true } }),
    yAxis: axis("", { type: "category", inverse: true, data: shown.map((each) => each.name), axisLabel: { color: ink("text"), width: 150, overflow: "truncate" }, splitLine: { show: false } }),
    series: [
      {
        type: "bar",
        barMaxWidth: 22,
        data: shown.map((each) => ({ ...each, itemStyle: { color: colourOf(each.name), borderRadius: [0, 3, 3, 0] } })),
        label: { show: true, position: "right", color: ink("text"), formatter: (found) => text(found.value) },
      },
    ],
  };
}

// --- transistor operations against bytes -------------------------------------------------------------------------

function scatterChart() {
  const drawn = nodes.filter((node) => node.tos > 0 && node.bytes > 0);
  const kinds = [...coloured.keys()].filter((op) => drawn.some((node) => node.op === op));
  const most = Math.max(...drawn.map((node) => node.joules || 0), 1e-300);
  const size = ([, , joules]) => 5 + 17 * Math.sqrt((joules || 0) / most);
  const place = (node) => ({ name: node.name, value: [node.bytes, node.tos, node.joules], node });
  const series = (name, found, colour) => ({ type: "scatter", name, symbolSize: size, data: found.map(place), itemStyle: { color: colour, opacity: 0.75, borderColor: ink("surface"), borderWidth: 0.5 }, emphasis: { focus: "series" } });
  const others = drawn.filter((node) => !coloured.has(node.op));
  const all = kinds.map((op) => series(op, drawn.filter((node) => node.op === op), colourOf(op)));
  if (others.length) all.push(series("other operators", others, ink("other")));
  if (data.balance !== null && drawn.length) all[0].markLine = balanceLine(drawn);
  const log = () => ({ type: "log", min: ({ min }) => 10 ** Math.floor(Math.log10(min)), axisLabel: { color: ink("muted"), formatter: (value) => si(value), hideOverlap: true } });
  return {
    tooltip: tip((found) => {
      if (found.componentType === "markLine") return ["Arithmetic and traffic cost the same energy", ["balance", `${si(data.balance)} TO/byte`]];
      const node = found.data.node;
      return [node.name, ["operator", node.op], ["bytes", bytes(node.bytes)], ["TOs", count(node.tos)], ["TO/byte", si(node.tos / node.bytes)], ["energy", si(node.joules, "J")]];
    }),
    legend: { type: "scroll", top: 0, textStyle: { color: ink("text") }, pageTextStyle: { color: ink("text") }, pageIconColor: ink("text") },
    grid: { ...base().grid, top: 36 },
    xAxis: below("bytes moved per node", log()),
    yAxis: beside("transistor operations per node", log()),
    series: all,
  };
}

function balanceLine(drawn) {
  const places = drawn.map((node) => node.bytes);
  const rates = drawn.map((node) => node.tos);
  // Clipped to the box of the points, where both ends stay on the chart.
  const low = Math.max(Math.min(...places), Math.min(...rates) / data.balance);
  const high = Math.min(Math.max(...places), Math.max(...rates) / data.balance);
  if (!(high > low)) return undefined;
  return {
    symbol: "none",
    lineStyle: { color: ink("muted"), type: "dashed", width: 1.5 },
    label: { show: true, position: "insideEndTop", color: ink("muted"), formatter: "compute = data energy" },
    data: [[{ coord: [low, low * data.balance] }, { coord: [high, high * data.balance] }]],
  };
}

// --- scopes ------------------------------------------------------------------------------------------------------

let weight = total === null ? "tos" : "joules";

function tree() {
  const root = { children: new Map() };
  for (const node of nodes) {
    if (!(node[weight] > 0)) continue;
    let place = root;
    for (const part of node.path ? node.path.split("/") : [node.op]) {
      if (!place.children.has(part)) place.children.set(part, { name: part, children: new Map(), leaves: [] });
      place = place.children.get(part);
    }
    place.leaves.push({ name: node.name.split("/").pop() || node.name, value: node[weight], node, itemStyle: { color: colourOf(node.op) } });
  }
  return branches(root);
}

function branches(place) {
  return [...place.children.values()].map((child) => {
    let name = child.name;
    let here = child;
    while (here.children.size === 1 && here.leaves.length === 0) {
      here = here.children.values().next().value;
      name = `${name}/${here.name}`;
    }
    const children = [...branches(here), ...here.leaves];
    return children.length === 1 && children[0].node ? children[0] : { name, children, value: children.reduce((sum, each) => sum + each.value, 0) };
  });
}

function treeChart() {
  const { text, name } = MEASURES[weight];
  const content = tree();
  const sum = content.reduce((before, each) => before + each.value, 0);
  const upper = { show: true, height: 20, color: ink("text"), fontWeight: 600, overflow: "truncate", formatter: (found) => found.name };
  return {
    tooltip: tip((found) => {
      const node = found.data && found.data.node;
      const lines = node ? [node.name, ["operator", node.op]] : [found.treePathInfo.slice(1).map((part) => part.name).join("/") || "graph"];
      return [...lines, [name, text(found.value)], ["share", percent(found.value, sum)]];
    }),
    series: [
      {
        type: "treemap",
        name: "graph",
        data: content,
        left: 0,
        right: 0,
        top: 0,
        bottom: 34,
        nodeClick: "zoomToNode",
        roam: false,
        visibleMin: 30,
        childrenVisibleMin: 60,
        leafDepth: null,
        label: { show: true, color: "#fff", overflow: "truncate", formatter: (found) => found.name },
        upperLabel: upper,
        breadcrumb: { bottom: 0, itemStyle: { color: ink("sunken"), borderColor: ink("line"), textStyle: { color: ink("text") } }, emphasis: { itemStyle: { color: ink("grid") } } },
        itemStyle: { borderColor: ink("surface"), borderWidth: 1, gapWidth: 1 },
        levels: [0, 1, 2, 3, 4].map((depth) => ({ itemStyle: { borderColor: depth % 2 ? ink("sunken") : ink("grid"), borderWidth: depth ? 3 : 0, gapWidth: 2 }, upperLabel: depth ? upper : { show: false } })),
      },
    ],
  };
}

// --- memory ------------------------------------------------------------------------------------------------------

function memoryChart() {
  const points = nodes.filter((node) => node.live !== null).map((node) => [node.index + 1, node.live]);
  const peak = points.reduce((most, point) => (point[1] > most[1] ? point : most), points[0]);
  return {
    tooltip: {
      ...tip(([found]) => {
        const node = nodes[found.value[0] - 1];
        return [node.name, ["operator", node.op], ["step", String(node.index + 1)], ["live", bytes(node.live)]];
      }),
      trigger: "axis",
    },
    grid: { ...base().grid, top: 10 },
    xAxis: below("node in execution order", { type: "value", min: 1, max: nodes.length, splitLine: { show: false } }),
    yAxis: beside("live activations", { type: "value", axisLabel: { color: ink("muted"), formatter: (value) => bytes(value) } }),
    series: [
      {
        type: "line",
        step: "middle",
        showSymbol: false,
        sampling: "max",
        data: points,
        lineStyle: { width: 1.5, color: ink("accent") },
        itemStyle: { color: ink("accent") },
        areaStyle: { color: ink("accent"), opacity: 0.15 },
        markPoint: {
          symbol: "circle",
          symbolSize: 9,
          label: { show: true, position: peak[0] > nodes.length * 0.7 ? "left" : "right", color: ink("text"), formatter: `peak ${bytes(peak[1])}` },
          data: [{ coord: peak }],
        },
      },
    ],
  };
}

// --- eCAL --------------------------------------------------------------------------------------------------------

function ecalChart() {
  const { points, break_even: even, inferences, joules_per_bit: here } = data.ecal;
  const marks = [];
  if (even) marks.push({ xAxis: even, label: { formatter: `break-even ${count(Math.ceil(even))}` } });
  return {
    tooltip: {
      ...tip(([found]) => [`${count(found.value[0])} inferences`, ["eCAL", si(found.value[1], "J/bit")]]),
      trigger: "axis",
    },
    grid: { ...base().grid, top: 10 },
    xAxis: below("inferences", { type: "log", axisLabel: { color: ink("muted"), formatter: (value) => count(value), hideOverlap: true }, splitLine: { show: false } }),
    yAxis: beside("eCAL", { type: "log", axisLabel: { color: ink("muted"), formatter: (value) => si(value, "J/bit"), hideOverlap: true } }),
    series: [
      {
        type: "line",
        showSymbol: false,
        data: points,
        lineStyle: { width: 2, color: ink("accent") },
        itemStyle: { color: ink("accent") },
        markLine: { symbol: "none", silent: true, lineStyle: { color: ink("muted"), type: "dashed" }, label: { color: ink("text") }, data: marks },
        markPoint: { symbol: "circle", symbolSize: 9, label: { show: true, position: "top", color: ink("text"), formatter: si(here, "J/bit") }, data: [{ coord: [inferences, here] }] },
      },
    ],
  };
}

// --- regions -----------------------------------------------------------------------------------------------------

function regionChart() {
  const all = data.regions.rows;
  const here = data.regions.current;
  const shown = all.filter((row) => row.shown);
  return {
    tooltip: tip((found) => {
      const row = shown[found.dataIndex];
      return [`${row.name} (${row.code})`, ["CO2e", si(row.grams, "g")], ["intensity", `${row.intensity} g/kWh`], ["year", String(row.year ?? "given by hand")]];
    }),
    grid: { ...base().grid, right: 80, top: 8 },
    xAxis: below("operational CO2e", { type: "value", axisLabel: { color: ink("muted"), formatter: (value) => si(value, "g"), hideOverlap: true } }),
    yAxis: axis("", { type: "category", inverse: true, data: shown.map((row) => row.name), axisLabel: { color: ink("text"), width: 150, overflow: "truncate", interval: 0 }, splitLine: { show: false } }),
    series: [
      {
        type: "bar",
        barMaxWidth: 14,
        data: shown.map((row) => ({ value: row.grams, itemStyle: { color: row.code === here ? ink("accent") : ink("other"), borderRadius: [0, 3, 3, 0] } })),
        label: { show: true, position: "right", color: ink("text"), formatter: (found) => si(found.value, "g") },
      },
    ],
  };
}

// --- all of it ---------------------------------------------------------------------------------------------------

function byPath() {
  const sums = new Map();
  for (const node of nodes) {
    const key = node.path || `(${node.op})`;
    const sum = sums.get(key) || { name: key, nodes: 0, tos: 0, macs: 0, bytes: 0, joules: 0 };
    sum.nodes += 1;
    for (const measured of Object.keys(MEASURES)) sum[measured] += node[measured] || 0;
    sums.set(key, sum);
  }
  return [...sums.values()];
}

alternative("scope-rows", () => {
  const rows = byPath();
  return { label: "Scopes", rows, columns: [word("Scope", "name"), { name: "Nodes", text: (row) => count(row.nodes), value: (row) => row.nodes }, ...measured(rows)], sorted: { column: 5, descending: true }, search: (row) => row.name };
});
if (data.regions) {
  alternative("region-rows", () => ({
    label: "CO2e by region",
    rows: data.regions.rows,
    columns: [
      word("Region", "name"),
      word("Code", "code"),
      { name: "gCO2e/kWh", text: (row) => String(row.intensity), value: (row) => row.intensity },
      { name: "Year", text: (row) => String(row.year ?? "given"), value: (row) => row.year },
      { name: "CO2e", text: (row) => si(row.grams, "g"), value: (row) => row.grams },
    ],
    sorted: { column: 4, descending: false },
    search: (row) => `${row.name} ${row.code}`,
  }));
}
if (data.ecal) {
  alternative("ecal-rows", () => ({
    label: "eCAL by inferences",
    rows: data.ecal.points,
    columns: [
      { name: "Inferences", text: (row) => count(row[0]), value: (row) => row[0] },
      { name: "eCAL", text: (row) => si(row[1], "J/bit"), value: (row) => row[1] },
    ],
  }));
}

later([
  () => {
    const { draw } = chart("operator-chart", operatorChart);
    switches("operator-measure", (value) => ((measure = value), draw()));
  },
  () => document.getElementById("scatter-chart") && chart("scatter-chart", scatterChart),
  () => {
    const { draw } = chart("tree-chart", treeChart);
    switches("tree-measure", (value) => ((weight = value), draw()));
  },
  () => document.getElementById("memory-chart") && chart("memory-chart", memoryChart),
  () => data.ecal && chart("ecal-chart", ecalChart),
  () => data.regions && chart("region-chart", regionChart),
  () => (document.documentElement.dataset.ready = String(Math.round(performance.now()))), // ms since the page was asked for
]);
