// Tables sort by the column whose header is pressed: numbers from the largest, texts from the first letter.
for (const table of document.querySelectorAll("main table")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const press = document.createElement("button");
    press.type = "button";
    press.textContent = head.textContent;
    head.replaceChildren(press);
    press.addEventListener("click", () => {
      const numeric = head.classList.contains("number");
      const before = head.getAttribute("aria-sort");
      const up = before ? before === "descending" : !numeric;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => {
        const cell = row.cells[column];
        return numeric ? Number(cell.dataset.n ?? NaN) : cell.textContent;
      };
      const rows = [...body.rows].sort((one, other) => {
        const a = key(one), b = key(other);
        if (!numeric) return (up ? 1 : -1) * a.localeCompare(b, "en", { numeric: true });
        if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
        return up ? a - b : b - a;
      });
      body.append(...rows);
    });
  });
}
// The scheme is the system's until the switch is pressed.
const scheme = document.getElementById("scheme");
const system = matchMedia("(prefers-color-scheme: dark)");
let chosen = "";
const isDark = () => (chosen ? chosen === "dark" : system.matches);
const show = () => {
  document.documentElement.style.colorScheme = chosen;
  scheme.textContent = isDark() ? "Light" : "Dark";
  scheme.title = `Show the page in the ${isDark() ? "light" : "dark"} scheme`;
};
scheme.addEventListener("click", () => { chosen = isDark() ? "light" : "dark"; show(); });
system.addEventListener("change", show);
scheme.hidden = false;
show();
// On narrow screens the contents are behind a button.
const menu = document.getElementById("menu");
menu.append(document.querySelector("nav ul").cloneNode(true));
menu.addEventListener("click", (event) => { if (event.target.closest("a")) menu.open = false; });
document.body.classList.add("scripted");
