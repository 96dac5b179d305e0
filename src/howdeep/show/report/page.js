"use strict";
// The page says everything without this. With it commands can be copied, and tables sorted by a column.

const FACTORS = { k: 1e3, M: 1e6, G: 1e9, T: 1e12, kB: 1e3, MB: 1e6, GB: 1e9, min: 60, h: 3600 };

for (const code of document.querySelectorAll("code.command")) {
  const button = buttonOf("Copy");
  button.className = "copy";
  button.setAttribute("aria-live", "polite");
  button.onclick = async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // the browser refuses: it can be copied by hand
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  };
  code.after(" ", button);
}

for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  if (table.tBodies[0].rows.length < 2) continue;
  heads.forEach((head, column) => {
    const button = buttonOf(head.textContent);
    button.onclick = () => {
      const up = head.ariaSort !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.ariaSort = up ? "ascending" : "descending";
      const rows = [...table.tBodies[0].rows];
      rows.sort((one, other) => compared(one.cells[column], other.cells[column], up ? 1 : -1));
      table.tBodies[0].append(...rows);
    };
    head.replaceChildren(button);
  });
}

function buttonOf(text) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  return button;
}

// Numbers by their size, words as people sort them, what is not known last.
function compared(one, other, sign) {
  const [first, second] = [one, other].map((cell) => cell.textContent.replace(/^→ /, ""));
  const unknown = ["–", ""];
  if (unknown.includes(first) || unknown.includes(second)) return unknown.includes(first) - unknown.includes(second);
  const [low, high] = [first, second].map(number);
  const numbers = !one.classList.contains("t") && !isNaN(low) && !isNaN(high);
  return sign * (numbers ? low - high : first.localeCompare(second, "en", { numeric: true }));
}

function number(text) {
  const found = text.replaceAll(",", "").replaceAll("−", "-").match(/^([-+]?[\d.]+(?:e[-+]?\d+)?)(?: (\w+))?/);
  return found ? found[1] * (FACTORS[found[2]] ?? 1) : NaN;
}

// What scrolls can be reached by the keyboard; what does not is no stop on the way.
const scrollers = document.querySelectorAll("figure, .scroll");
function reach() {
  for (const one of scrollers) {
    if (one.scrollWidth > one.clientWidth || one.scrollHeight > one.clientHeight) one.tabIndex = 0;
    else one.removeAttribute("tabindex");
  }
}
addEventListener("resize", reach);
addEventListener("toggle", reach, true);
reach();
