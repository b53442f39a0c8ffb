// Small comforts of forms; each works without them.
import { toast } from "./toast.js";

// A button shows that it works and cannot be pressed twice; the browser's way back makes it usable again.
document.addEventListener("submit", (event) => {
  const form = event.target;
  // Without this script the server asks the same on a page of its own.
  const ask = form.querySelector("input[name=ask]");
  if (ask && !confirm(ask.value)) {
    event.preventDefault();
    return;
  }
  if (ask) ask.disabled = true;
  if ("once" in form.dataset) {
    const button = event.submitter;
    setTimeout(() => {
      if (event.defaultPrevented || !button) return;
      button.disabled = true;
      button.setAttribute("aria-busy", "true");
    });
  }
});
addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  for (const ask of document.querySelectorAll("input[name=ask]")) ask.disabled = false;
  for (const button of document.querySelectorAll("[aria-busy]")) {
    button.disabled = false;
    button.removeAttribute("aria-busy");
  }
});

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.querySelector(button.dataset.copy);
  const text = source.value ?? source.textContent;
  try {
    await navigator.clipboard.writeText(text.trim());
  } catch {
    // Without https there is no clipboard: select it, so that the person can copy it.
    source.select?.();
    document.execCommand("copy");
  }
  toast(document.body.dataset.copied);
});

// Menus close when something else is pressed, or Escape.
document.addEventListener("click", (event) => {
  for (const open of document.querySelectorAll(".bot-switch[open]")) {
    if (!open.contains(event.target)) open.open = false;
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    for (const open of document.querySelectorAll(".bot-switch[open]")) open.open = false;
  }
});

export function focusFault() {
  document.querySelector("[data-focus]")?.focus();
}
