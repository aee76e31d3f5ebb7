"""Uses a report as a reader does: opens it, filters, hovers, turns the theme, prints. `check` beside this file says how."""

import argparse
import hashlib
import json
import pathlib
import subprocess
import tempfile
from contextlib import contextmanager

from playwright.sync_api import sync_playwright

FIXTURES = pathlib.Path(__file__).parents[2] / "crates/ff-report/tests/fixtures"
CHARTS = ["heat", "speed", "course", "roof"]

# Texts of the charts that stick out of their drawing, and pairs that lie on one another.
LAYOUT = """
() => {
  const faults = [];
  for (const svg of document.querySelectorAll('.chart svg')) {
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll('text')].filter((t) => t.textContent.trim() !== '')
      .map((t) => [t.textContent, t.getBoundingClientRect()]).filter(([, b]) => b.width > 0);
    const chart = svg.closest('.chart').id;
    for (const [text, b] of texts) {
      if (b.left < frame.left - 1 || b.right > frame.right + 1 || b.top < frame.top - 1 || b.bottom > frame.bottom + 1) {
        faults.push(`${chart}: "${text}" is cut off`);
      }
    }
    texts.forEach(([one, a], i) => texts.slice(i + 1).forEach(([other, b]) => {
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (across > 2 && down > 3) faults.push(`${chart}: "${one}" lies on "${other}"`);
    }));
  }
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth) faults.push(`the page is ${page.scrollWidth} px wide in ${page.clientWidth}`);
  return faults;
}
"""


class Check:
    def __init__(self):
        self.passed = 0
        self.failed = []

    def __call__(self, holds, what):
        if holds:
            self.passed += 1
        else:
            self.failed.append(what)
            print(f"failed: {what}")


@contextmanager
def opened(browser, path, check, **options):
    """A page without errors and without requests, but for itself."""
    context = browser.new_context(**options)
    page = context.new_page()
    troubles = []
    page.on("console", lambda m: troubles.append(f"console {m.type}: {m.text}") if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: troubles.append(f"error: {e}"))
    page.on("request", lambda r: None if r.url == path.as_uri() or r.url.startswith("data:") else troubles.append(f"request: {r.url}"))
    page.goto(path.as_uri())
    page.wait_for_function("document.getElementById('shown').textContent !== ''")
    yield page
    check(troubles == [], f"{path.name} {options}: {troubles}")
    context.close()


def report(forgefield, folder, name, *arguments):
    path = folder / name
    # In the folder there are neither tables nor passes where they would be looked for.
    command = [forgefield, "report", "--quiet", *arguments, "-o", str(path)]
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)
    return path


def use(browser, path, check, pictures):
    with opened(browser, path, check, viewport={"width": 1280, "height": 900}, color_scheme="light") as page:
        text = lambda place: page.locator(place).inner_text()
        for chart in CHARTS:
            check(page.locator(f"#{chart}-chart svg").count() == 1, f"{chart} is drawn")
        check(text("#shown") == "3 of 3 searches shown", f"all is shown at first: {text('#shown')}")
        check("left out" in text("#speed-note"), "software adapters are said to be left out of speed-ups")
        check("◆ the default" in text("#heat-note") and "painn_linear" in text("#heat-note"), "the map says what it shows")
        check("software" in text("#environment-table") and "rustc" in text("#environment-table"), "the environment is told")
        check("order 1 is not registered" in text("#gate-table"), "the gate's skips are told")
        page.screenshot(path=pictures / "desktop-light.png", full_page=True)

        # A tile tells its configuration.
        tiles = page.locator("#heat-chart svg path[fill^='rgb'], #heat-chart svg path[fill^='#']")
        box = page.locator("#heat-chart").bounding_box()
        page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.4 * box["height"])
        page.wait_for_selector("#heat-chart .tip", state="visible", timeout=5000)
        check("of the fastest" in text("#heat-chart .tip"), f"a tile's tooltip: {text('#heat-chart .tip')}")
        check("edges_per_task=" in text("#heat-chart .tip"), "and its configuration")
        check(tiles.count() >= 12, f"a tile for each pair of values, found {tiles.count()}")
        page.locator("#heat").screenshot(path=pictures / "tooltip.png")
        page.mouse.move(5, 5)

        # Controls change what is drawn.
        drawn = lambda chart: page.locator(f"#{chart}-chart").inner_html()
        for select, chart in [("#heat-others", "heat"), ("#heat-shows", "heat"), ("#course-against", "course"), ("#speed-over", "speed"), ("#roof-dtype", "roof")]:
            before, values = drawn(chart), page.locator(f"{select} option").evaluate_all("all => all.map((o) => o.value)")
            current = page.locator(select).input_value()
            page.select_option(select, [value for value in values if value != current][-1])
            check(drawn(chart) != before, f"{select} changes the {chart} chart")
        page.locator("#speed").screenshot(path=pictures / "speed-default-or-unfused.png")
        x, y = page.locator("#heat-x").input_value(), page.locator("#heat-y").input_value()
        page.select_option("#heat-x", y)
        check((page.locator("#heat-x").input_value(), page.locator("#heat-y").input_value()) == (y, x), "axes change places")
        others = page.locator("#heat-y option").evaluate_all("all => all.map((o) => o.value)")
        page.select_option("#heat-y", [value for value in others if value != x][0])
        check(page.locator("#heat-x").input_value() == y, "the other axis stays")

        # Filters.
        software = page.locator("#filter-device option", has_text="software").get_attribute("value")
        page.select_option("#filter-device", software)
        check(text("#shown") == "1 of 3 searches shown", f"a device is chosen: {text('#shown')}")
        check(page.locator("#speed-chart .empty").count() == 1, "no speed-up of a software adapter")
        check("software adapter" in text("#heat-note"), "a software adapter's map says so")
        check(page.locator("#searches-table tbody tr").count() == 1, "the table follows")
        check(page.locator('#filter-op option[value="cell_list"]').evaluate("option => option.disabled"), "what would show nothing cannot be chosen")
        page.screenshot(path=pictures / "filtered.png", full_page=True)
        page.click("#reset")
        check(text("#shown") == "3 of 3 searches shown", "all is shown again")
        page.select_option("#filter-op", "cell_list")
        check(page.locator("#heat-y").is_disabled(), "one parameter has no second axis")
        check(page.locator("#roof-chart .empty").count() == 1, "lists have no place under a roof, which is said")
        page.locator("#heat").screenshot(path=pictures / "one-parameter.png")
        page.click("#reset")

        # The theme.
        background = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")
        light = background()
        page.click("#theme")
        check((text("#theme"), background()) == ("theme: light", light), "light is light")
        page.click("#theme")
        check(text("#theme") == "theme: dark" and background() != light, "dark is not")
        page.click("#theme")
        check(background() == light, "and back")
        check(page.evaluate(LAYOUT) == [], f"desktop: {page.evaluate(LAYOUT)}")
        page.pdf(path=pictures / "print.pdf", format="A4", margin={side: "12mm" for side in ("top", "right", "bottom", "left")})
        check((pictures / "print.pdf").stat().st_size > 20_000, "a print has content")

    for name, options in [
        ("desktop-dark", {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"}),
        ("phone-light", {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True, "color_scheme": "light"}),
        ("phone-dark", {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "has_touch": True, "color_scheme": "dark"}),
    ]:
        with opened(browser, path, check, **options) as page:
            dark = page.evaluate("document.documentElement.dataset.theme") == "dark"
            check(dark == (options["color_scheme"] == "dark"), f"{name}: the system's theme")
            check(page.evaluate(LAYOUT) == [], f"{name}: {page.evaluate(LAYOUT)}")
            page.screenshot(path=pictures / f"{name}.png", full_page=True)


def empty(browser, path, check, pictures):
    with opened(browser, path, check, viewport={"width": 1280, "height": 900}) as page:
        for panel in [*CHARTS, "searches", "gate"]:
            check(not page.locator(f"#{panel}").is_visible(), f"{panel} has nothing to show and is folded")
        lines = page.locator("#missing-list li").all_inner_texts()
        for name in ["Tuning heat map", "Speed-up", "Best so far", "Roofline", "Searches", "Cases of the gate", "Passes of the gate"]:
            check(sum(name in line and ": filled by " in line for line in lines) == 1, f"one line says what fills {name}: {lines}")
        check(page.locator(".empty").count() == 0, "no empty box is left")
        check(not page.locator("#filters").is_visible(), "nothing can be filtered")
        page.screenshot(path=pictures / "empty.png", full_page=True)


def clone(browser, path, check, pictures):
    """Tables and nothing else, as in a fresh clone."""
    with opened(browser, path, check, viewport={"width": 1280, "height": 900}) as page:
        check(page.locator("#speed-chart svg").count() == 1, "speed-ups of tables are drawn")
        for panel in ["heat", "course", "searches", "gate"]:
            check(not page.locator(f"#{panel}").is_visible(), f"{panel} is folded")
        check(page.locator(".empty").count() == 0, "no empty box is left")
        check(page.evaluate(LAYOUT) == [], f"clone: {page.evaluate(LAYOUT)}")
        page.screenshot(path=pictures / "clone.png", full_page=True)


def hostile(browser, path, check):
    with opened(browser, path, check, viewport={"width": 1000, "height": 800}) as page:
        check(page.evaluate("window.broken") is None, "no script of a record runs")
        check(page.locator("img").count() == 0, "no element of a record is made")
        box = page.locator("#heat-chart").bounding_box()
        page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.4 * box["height"])
        page.wait_for_selector("#heat-chart .tip", state="visible", timeout=5000)
        check("<img" in page.locator("#heat-chart .tip").inner_text(), "what it says is shown as text")
        check(page.evaluate("window.broken") is None and page.locator("img").count() == 0, "also in tooltips")


def signed(entry):
    """An entry of a table with the digest that belongs to it, as a tuner writes it."""
    fields = {key: value for key, value in entry.items() if key != "digest"}
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return fields | {"digest": hashlib.sha256(text.encode()).hexdigest()}


def machines(browser, path, check, pictures):
    """Two machines of one name, whose legends are long."""
    for width in (1280, 1200, 1024, 700, 390):
        with opened(browser, path, check, viewport={"width": width, "height": 900}, color_scheme="light") as page:
            check(page.evaluate(LAYOUT) == [], f"two machines, {width} px: {page.evaluate(LAYOUT)}")
            for chart in ["roof", "speed"]:
                text = page.locator(f"#{chart}-chart").text_content()
                check("x86-v3" in text and "x86-v4" in text, f"{chart} tells them apart at {width} px: {text}")
            page.screenshot(path=pictures / f"machines-{width}.png", full_page=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--forgefield", required=True, type=pathlib.Path)
    parser.add_argument("--chromium", required=True)
    parser.add_argument("--pictures", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.pictures.mkdir(parents=True, exist_ok=True)
    forgefield, pictures, check = arguments.forgefield.resolve(), arguments.pictures.resolve(), Check()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        folder = pathlib.Path(folder)
        records = (FIXTURES / "records.jsonl").read_text()
        torn, bad = folder / "torn.jsonl", folder / "hostile.jsonl"
        torn.write_text(records + records[:100])
        evil = "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 1'>"
        lines = [json.loads(line) for line in records.splitlines()]
        for line in lines:
            line["reason"] = evil
            line["problem"]["name"] = line["device"]["name"] = evil
        bad.write_text("".join(json.dumps(line) + "\n" for line in lines))
        bench, other = FIXTURES / "bench.json", folder / "other.json"
        other.write_text(bench.read_text().replace("x86-v3", "x86-v4"))
        tables = folder / "tables"
        for level in ["x86-v3", "x86-v4"]:
            text = next((FIXTURES / "tables").glob("*/fused_message.json")).read_text().replace("x86-v3", level)
            table = json.loads(text)
            table["entries"] = [signed(entry) for entry in table["entries"]]
            place = tables / table["device"]["slug"]
            place.mkdir(parents=True)
            (place / "fused_message.json").write_text(json.dumps(table, indent=2, ensure_ascii=False))
        two = [str(torn), "--tables", str(tables), "--bench", str(bench), str(other)]
        with_all = [str(torn), "--tables", str(FIXTURES / "tables"), "--bench", str(FIXTURES / "bench.json"), "--verify", str(FIXTURES / "verify.json")]
        browser = playwright.chromium.launch(executable_path=arguments.chromium, args=["--no-sandbox"])
        use(browser, report(forgefield, folder, "report.html", *with_all), check, pictures)
        machines(browser, report(forgefield, folder, "machines.html", *two), check, pictures)
        empty(browser, report(forgefield, folder, "empty.html"), check, pictures)
        clone(browser, report(forgefield, folder, "clone.html", "--tables", str(FIXTURES / "tables")), check, pictures)
        hostile(browser, report(forgefield, folder, "hostile.html", str(bad)), check)
        browser.close()
    print(f"{check.passed} passed, {len(check.failed)} failed; pictures in {pictures.name}")
    raise SystemExit(1 if check.failed else 0)


if __name__ == "__main__":
    main()
