"use strict";
// What both pages share: numbers for people, tables that sort and filter, charts that follow the theme.
// Text that comes from a model is only ever set as text, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);

const PREFIXES = { "-21": "z", "-18": "a", "-15": "f", "-12": "p", "-9": "n", "-6": "µ", "-3": "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E" };

function si(value, unit, digits) {
  if (value === null || value === undefined) return "unknown";
  if (value === 0) return unit ? `0 ${unit}` : "0";
  let exponent = Math.min(Math.max(Math.floor(Math.log10(Math.abs(value)) / 3) * 3, -21), 18);
  let text = (value / 10 ** exponent).toPrecision(digits || 3);
  if (Math.abs(Number(text)) >= 1000 && exponent < 18) {
    exponent += 3;
    text = (value / 10 ** exponent).toPrecision(digits || 3);
  }
  const number = text.includes("e") ? text : String(Number(text));
  return `${number} ${PREFIXES[exponent]}${unit || ""}`.trim();
}

function count(value) {
  if (value === null || value === undefined) return "unknown";
  return Math.abs(value) < 1e5 ? value.toLocaleString("en-US") : si(value, "", 4);
}

function percent(value, total) {
  return value === null || !total ? "unknown" : `${((100 * value) / total).toFixed(1)} %`;
}

function bytes(value) {
  return si(value, "B");
}

function make(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// --- tables ------------------------------------------------------------------------------------------------------

const PAGE = 25;

// A table with sortable columns, a filter and pages.
//   columns: {name, text(row), sub(row), value(row), left, wrap, bar(row)}; `value` is what sorting compares, null comes last.
//   page: rows of a page.
//   filters: {name, values, of(row)}: drop-down lists beside the text filter.
class DataTable {
  constructor(host, { label, columns, rows, filters = [], sorted = null, search = null, page = PAGE }) {
    this.columns = columns;
    this.rows = rows;
    this.search = search;
    this.sorted = sorted || { column: -1, descending: true };
    this.size = page;
    this.page = 0;
    this.chosen = filters.map(() => "");
    this.query = "";
    this.body = make("tbody");
    this.status = make("p", { className: "status", role: "status" });
    this.heads = columns.map((column, index) => this.head(column, index));
    const table = make("table", {}, make("caption", { className: "hidden" }, label), make("thead", {}, make("tr", {}, ...this.heads)), this.body);
    if (search) host.append(this.tools(label, filters));
    host.append(make("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": label }, table), this.pager());
    this.update();
  }

  head(column, index) {
    const cell = make("th", { scope: "col", className: column.left ? "left" : "" });
    const button = make("button", { type: "button", className: "sort" }, column.name, make("span", { className: "arrow", "aria-hidden": "true" }));
    button.addEventListener("click", () => this.sort(index));
    cell.append(button);
    return cell;
  }

  tools(label, filters) {
    const input = make("input", { type: "search", placeholder: "Filter by name…", autocomplete: "off", spellcheck: false });
    input.addEventListener("input", () => {
      this.query = input.value.toLowerCase();
      this.page = 0;
      this.update();
    });
    const lists = filters.map((filter, index) => {
      const options = filter.values.map((value) => make("option", { value }, value));
      const list = make("select", {}, make("option", { value: "" }, `all ${filter.name}`), ...options);
      list.addEventListener("change", () => {
        this.chosen[index] = list.value;
        this.page = 0;
        this.update();
      });
      return make("label", {}, make("span", { className: "hidden" }, filter.name), list);
    });
    this.filters = filters;
    return make("div", { className: "tools" }, make("label", { className: "grow" }, make("span", { className: "hidden" }, `Filter: ${label}`), input), ...lists);
  }

  pager() {
    this.previous = make("button", { type: "button" }, "Previous");
    this.next = make("button", { type: "button" }, "Next");
    this.previous.addEventListener("click", () => this.turn(-1));
    this.next.addEventListener("click", () => this.turn(1));
    return make("div", { className: "pager" }, this.status, this.previous, this.next);
  }

  turn(by) {
    this.page += by;
    this.update();
  }

  sort(index) {
    const same = this.sorted.column === index;
    const first = !this.columns[index].left; // numbers begin with the largest, words with A
    this.sorted = { column: index, descending: same ? !this.sorted.descending : first };
    this.page = 0;
    this.update();
  }

  found() {
    const kept = this.rows.filter(
      (row) =>
        (!this.query || this.search(row).toLowerCase().includes(this.query)) &&
        this.chosen.every((value, index) => !value || this.filters[index].of(row) === value),
    );
    const { column, descending } = this.sorted;
    if (column < 0) return kept;
    const value = this.columns[column].value;
    const sign = descending ? -1 : 1;
    return kept.sort((one, other) => {
      const [a, b] = [value(one), value(other)];
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
    });
  }

  update() {
    const found = this.found();
    const pages = Math.max(1, Math.ceil(found.length / this.size));
    this.page = Math.min(Math.max(this.page, 0), pages - 1);
    const start = this.page * this.size;
    const shown = found.slice(start, start + this.size);
    this.body.replaceChildren(...shown.map((row) => this.line(row)));
    this.heads.forEach((head, index) => {
      const here = this.sorted.column === index;
      if (here) head.setAttribute("aria-sort", this.sorted.descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    const range = found.length > this.size ? `${start + 1}–${start + shown.length} of ${found.length.toLocaleString("en-US")}` : `${found.length.toLocaleString("en-US")} rows`;
    const left = this.rows.length - found.length;
    this.status.textContent = left ? `${range}, ${left.toLocaleString("en-US")} filtered out` : range;
    this.previous.disabled = this.page === 0;
    this.next.disabled = this.page >= pages - 1;
    this.previous.hidden = this.next.hidden = pages === 1;
  }

  line(row) {
    return make(
      "tr",
      {},
      ...this.columns.map((column, index) => {
        const cell = make(index === 0 ? "th" : "td", { className: column.left ? "left" : column.wrap ? "wrap" : "" });
        if (index === 0) cell.scope = "row";
        const text = column.text(row);
        if (column.bar) cell.append(bar(column.bar(row)));
        cell.append(text);
        const below = column.sub && column.sub(row);
        if (below) cell.append(make("small", {}, below));
        if (column.left) cell.title = text;
        if (text === "unknown") cell.classList.add("unknown");
        return cell;
      }),
    );
  }
}

function bar(share) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "bar");
  svg.setAttribute("viewBox", "0 0 60 8");
  svg.setAttribute("aria-hidden", "true");
  for (const [name, width] of [["track", 60], ["fill", 60 * Math.max(0, Math.min(1, share || 0))]]) {
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    rect.setAttribute("class", name);
    rect.setAttribute("width", String(width));
    rect.setAttribute("height", "8");
    rect.setAttribute("rx", "2");
    svg.append(rect);
  }
  return svg;
}

// --- charts ------------------------------------------------------------------------------------------------------

const charts = [];
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

function ink(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function palette() {
  return Array.from({ length: 8 }, (_, index) => ink(`series-${index + 1}`));
}

// Draw `option()` in the element of that id, again whenever the theme or a control changes.
function chart(id, option) {
  const host = document.getElementById(id);
  const instance = echarts.init(host, null, { renderer: "canvas" });
  const draw = () => instance.setOption({ ...base(), ...option() }, true);
  draw();
  charts.push({ instance, draw });
  new ResizeObserver(() => instance.resize()).observe(host);
  return { instance, draw };
}

function base() {
  return {
    animation: !still,
    animationDuration: 300,
    backgroundColor: "transparent",
    color: palette(),
    textStyle: { fontFamily: "system-ui, sans-serif", color: ink("text"), fontSize: 12 },
    grid: { left: 4, right: 28, top: 24, bottom: 4, outerBoundsMode: "same", outerBoundsContain: "all" },
  };
}

function axis(name, extra) {
  return {
    name,
    nameTextStyle: { color: ink("muted"), fontSize: 12 },
    axisLabel: { color: ink("muted"), hideOverlap: true },
    axisLine: { lineStyle: { color: ink("line") } },
    axisTick: { lineStyle: { color: ink("line") } },
    splitLine: { lineStyle: { color: ink("grid") } },
    ...extra,
  };
}

function below(name, extra) {
  return axis(name, { nameLocation: "middle", nameGap: 30, ...extra });
}

function beside(name, extra) {
  return axis(name, { nameLocation: "end", nameTextStyle: { color: ink("muted"), align: "left", fontSize: 12 }, ...extra });
}

// A tooltip is built from elements, so that a name can be nothing but text.
function tip(lines) {
  return {
    className: "tip",
    confine: true,
    appendTo: () => document.body,
    backgroundColor: ink("surface"),
    borderColor: ink("line"),
    padding: 0,
    extraCssText: "",
    formatter: (found) => {
      const [title, ...rest] = lines(found) || [];
      if (title === undefined) return "";
      const box = make("div", { className: "tip-box" }, make("strong", {}, title));
      for (const [name, value] of rest) box.append(make("span", {}, name), make("b", {}, value));
      return box;
    },
  };
}

function later(tasks) {
  for (const task of tasks) setTimeout(task, 0);
}

// A table beside a chart, built when it is opened.
function alternative(id, options) {
  const details = document.getElementById(id);
  details.addEventListener("toggle", () => {
    if (details.open && !details.dataset.filled) {
      details.dataset.filled = "yes";
      new DataTable(details, options());
    }
  });
}

// Buttons of which one is pressed.
function switches(id, act) {
  const group = document.getElementById(id);
  const buttons = [...group.querySelectorAll("button")];
  for (const button of buttons) {
    button.addEventListener("click", () => {
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      act(button.value);
    });
  }
}

// --- theme -------------------------------------------------------------------------------------------------------

const dark = matchMedia("(prefers-color-scheme: dark)");

function remembered() {
  try {
    return localStorage.getItem("aiwq-theme");
  } catch {
    return null; // some browsers keep nothing for a file
  }
}

function setTheme(name, keep) {
  document.documentElement.dataset.theme = name;
  const button = document.getElementById("theme");
  button.setAttribute("aria-pressed", String(name === "dark"));
  button.querySelector("span").textContent = name === "dark" ? "Light" : "Dark";
  if (keep) {
    try {
      localStorage.setItem("aiwq-theme", name);
    } catch {
      // the page forgets it, and follows the system next time
    }
  }
  for (const { draw } of charts) draw();
}

setTheme(remembered() || (dark.matches ? "dark" : "light"), false);
dark.addEventListener("change", () => {
  if (!remembered()) setTheme(dark.matches ? "dark" : "light", false);
});
document.getElementById("theme").addEventListener("click", () => {
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark", true);
});
addEventListener("beforeprint", () => {
  for (const { instance } of charts) instance.resize();
});
