// The search box, and the list of shortcuts. Without script the menu's link leads to the page that finds the same.
let made = null;

// Both come with the first use, and their styles.
function fetchBoxes() {
  made ??= (async () => {
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = new URL("../css/finder.css", import.meta.url).href;
    const ready = new Promise((done) => {
      style.addEventListener("load", done);
      style.addEventListener("error", done);
    });
    document.head.append(style);
    const answer = await fetch("/search?box=1", { headers: { "HX-Request": "true" } });
    if (!answer.ok) throw new Error(answer.status);
    document.body.insertAdjacentHTML("beforeend", await answer.text());
    await ready;
    const box = document.getElementById("finder");
    window.htmx?.process(box);
    setUpBox(box);
    return { box, list: document.getElementById("shortcuts") };
  })();
  made.catch(() => (made = null));
  return made;
}

function setUpBox(box) {
  const field = box.querySelector("input");
  // A press beside the box closes it.
  box.addEventListener("click", (event) => {
    if (event.target === box) box.close();
  });
  box.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    const found = [field, ...box.querySelectorAll(".found-list a")];
    const by = event.key === "ArrowDown" ? 1 : -1;
    found[(found.indexOf(document.activeElement) + by + found.length) % found.length]?.focus();
    event.preventDefault();
  });
}

async function open(which) {
  if (document.querySelector("dialog[open]")) return;
  const boxes = await fetchBoxes().catch(() => null);
  if (!boxes) {
    location.href = "/search";
    return;
  }
  boxes[which].showModal();
  boxes.box.querySelector("input").select();
}

export function setUpFinder(keys) {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-find]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    document.getElementById("drawer")?.hidePopover?.();
    open("box");
  });
  if (!keys) return;
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || event.altKey) return;
    if ((event.ctrlKey || event.metaKey) && event.code === "KeyK") {
      event.preventDefault();
      open("box");
      return;
    }
    // The conversations have keys of their own.
    const writes = event.target.closest("input, textarea, select, [contenteditable]");
    if (event.ctrlKey || event.metaKey || writes || document.querySelector("[data-inbox], dialog[open]")) return;
    if (event.key === "/" || event.key === "?") {
      event.preventDefault();
      open(event.key === "/" ? "box" : "list");
    }
  });
}
