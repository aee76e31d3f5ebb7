"use strict";
// Draws what the report holds. Everything was counted and compared before; here it is filtered and drawn. The scripts of a page
// share their names: panels.js has the tables, says which panels there are, and listens.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const ALL = "";

// Text -----------------------------------------------------------------------------------------------------------

// Three digits, as the program prints them.
const digits = (x) => x.toFixed(x < 10 ? 2 : x < 100 ? 1 : 0);
const time = (ns) => {
  if (ns === null || ns === undefined) return "–";
  const units = [[1e3, "ns", 1], [1e6, "µs", 1e3], [1e9, "ms", 1e6], [Infinity, "s", 1e9]];
  const [, unit, scale] = units.find(([most]) => ns < most);
  return `${digits(ns / scale)} ${unit}`;
};
const scaled = (x, unit) => {
  const steps = [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]];
  const [scale, prefix] = steps.find(([least]) => Math.abs(x) >= least) || [1, ""];
  return `${digits(x / scale)} ${prefix}${unit}`;
};
const times = (x) => `${x >= 100 ? x.toFixed(0) : x >= 10 ? x.toFixed(1) : x.toFixed(2)}×`;
const count = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many || `${one}s`}`;
const error = (x) => (x === null || x === undefined ? "–" : x.toExponential(1));
const day = (seconds) => (seconds === null ? "–" : new Date(1000 * seconds).toISOString().slice(0, 16).replace("T", " "));

const element = (tag, properties, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};
// Nothing of the data is ever parsed as HTML.
const tip = (title, lines) => element("div", { className: "tip" }, element("b", {}, title),
  ...lines.filter(Boolean).map((line) => element("div", {}, line)));

const deviceLabels = data.devices.map((device) => `${device.name} (${device.runtime}${device.apart === null ? "" : `, ${device.apart}`})`
  + (device.software ? ", software" : ""));
const isSoftware = (subject) => data.devices[subject.device].software;
const title = (s) => `${s.family} · ${s.problem.name} · ${s.dtype} · ${deviceLabels[s.device]}`;
const sizes = ({ problem: p }) => [`${p.n_atoms.toLocaleString("en")} atoms`, `${p.n_edges.toLocaleString("en")} edges`,
  p.features ? `F = ${p.features}` : "", p.n_basis ? `K = ${p.n_basis}` : "", p.hidden ? `H = ${p.hidden}` : ""]
  .filter(Boolean).join(", ");
const config = (search, place) => search.parameters
  .map((name, i) => [name, search.configs[place].values[i]]).filter(([, value]) => value !== null)
  .map(([name, value]) => `${name}=${value}`).join(" ");

// Theme ----------------------------------------------------------------------------------------------------------

const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
let theme = "auto";
let printing = false;
const isDark = () => !printing && (theme === "auto" ? prefersDark.matches : theme === "dark");
const applyTheme = () => {
  document.documentElement.dataset.theme = isDark() ? "dark" : "light";
  byId("theme").textContent = `theme: ${theme}`;
};
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
// Okabe and Ito's palette, told apart by most eyes; the black of it is the text's colour here.
const palette = () => [isDark() ? "#56b4e9" : "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00",
  isDark() ? "#0072b2" : "#56b4e9", isDark() ? "#f0e442" : "#8a7d00", colour("soft")];
const VIRIDIS = ["#fde725", "#b5de2b", "#6ece58", "#35b779", "#1f9e89", "#26828e", "#31688e", "#3e4989", "#482878", "#440154"];

// Charts ---------------------------------------------------------------------------------------------------------

const charts = new Map();
const narrow = () => !printing && window.innerWidth < 640;
// Points per inch and paper leave about so much.
const PRINTED = 680;
const empty = (id, text) => {
  const place = byId(id);
  if (charts.has(id)) charts.get(id).dispose();
  charts.delete(id);
  place.style.height = "";
  place.replaceChildren(element("div", { className: "empty" }, text));
};
const draw = (id, label, height, option) => {
  const place = byId(id);
  place.style.height = `${height}px`;
  if (!charts.has(id)) {
    place.replaceChildren();
    charts.set(id, echarts.init(place, null, { renderer: "svg" }));
  }
  const chart = charts.get(id);
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", label);
  const base = {
    animation: false,
    color: palette(),
    textStyle: { color: colour("text"), fontFamily: getComputedStyle(document.body).fontFamily },
    tooltip: {
      confine: true, backgroundColor: colour("page"), borderColor: colour("line"),
      textStyle: { color: colour("text"), fontWeight: "normal" },
    },
  };
  chart.resize({ width: printing ? PRINTED : undefined, height });
  chart.setOption({ ...base, ...option, tooltip: { ...base.tooltip, ...option.tooltip } }, { notMerge: true });
};
const axis = (name, more) => ({
  name, nameLocation: "middle", nameTextStyle: { color: colour("text"), fontSize: 13 },
  axisLabel: { color: colour("text"), ...(more && more.axisLabel) },
  axisLine: { lineStyle: { color: colour("soft") } }, axisTick: { lineStyle: { color: colour("soft") } },
  splitLine: { lineStyle: { color: colour("line") } },
  ...Object.fromEntries(Object.entries(more || {}).filter(([key]) => key !== "axisLabel")),
});
// Entries stand side by side where all of them have room, else below one another: the rows decide where a chart begins.
const listed = (id, names) => {
  const size = narrow() ? 10 : 12;
  const room = printing ? PRINTED : byId(id).clientWidth;
  const stacked = narrow() || names.reduce((sum, name) => sum + 0.62 * size * name.length + 45, 0) > room;
  const textStyle = { color: colour("text"), fontSize: size, ...(stacked ? { width: room - 50, overflow: "truncate" } : {}) };
  return { rows: stacked ? names.length : 1, legend: { orient: stacked ? "vertical" : "horizontal", top: 0, left: 0, itemGap: 8, textStyle } };
};

// Filters --------------------------------------------------------------------------------------------------------

const filters = {
  device: { of: (s) => String(s.device), name: (value) => deviceLabels[Number(value)] },
  op: { of: (s) => s.op, name: (value) => value },
  family: { of: (s) => s.family, name: (value) => value },
  problem: { of: (s) => s.problem.name, name: (value) => value },
  dtype: { of: (s) => s.dtype, name: (value) => value },
};
const subjects = [...data.searches, ...data.speedups, ...data.points];
const chosen = Object.fromEntries(Object.keys(filters).map((key) => [key, ALL]));
const matches = (subject, besides) => Object.entries(filters)
  .every(([key, { of }]) => key === besides || chosen[key] === ALL || of(subject) === chosen[key]);

const options = (select, values, current) => {
  select.replaceChildren(...values.map(({ value, text, disabled }) =>
    element("option", { value, textContent: text, disabled: Boolean(disabled), selected: value === current })));
  select.disabled = values.length < 2;
};
const fillFilters = () => {
  for (const [key, { of, name }] of Object.entries(filters)) {
    const values = [...new Set(subjects.map(of))].sort((a, b) => name(a).localeCompare(name(b), "en", { numeric: true }));
    const possible = new Set(subjects.filter((subject) => matches(subject, key)).map(of));
    options(byId(`filter-${key}`), [{ value: ALL, text: "all" },
      ...values.map((value) => ({ value, text: name(value), disabled: !possible.has(value) }))], chosen[key]);
  }
};

// Heat map -------------------------------------------------------------------------------------------------------

const heat = { search: null, map: 0, swapped: false };
const mapOf = (search) => search.maps[Math.min(heat.map, search.maps.length - 1)];
const drawHeat = () => {
  const searches = data.searches.map((search, place) => ({ search, place })).filter(({ search }) => matches(search));
  options(byId("heat-search"), searches.map(({ search, place }) => ({ value: String(place), text: title(search) })),
    String(heat.search));
  byId("heat-note").textContent = "";
  if (searches.length === 0) {
    options(byId("heat-x"), [], "");
    options(byId("heat-y"), [], "");
    return empty("heat-chart", "No search is left by these filters.");
  }
  // The one with the most configurations says the most.
  const most = () => searches.reduce((a, b) => (b.search.configs.length > a.search.configs.length ? b : a)).place;
  if (!searches.some(({ place }) => place === heat.search)) Object.assign(heat, { search: most(), map: 0, swapped: false });
  byId("heat-search").value = String(heat.search);
  const search = data.searches[heat.search];
  const map = mapOf(search);
  if (!map) {
    options(byId("heat-x"), [], "");
    options(byId("heat-y"), [], "");
    return empty("heat-chart", `Only ${count(search.configs.length, "configuration")} of this search ${search.configs.length === 1 ? "was" : "were"} tried, `
      + "and no parameter was varied.");
  }
  const [x, y] = heat.swapped && map.y !== null ? [map.y, map.x] : [map.x, map.y];
  const varied = [...new Set(search.maps.flatMap((m) => [m.x, m.y]))].filter((p) => p !== null);
  const named = (places) => places.map((place) => ({ value: String(place), text: search.parameters[place] }));
  options(byId("heat-x"), named(varied), String(x));
  options(byId("heat-y"), y === null ? [] : named(varied.filter((p) => p !== x)), String(y));
  const others = byId("heat-others").value;
  const byTime = byId("heat-shows").value === "time";
  const fastest = search.fastest === null ? null : search.configs[search.fastest].ns;
  const screened = (c) => c !== null && search.configs[c].stage === "screen";
  const place = (cell) => (others === "slice" ? cell.slice : cell.best);
  const ratioOf = (cell) => {
    if (others === "median") return cell.median;
    return place(cell) === null ? null : search.configs[place(cell)].ratio;
  };
  const at = (cell) => (heat.swapped && map.y !== null ? [cell.y, cell.x] : [cell.x, cell.y]);
  const has = (cell, configuration) => configuration !== null
    && [[map.x, map.x_values[cell.x]], [map.y, map.y_values[cell.y]]]
      .every(([p, value]) => p === null || search.configs[configuration].values[p] === value);
  const relevant = map.cells.filter((cell) => others !== "slice" || cell.slice !== null);
  const timed = relevant.filter((cell) => ratioOf(cell) !== null);
  const level = (cell) => Math.log2(ratioOf(cell));
  const [low, high] = [0, Math.max(Math.log2(1.05), ...timed.map(level))];
  const about = (cell) => (others === "median" || screened(place(cell)) ? "~" : "");
  const shown = (cell) => about(cell) + (byTime ? time(ratioOf(cell) * fastest) : ratioOf(cell).toFixed(2));
  const mark = (cell) => (has(cell, search.fastest) ? "★ " : "") + (has(cell, search.default) ? "◆ " : "");
  const told = (cell) => {
    const lines = [map.x, map.y].filter((p) => p !== null)
      .map((p, i) => `${search.parameters[p]} = ${(i === 0 ? map.x_values[cell.x] : map.y_values[cell.y])}`);
    const c = place(cell);
    const of = others !== "median" && c !== null ? search.configs[c] : null;
    const details = [];
    if (ratioOf(cell) !== null) details.push(`${about(cell)}${time(ratioOf(cell) * fastest)}, ${about(cell)}${ratioOf(cell).toFixed(2)} of the fastest`);
    if (of && of.ns !== null && of.stage === "screen") details.push(`${time(of.ns)} in the screening`);
    if (of && of.low !== null) details.push(`quartiles ${time(of.low)} to ${time(of.high)}, ${count(of.samples, "sample")}`);
    if (others === "median") details.push(`median of ${count(cell.timed, "timed configuration")}`);
    if (of) details.push(config(search, c), `${of.verdict}${of.reason ? `: ${of.reason}` : ""}`);
    if (ratioOf(cell) === null && !of) {
      const why = search.configs.find((configuration, i) => has(cell, i) && configuration.reason);
      details.push(why ? `${why.verdict}: ${why.reason}` : "no time");
    }
    details.push(`${cell.tried} tried here, ${cell.timed} timed`);
    if (has(cell, search.default)) details.push("◆ the default is here");
    if (has(cell, search.fastest)) details.push("★ the fastest is here");
    return tip(lines.join(", "), details);
  };
  const small = narrow();
  const xValues = heat.swapped && map.y !== null ? map.y_values : map.x_values;
  const yValues = map.y === null ? [""] : heat.swapped ? map.x_values : map.y_values;
  const height = 150 + Math.max(2, yValues.length) * (small ? 48 : 56) + (small ? 70 : 0);
  draw("heat-chart", `Heat map of ${title(search)}`, height, {
    grid: { left: y === null ? 24 : 76, right: small ? 16 : 110, top: 16, bottom: small ? 120 : 60 },
    xAxis: axis(search.parameters[x], { type: "category", data: xValues.map(String), nameGap: 30, splitArea: { show: false } }),
    yAxis: axis(y === null ? "" : search.parameters[y], { type: "category", data: yValues.map(String), nameGap: 46 }),
    visualMap: {
      type: "continuous", min: low, max: high, dimension: 2, seriesIndex: 0, calculable: true,
      inRange: { color: VIRIDIS }, textStyle: { color: colour("text") },
      formatter: (value) => (byTime ? time(2 ** value * fastest) : `${(2 ** value).toFixed(2)}×`),
      ...(small ? { orient: "horizontal", left: "center", bottom: 0, itemWidth: 14, itemHeight: 130 }
        : { right: 0, top: "middle", itemHeight: Math.min(180, height - 130) }),
    },
    tooltip: { trigger: "item", formatter: ({ data: item }) => told(item.cell) },
    series: [
      {
        type: "heatmap",
        data: timed.map((cell) => ({
          value: [...at(cell), level(cell)], cell,
          label: {
            show: true, formatter: `${mark(cell)}${shown(cell)}`,
            // Dark text on the bright end of the scale.
            color: (level(cell) - low) / (high - low || 1) < 0.45 ? "#111111" : "#ffffff",
          },
        })),
        label: { show: true, fontSize: small ? 11 : 13 },
        itemStyle: { borderColor: colour("page"), borderWidth: 2 },
        emphasis: { itemStyle: { borderColor: colour("text"), borderWidth: 2 } },
      },
      {
        type: "scatter", symbol: "rect", symbolSize: 30, itemStyle: { color: "transparent" },
        data: relevant.filter((cell) => ratioOf(cell) === null).map((cell) => ({ value: at(cell), cell })),
        label: { show: true, formatter: "✕", color: colour("soft"), fontSize: 16 },
      },
    ],
  });
  const software = isSoftware(search) ? " A software adapter: these times say nothing of hardware." : "";
  const chosenText = search.chosen === null ? "" : search.chosen === search.default
    ? " The tuner keeps the default: nothing was told apart from it as faster."
    : ` The tuner chooses ${config(search, search.chosen)} (${time(search.configs[search.chosen].ns)}).`;
  byId("heat-note").textContent = `${search.variant}, ${sizes(search)}. `
    + `★ the fastest${search.fastest === null ? "" : ` (${time(fastest)}: ${config(search, search.fastest)})`}, ◆ the default, `
    + (timed.some((cell) => about(cell) !== "") ? "~ from the few samples of the screening, by the default timed beside them, and no less than the fastest; " : "")
    + `✕ tried without a time; no tile: not tried.${chosenText}${software}`;
};
const pickMap = (x, y) => {
  const { maps } = data.searches[heat.search];
  const found = maps.findIndex((m) => (m.x === x && m.y === y) || (m.x === y && m.y === x));
  if (found >= 0) Object.assign(heat, { map: found, swapped: maps[found].x !== x });
};

// Speed-up -------------------------------------------------------------------------------------------------------

const MOST_BARS = 40;
const drawSpeed = () => {
  const over = byId("speed-over").value;
  const all = data.speedups.filter((bar) => bar.over === over);
  const software = data.searches.filter((search) => isSoftware(search) && matches(search)).length;
  const left = software > 0
    ? ` ${count(software, "search", "searches")} on software adapters ${software === 1 ? "is" : "are"} left out: such times are no performance claims.` : "";
  const found = all.filter((bar) => matches(bar)).sort((a, b) => b.ratio - a.ratio);
  byId("speed-note").textContent = "";
  if (found.length === 0) {
    const why = all.length > 0 ? "No ratio is left by these filters." : over === "default"
      ? "No ratio to the default: neither records nor tables of hardware have both."
      : "No ratio to the unfused composition: it stands in tuning tables, and none was given that has it.";
    return empty("speed-chart", why + left);
  }
  const bars = found.slice(0, MOST_BARS).reverse();
  const small = narrow();
  const several = new Set(found.map((bar) => bar.device)).size > 1;
  const name = (bar) => `${bar.family}\n${bar.problem.name}, ${bar.dtype}${several ? `, ${data.devices[bar.device].apart || data.devices[bar.device].name}` : ""}`;
  const ends = bars.flatMap((bar) => [bar.ratio, bar.low, bar.high].filter((x) => x !== null && x > 0));
  const wide = Math.max(...ends) > 8;
  const [least, most] = [Math.min(1, ...ends), Math.max(...ends)];
  const room = Math.max(0.02, 0.06 * (most - least));
  const hue = palette();
  draw("speed-chart", `Speed-up over ${over}`, 80 + bars.length * (small ? 40 : printing ? 30 : 36), {
    grid: { left: small ? 150 : 260, right: small ? 50 : 70, top: 10, bottom: 50 },
    xAxis: axis(over === "default" ? "times as fast as the default" : "times as fast as the unfused composition", {
      type: wide ? "log" : "value", nameGap: 28, startValue: 1,
      min: wide ? (least < 1 ? 0.1 : 1) : least < 1 ? Math.max(0, Math.floor(20 * (least - room)) / 20) : 1,
      max: wide ? 10 ** Math.ceil(Math.log10(most)) : Math.ceil(20 * (most + room)) / 20,
      axisLabel: { formatter: (value) => `${Number(value.toPrecision(4))}×`, hideOverlap: true },
    }),
    yAxis: axis("", {
      type: "category", data: bars.map((_, i) => i), axisTick: { show: false },
      axisLabel: {
        interval: 0, formatter: (_, i) => name(bars[i]), width: small ? 140 : 245, overflow: "truncate", lineHeight: 14,
        fontSize: small ? 10 : 12,
      },
    }),
    tooltip: {
      trigger: "item",
      formatter: ({ dataIndex }) => {
        const bar = bars[dataIndex];
        const basis = { rounds: "rounds timed side by side", samples: "samples", table: "a tuning table" }[bar.basis];
        return tip(title(bar), [
          bar.default_stays ? "the default stays: nothing was told apart from it" : `${times(bar.ratio)} as fast`,
          bar.low !== null && bar.low !== bar.high ? `spread ${times(bar.low)} to ${bar.high === null ? "–" : times(bar.high)}` : "",
          `${time(bar.ns)} against ${time(bar.over_ns)}`, bar.config, `from ${basis}`, sizes(bar),
        ]);
      },
    },
    series: [
      {
        type: "bar", barMaxWidth: 18, data: bars.map((bar) => ({
          value: bar.ratio, itemStyle: { color: hue[bar.device % (hue.length - 1)] },
        })),
      },
      {
        // Whiskers, and the number behind them.
        type: "custom", silent: true, z: 5,
        data: bars.map((bar, i) => [bar.low === null ? bar.ratio : bar.low, bar.high === null ? bar.ratio : bar.high, i, bar.ratio]),
        encode: { x: [0, 1], y: 2 },
        renderItem: (_, api) => {
          const place = api.value(2);
          const [[from, y], [to], [end]] = [0, 1, 3].map((d) => api.coord([api.value(d), place]));
          const stroke = { stroke: colour("text"), lineWidth: 1.5, fill: "none" };
          const line = (x1, y1, x2, y2) => ({ type: "line", shape: { x1, y1, x2, y2 }, style: stroke });
          const bar = bars[place];
          const whisker = to - from > 1 ? [line(from, y, to, y), line(from, y - 5, from, y + 5), line(to, y - 5, to, y + 5)] : [];
          return {
            type: "group",
            children: [...whisker, {
              type: "text",
              style: {
                x: Math.max(to, end) + 6, y, text: bar.default_stays ? "default" : times(bar.ratio), fill: colour("text"),
                textVerticalAlign: "middle", fontSize: small ? 11 : 12,
              },
            }],
          };
        },
      },
    ],
  });
  const some = (test, text) => (bars.some(test) ? text : "");
  const note = over === "default"
    ? "Bars start at 1, the default."
      + some((bar) => bar.basis === "rounds" && !bar.default_stays, " Of records: median and quartiles over the rounds in which both were timed side by side.")
      + some((bar) => bar.basis === "samples", " Of records without finals: medians of the screening, with the spreads of both.")
      + some((bar) => bar.basis === "table" && !bar.default_stays, " Of tables alone: their medians, with the spread of the tuned kernel.")
      + some((bar) => bar.default_stays, " “default”: nothing was told apart from it as faster, and it stays.")
    : "From tuning tables: the same message step as plain tensor operations on the same device, both verified. The whiskers are the spread of the fused kernel alone.";
  const more = found.length > MOST_BARS ? ` The ${MOST_BARS} largest of ${found.length} are shown; filters show the others.` : "";
  byId("speed-note").textContent = note + more + left;
};

// Best so far ----------------------------------------------------------------------------------------------------

const MOST_LINES = 8;
const hasCourse = (search) => search.course.filter((step) => step.best_ns !== null).length > 1;
const drawCourse = () => {
  const against = byId("course-against").value;
  const found = data.searches.filter((search) => hasCourse(search) && matches(search));
  byId("course-note").textContent = "";
  if (found.length === 0) {
    return empty("course-chart", "No search with more than one evaluation is left by these filters.");
  }
  // The longest say the most.
  const lines = [...found].sort((a, b) => b.course.length - a.course.length).slice(0, MOST_LINES);
  const names = lines.map((search) => `${search.family} · ${search.problem.name} · ${search.dtype}${isSoftware(search) ? " (software)" : ""}`);
  const name = (i) => (names.filter((other) => other === names[i]).length > 1 ? `${names[i]} · ${deviceLabels[lines[i].device]} · ${lines[i].kernel_hash}` : names[i]);
  const { rows, legend: entries } = listed("course-chart", lines.map((_, i) => name(i)));
  draw("course-chart", "Best time so far over the best of all", 330 + 22 * rows, {
    legend: entries,
    grid: { left: 58, right: 24, top: 26 + 22 * rows, bottom: 50 },
    xAxis: axis(against === "evaluation" ? "evaluations" : "seconds since the search began", { type: "value", nameGap: 28, minInterval: 1, min: against === "evaluation" ? 1 : 0 }),
    yAxis: axis("best so far / best of all", { type: "value", nameGap: 42, min: 1, axisLabel: { formatter: (v) => `${Number(v.toFixed(3))}×` } }),
    tooltip: {
      trigger: "item",
      formatter: ({ seriesIndex, dataIndex }) => {
        const search = lines[seriesIndex];
        const step = search.course.filter((s) => s.best_ns !== null)[dataIndex];
        return tip(title(search), [`after ${count(step.evaluation, "evaluation")}, ${step.seconds} s`, `best ${time(step.best_ns)}`]);
      },
    },
    series: lines.map((search, i) => {
      const steps = search.course.filter((step) => step.best_ns !== null);
      const best = steps[steps.length - 1].best_ns;
      return {
        name: name(i), type: "line", step: "end", symbolSize: 5, lineStyle: { type: i < 7 ? "solid" : "dashed" },
        data: steps.map((step) => [step[against], step.best_ns / best]),
      };
    }),
  });
  byId("course-note").textContent = "Medians of the screening in the order in which they were taken, the default first. Time has the resolution of the records, 1 s, and counts gate and compilation."
    + (found.length > lines.length ? ` The ${lines.length} longest of ${found.length} searches are shown; filters show the others.` : "");
};

// Roofline -------------------------------------------------------------------------------------------------------

const drawRoof = () => {
  const found = data.points.filter((point) => matches(point));
  const types = [...new Set(found.map((point) => point.dtype))].sort();
  const select = byId("roof-dtype");
  const wanted = types.includes(select.value) ? select.value : types[0] || "";
  options(select, types.map((value) => ({ value, text: value })), wanted);
  byId("roof-note").textContent = "";
  if (found.length === 0) {
    return empty("roof-chart", "No point is left by these filters: FLOPs and bytes are counted for fused_message alone.");
  }
  const points = found.filter((point) => point.dtype === wanted);
  const devices = [...new Set(points.map((point) => point.device))];
  const roofs = data.roofs.filter((roof) => roof.dtype === wanted && devices.includes(roof.device));
  const decade = (x, round) => 10 ** round(Math.log10(x));
  const xs = [...points.map((p) => p.intensity), ...roofs.map((r) => r.flops / r.bytes)];
  const ys = [...points.map((p) => p.rate), ...roofs.map((r) => r.flops)];
  const [xLeast, xMost] = [decade(0.8 * Math.min(...xs), Math.floor), decade(1.2 * Math.max(...xs), Math.ceil)];
  const [yLeast, yMost] = [decade(0.8 * Math.min(...ys), Math.floor), decade(1.2 * Math.max(...ys), Math.ceil)];
  const hue = palette();
  const hueOf = (device) => hue[device % (hue.length - 1)];
  const groups = devices.flatMap((device) => [["tuned", "circle"], ["bench", "diamond"]].map(([kind, symbol]) => ({
    device, kind, symbol, points: points.filter((p) => p.device === device && p.label.startsWith(kind)),
  }))).filter((group) => group.points.length > 0);
  const series = groups.map(({ device, kind, symbol, points: members }) => ({
    name: `${deviceLabels[device]}: ${kind === "bench" ? "bench" : "tuned"}`, type: "scatter", symbol, symbolSize: 11,
    itemStyle: { color: hueOf(device), opacity: 0.85, borderColor: colour("page"), borderWidth: 1 },
    data: members.map((point) => ({ value: [point.intensity, point.rate], point })),
  }));
  const lines = roofs.map((roof) => {
    const ridge = roof.flops / roof.bytes;
    const from = Math.max(xLeast, yLeast / roof.bytes);
    const corners = [from, ...(ridge > from && ridge < xMost ? [ridge] : []), xMost];
    return {
      name: `${deviceLabels[roof.device]}: roof`, type: "line", symbol: "none", silent: true,
      lineStyle: { color: hueOf(roof.device), width: 2 }, itemStyle: { color: hueOf(roof.device) },
      data: corners.map((x) => [x, Math.min(roof.flops, roof.bytes * x)]),
      endLabel: { show: false },
    };
  });
  const { rows, legend: entries } = listed("roof-chart", [...series, ...lines].map(({ name }) => name));
  draw("roof-chart", "Roofline", 400 + 22 * rows, {
    legend: entries,
    grid: { left: 84, right: 24, top: 26 + 22 * rows, bottom: 54 },
    xAxis: axis("intensity (FLOP per compulsory byte)", { type: "log", min: xLeast, max: xMost, nameGap: 30, axisLabel: { formatter: (v) => String(Number(v.toPrecision(3))) } }),
    yAxis: axis("performance (FLOP/s)", { type: "log", min: yLeast, max: yMost, nameGap: 66, axisLabel: { formatter: (v) => scaled(v, "").trim().replace(/\.0+(?= |$)/, "") } }),
    tooltip: {
      trigger: "item",
      formatter: ({ data: item }) => (item.point ? tip(title(item.point), [
        item.point.label, time(item.point.ns), `${scaled(item.point.rate, "FLOP/s")} at ${digits(item.point.intensity)} FLOP/B`,
        item.point.share === null ? "no roof is known" : `${(100 * item.point.share).toFixed(0)} % of the roof`,
        `${scaled(item.point.flops, "FLOP")}, ${scaled(item.point.bytes, "B")} at least`, item.point.config, sizes(item.point),
      ]) : ""),
    },
    series: [...series, ...lines],
  });
  const sources = [...new Set(roofs.map((roof) => `${deviceLabels[roof.device]}: ${scaled(roof.flops, "FLOP/s")}, ${scaled(roof.bytes, "B/s")} (${roof.source})`))];
  const roofless = devices.filter((device) => !roofs.some((roof) => roof.device === device)).map((device) => deviceLabels[device]);
  byId("roof-note").textContent = [
    "FLOPs and compulsory bytes (every input read once, every output written once) are counted from sizes. A point above the slope had data in its caches.",
    sources.length > 0 ? `Roofs: ${sources.join("; ")}.` : "",
    roofless.length > 0 ? `No roof is known of ${roofless.join("; ")}: “forgefield bench --save bench.json” measures the host's, and --bench brings it here.` : "",
  ].filter(Boolean).join(" ");
};
