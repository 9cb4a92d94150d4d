"use strict";
const specs = JSON.parse(document.getElementById("specs").textContent);
const views = new Map();
const isDark = () => getComputedStyle(document.documentElement).colorScheme === "dark";

async function show(id, spec) {
  views.get(id)?.finalize();
  const { view } = await vegaEmbed("#" + id, spec, { actions: false, renderer: "svg", logLevel: 1 });
  views.set(id, view);
  await view.signal("dark", isDark()).runAsync();
}

async function explore(place) {
  for (const id of ["explorer-controls", "explorer-kinds"]) document.getElementById(id).replaceChildren();
  await show("circuit", specs.explorers[place]);
}

function sortBy(button) {
  const head = button.closest("th"), table = head.closest("table"), place = head.cellIndex;
  const up = head.getAttribute("aria-sort") !== "ascending";
  for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const numeric = head.classList.contains("number"), text = (row) => row.cells[place].textContent;
  const number = (row) => { const found = parseFloat(text(row).replaceAll(",", "")); return Number.isNaN(found) ? Infinity : found; };
  const compare = numeric ? (a, b) => (number(a) === number(b) ? 0 : number(a) - number(b)) : (a, b) => text(a).localeCompare(text(b), "en", { numeric: true });
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort((a, b) => (up ? compare(a, b) : compare(b, a))));
}

function setTheme(theme) {
  document.documentElement.style.colorScheme = theme;
  document.getElementById("theme").setAttribute("aria-pressed", String(theme === "dark"));
  for (const view of views.values()) view.signal("dark", theme === "dark").runAsync();
}

const preference = matchMedia("(prefers-color-scheme: dark)");
setTheme(preference.matches ? "dark" : "light");
preference.addEventListener("change", () => setTheme(preference.matches ? "dark" : "light"));
document.getElementById("theme").addEventListener("click", () => setTheme(isDark() ? "light" : "dark"));
document.getElementById("graph")?.addEventListener("change", (event) => explore(event.target.value));
document.getElementById("filter").addEventListener("input", (event) => {
  const wanted = event.target.value.toLowerCase();
  for (const row of document.querySelectorAll("#tables tbody tr")) row.hidden = !row.textContent.toLowerCase().includes(wanted);
});
document.addEventListener("click", (event) => {
  const button = event.target.closest(".sortable th button");
  if (button) sortBy(button);
});

(async () => {
  for (const id of ["curves", "costs", "runtimes", "growth", "overlaps"]) if (specs[id]) await show(id, specs[id]);
  if (specs.explorers.length) await explore(0);
  document.documentElement.dataset.ready = "true";
})();
