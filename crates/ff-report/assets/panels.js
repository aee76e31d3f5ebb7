"use strict";
// Tables, panels and what a reader does, by the names of page.js.

// Tables ---------------------------------------------------------------------------------------------------------

const table = (id, caption, columns, rows, none) => {
  if (rows.length === 0) return byId(id).replaceChildren(element("div", { className: "empty" }, none));
  const cell = (tag, [, kind], content) => element(tag, { className: kind }, ...(Array.isArray(content) ? content : [content]));
  const head = element("tr", {}, ...columns.map((column) => cell("th", column, column[0])));
  const body = rows.map((row) => element("tr", {}, ...row.map((content, i) => cell("td", columns[i], content))));
  byId(id).replaceChildren(element("table", {}, element("caption", {}, caption), element("thead", {}, head), element("tbody", {}, ...body)));
  return undefined;
};
const softwareTag = (is) => (is ? [" ", element("span", { className: "tag" }, "software")] : []);

const drawSearches = () => {
  const found = data.searches.filter((search) => matches(search));
  const ns = (search, place) => (place === null ? "–" : time(search.configs[place].ns));
  table("searches-table", `${count(found.length, "search", "searches")} of ${data.searches.length}`, [
    ["Variant", "id"], ["Problem", ""], ["Type", ""], ["Device", "id"], ["Tried", "number"], ["What came of them", ""],
    ["Default", "number"], ["Chosen", "number"], ["Configuration", "id"], ["Worst error", "number"],
  ], found.map((search) => [
    search.family, search.problem.name, search.dtype,
    deviceLabels[search.device], String(search.configs.length),
    Object.entries(search.counts).map(([verdict, n], i) => element("span", { className: verdict === "correctness" ? "bad" : "" },
      `${i > 0 ? ", " : ""}${n} ${verdict === "correctness" ? "wrong" : verdict}`)),
    ns(search, search.default), search.chosen === null ? "none" : ns(search, search.chosen),
    search.chosen === null ? "–" : config(search, search.chosen) + (search.chosen === search.default ? " (default)" : ""),
    error(search.rel_error),
  ]), "No search is left by these filters.");
};

const common = (row) => ["op", "family", "dtype"].every((key) => chosen[key] === ALL || row[key] === undefined || row[key] === chosen[key]);
const chosenDevice = () => (chosen.device === ALL ? null : data.devices[Number(chosen.device)]);
const drawChecked = () => {
  const device = chosenDevice();
  const checked = data.checked.filter((row) => common(row) && (!device || device.runtime === row.runtime));
  table("gate-table", "Cases of “forgefield verify”, by family", [
    ["Op", ""], ["Variants", "id"], ["Order", "number"], ["Runtime", ""], ["Type", ""], ["Passed", "number"], ["Failed", "number"],
    ["Skipped", "number"], ["Unsupported", "number"], ["Worst error", "number"], ["Reasons", "id"],
  ], checked.map((row) => [
    row.op, `${row.family} (${row.variants.length})`, String(row.order), row.runtime, row.dtype,
    [element("span", { className: row.passed > 0 && row.failed === 0 ? "good" : "" }, String(row.passed))],
    [element("span", { className: row.failed > 0 ? "bad" : "" }, String(row.failed))],
    String(row.skipped), String(row.unsupported), error(row.worst),
    row.reasons.join("; ") + (row.more_reasons > 0 ? `; and ${row.more_reasons} more` : ""),
  ]), "No case is left by these filters.");

};

const drawPassed = () => {
  const device = chosenDevice();
  const passed = data.passed.filter((row) => common({ op: row.op, family: row.family })
    && (chosen.dtype === ALL || row.dtypes.includes(chosen.dtype)) && (!device || device.slug === row.device));
  table("passed-table", "What last passed completely, by family", [
    ["Op", ""], ["Family", "id"], ["Order", "number"], ["Device", "id"], ["Types", ""], ["Variants", "number"], ["Cases", "number"],
    ["Last", ""], ["Kernel of today", ""],
  ], passed.map((row) => [
    row.op, row.family, String(row.order), row.device, row.dtypes.join(", "), String(row.variants), String(row.passed), row.on,
    [element("span", { className: row.stale > 0 ? "bad" : "good" }, row.stale > 0 ? `no, ${row.stale} of ${row.variants} changed since` : "yes")],
  ]), "No pass is left by these filters.");
};

const drawEnvironment = () => {
  const rows = data.devices.map((device, i) => ({ device, i })).filter(({ i }) => chosen.device === ALL || chosen.device === String(i));
  const cards = rows.map(({ device, i }) => {
    const environment = data.environments[i];
    const facts = [
      ["Runtime", `${device.runtime}, ${device.arch}`], ["Driver", device.driver], ["Threads", device.threads ? String(device.threads) : ""],
      ["Limits", `${device.limits.max_units_per_cube} units per cube, ${(device.limits.shared_memory / 1024).toFixed(0)} KiB of shared memory or L1, ${device.limits.plane_size} lanes`],
      ["f64", device.f64 ? "yes" : "no"], ["Compiler", environment.compilers.join("; ")], ["Clock", environment.clocks.join("; ")],
      ["Versions", environment.versions.join("; ")], ["Tables", device.slug],
      ["Records", environment.from === null ? "none" : `${day(environment.from)} to ${day(environment.until)} UTC`],
    ].filter(([, text]) => text !== "");
    return element("div", { className: "card" }, element("h3", {}, device.name, ...softwareTag(device.software)),
      element("dl", {}, ...facts.flatMap(([name, text]) => [element("dt", {}, name), element("dd", {}, text)])));
  });
  byId("environment-table").replaceChildren(...cards);
  byId("files").textContent = `Reported by forgefield ${data.forgefield}. ${data.files.length > 0 ? `Read: ${data.files.join("; ")}.` : "Nothing was read."}`;
};

// All of it ------------------------------------------------------------------------------------------------------

// A panel for which nothing was given folds into a line that says what would fill it.
const RECORDS = "records.jsonl, which “forgefield tune” writes";
const PANELS = [
  { id: "heat", draw: drawHeat, has: data.searches.length > 0, name: "Tuning heat map", needs: RECORDS },
  { id: "speed", draw: drawSpeed, has: data.speedups.length > 0, name: "Speed-up",
    needs: "records or tables of “forgefield tune” on hardware" },
  { id: "course", draw: drawCourse, has: data.searches.some(hasCourse), name: "Best so far", needs: RECORDS },
  { id: "roof", draw: drawRoof, has: data.points.length > 0, name: "Roofline",
    needs: "what “forgefield bench --save bench.json” writes, named by --bench" },
  { id: "searches", draw: drawSearches, has: data.searches.length > 0, name: "Searches", needs: RECORDS },
  { id: "gate-table", draw: drawChecked, has: data.checked.length > 0, name: "Cases of the gate",
    needs: "what “forgefield verify --json verify.json” writes, named by --verify" },
  { id: "passed-table", draw: drawPassed, has: data.passed.length > 0, name: "Passes of the gate",
    needs: "what “forgefield verify --passes autotune/passes.json” writes" },
];
const shownPanels = PANELS.filter(({ has }) => has);
const fold = () => {
  const missing = new Map();
  for (const { id, has, name, needs } of PANELS) {
    byId(id).hidden = !has;
    if (!has) missing.set(needs, [...(missing.get(needs) || []), name]);
  }
  byId("gate").hidden = !shownPanels.some(({ id }) => id === "gate-table" || id === "passed-table");
  byId("filters").hidden = subjects.length === 0;
  byId("missing").hidden = missing.size === 0;
  byId("missing-list").replaceChildren(...[...missing].map(([needs, names]) =>
    element("li", {}, element("b", {}, names.join(", ")), `: filled by ${needs}`)));
};

const CHARTS = ["heat", "speed", "course", "roof"];
const drawCharts = () => shownPanels.filter(({ id }) => CHARTS.includes(id)).forEach(({ draw: each }) => each());
const drawAll = () => {
  fillFilters();
  const [of, one, many] = data.searches.length > 0 ? [data.searches, "search", "searches"] : [subjects, "result"];
  byId("shown").textContent = `${of.filter((subject) => matches(subject)).length} of ${count(of.length, one, many)} shown`;
  shownPanels.forEach(({ draw: each }) => each());
  drawEnvironment();
};

const configurations = data.searches.reduce((sum, search) => sum + search.configs.length, 0);
const passes = data.passed.reduce((sum, row) => sum + row.variants, 0);
const facts = [
  [data.searches.length, `${count(data.searches.length, "search", "searches")} with ${count(configurations, "configuration")}`],
  [data.speedups.length, count(data.speedups.length, "speed-up")],
  [data.checked.length, `${count(data.checked.reduce((sum, row) => sum + row.passed + row.failed, 0), "case")} of the gate`],
  [passes, count(passes, "pass", "passes")],
  [data.devices.length, count(data.devices.length, "measured device")],
].filter(([n]) => n > 0).map(([, text]) => text);
byId("summary").textContent = `${facts.join(", ") || "Nothing was measured yet"}`
  + `${data.devices.some((device) => device.software) ? "; software adapters check results and say nothing about speed" : ""}.`;
byId("warnings").replaceChildren(...data.warnings.map((text) => element("li", {}, text)));

for (const key of Object.keys(filters)) {
  byId(`filter-${key}`).addEventListener("change", ({ target }) => { chosen[key] = target.value; drawAll(); });
}
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("reset").addEventListener("click", () => { Object.keys(chosen).forEach((key) => { chosen[key] = ALL; }); drawAll(); });
byId("heat-search").addEventListener("change", ({ target }) => {
  Object.assign(heat, { search: Number(target.value), map: 0, swapped: false });
  drawHeat();
});
const axes = () => ["heat-x", "heat-y"].map((id) => (byId(id).value === "" ? null : Number(byId(id).value)));
byId("heat-x").addEventListener("change", () => {
  const map = mapOf(data.searches[heat.search]);
  const before = heat.swapped ? map.y : map.x;
  const [x, y] = axes();
  // Choosing the other axis' parameter turns the map over.
  pickMap(x, x === y ? before : y);
  drawHeat();
});
byId("heat-y").addEventListener("change", () => { pickMap(...axes()); drawHeat(); });
[["heat-others", drawHeat], ["heat-shows", drawHeat], ["speed-over", drawSpeed], ["course-against", drawCourse], ["roof-dtype", drawRoof]]
  .forEach(([id, each]) => byId(id).addEventListener("change", each));
// Where the default says nothing, the first view is of what there is.
if (!data.speedups.some((bar) => bar.over === "default") && data.speedups.length > 0) byId("speed-over").value = "unfused";

const restyle = () => { applyTheme(); drawCharts(); };
byId("theme").addEventListener("click", () => {
  theme = { auto: "light", light: "dark", dark: "auto" }[theme];
  restyle();
});
prefersDark.addEventListener("change", restyle);
let width = window.innerWidth;
window.addEventListener("resize", () => {
  if (window.innerWidth !== width && !printing) { width = window.innerWidth; drawCharts(); }
});
const setPrinting = (is) => { if (printing !== is) { printing = is; restyle(); } };
window.addEventListener("beforeprint", () => setPrinting(true));
window.addEventListener("afterprint", () => setPrinting(false));

applyTheme();
fold();
drawAll();
