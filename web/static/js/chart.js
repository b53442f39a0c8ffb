// Draws the numbers of a table above it; the table stays, for who cannot see the picture and without script.
// <figure class="chart" data-chart="bars" or "lines"><div class="chart-picture"></div><table>: a row a point, its heading with data-at (seconds since 1970),
// cells with data-value; the headings of the columns name the series.
import { number, short } from "./numbers.js";

const HEIGHT_PX = 220;
// The library comes when a picture is about to be seen: on a phone most visits to a page do not get that far.
const NEAR = "200px";
let library = null;

function fetched(element, name) {
  const address = new URL(`../vendor/uplot/${name}`, import.meta.url).href;
  return new Promise((done, failed) => {
    element.addEventListener("load", done);
    element.addEventListener("error", failed);
    Object.assign(element, element.tagName === "LINK" ? { rel: "stylesheet", href: address } : { src: address });
    document.head.append(element);
  });
}

function fetchLibrary() {
  library ??= Promise.all([
    fetched(document.createElement("script"), "uplot.min.js"),
    fetched(document.createElement("link"), "uplot.min.css"),
  ]);
  return library;
}

function colours(element) {
  const style = getComputedStyle(element);
  const named = (name) => style.getPropertyValue(name).trim();
  return {
    series: ["--chart-1", "--chart-2", "--chart-3", "--chart-4", "--chart-5"].map(named),
    ink: named("--muted"),
    grid: named("--line"),
  };
}

function read(table) {
  const names = [...table.tHead.rows[0].cells].slice(1).map((cell) => cell.textContent.trim());
  const rows = [...table.tBodies[0].rows];
  const columns = [rows.map((row) => Number(row.cells[0].dataset.at))];
  names.forEach((_, at) => columns.push(rows.map((row) => {
    const value = row.cells[at + 1].dataset.value;
    return value === undefined || value === "" ? null : Number(value);
  })));
  return { names, columns, days: rows.map((row) => row.cells[0].textContent.trim()) };
}

export function setUpChart(figure) {
  const near = new IntersectionObserver((seen) => {
    if (!seen.some(({ isIntersecting }) => isIntersecting)) return;
    near.disconnect();
    fetchLibrary().then(() => drawChart(figure));
  }, { rootMargin: NEAR });
  near.observe(figure);
}

function drawChart(figure) {
  const table = figure.querySelector("table");
  const { names, columns, days } = read(table);
  const canvas = figure.querySelector(".chart-picture");
  if (!columns[0].length) return;
  const { uPlot } = window;
  // Marks of the axis are moments, not places in the row.
  const named = new Map(columns[0].map((at, place) => [at, days[place]]));
  let plot = null;

  const draw = () => {
    plot?.destroy();
    const { series, ink, grid } = colours(figure);
    const font = "12px Onest, system-ui, sans-serif";
    const axis = { stroke: ink, font, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 } };
    const bars = figure.dataset.chart === "bars";
    const options = {
      width: canvas.clientWidth,
      height: HEIGHT_PX,
      scales: { x: { time: false, distr: 2 }, y: { range: (_, _low, high) => [0, Math.max(high * 1.08, 1)] } },
      cursor: { drag: { x: false, y: false } },
      legend: { live: true },
      axes: [
        { ...axis, values: (_, points) => points.map((at) => named.get(at) ?? ""), space: 70 },
        { ...axis, size: (_, shown) => Math.max(40, ...(shown ?? []).map((text) => 20 + 8 * text.length)), values: (_, points) => points.map((value) => (value < 10_000 ? number(value) : short(value))) },
      ],
      series: [
        { label: table.tHead.rows[0].cells[0].textContent.trim(), value: (_, _value, _series, at) => (at === null ? "–" : days[at]) },
        ...names.map((label, at) => ({
          label,
          stroke: series[at % series.length],
          width: 2,
          fill: bars ? series[at % series.length] : undefined,
          paths: bars ? uPlot.paths.bars({ size: [0.7, 40] }) : undefined,
          points: { show: columns[0].length < 2 },
          value: (_, value) => (value === null ? "–" : number(value)),
        })),
      ],
    };
    plot = new uPlot(options, columns, canvas);
  };
  draw();
  new ResizeObserver(() => plot.setSize({ width: canvas.clientWidth, height: HEIGHT_PX })).observe(canvas);
  new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["data-bs-theme"] });
  figure.querySelector("[data-chart-save]")?.addEventListener("click", (event) => {
    const link = document.createElement("a");
    link.download = event.currentTarget.dataset.chartSave;
    link.href = plot.ctx.canvas.toDataURL("image/png");
    link.click();
  });
}
