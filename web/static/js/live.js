// What changed is told by one stream of events (htmx); where it fails the parts are fetched every 15 seconds.
import { toast } from "./toast.js";

const EVERY_MS = 15_000;
let timer = 0;
let told = false;

function refresh() {
  if (document.hidden) return;
  for (const part of document.querySelectorAll("[data-live]")) {
    if (!part.contains(document.activeElement)) window.htmx.trigger(part, "refresh");
  }
}

document.addEventListener("htmx:sseError", () => {
  if (!timer) timer = setInterval(refresh, EVERY_MS);
});
document.addEventListener("htmx:sseOpen", () => {
  // What happened meanwhile was not heard: while the stream was away, or since the page was made.
  if (timer || document.querySelector("[data-reading='1']")) {
    clearInterval(timer);
    timer = 0;
    refresh();
  }
  told = false;
});
document.addEventListener("htmx:sendError", () => {
  if (!told) toast(document.body.dataset.offline, true);
  told = true;
});
document.addEventListener("htmx:responseError", (event) => {
  if (event.detail.xhr.status === 401) location.reload();
});
// Whoever is writing in a part or has opened something there keeps it.
document.addEventListener("htmx:beforeSwap", (event) => {
  const part = event.detail.target;
  if (part.matches("[data-live]") && part.contains(document.activeElement) && document.activeElement.matches("input, textarea, select")) {
    event.detail.shouldSwap = false;
  }
});
document.addEventListener("htmx:afterSwap", (event) => {
  scrollToEnd(event.detail.target);
  const list = event.detail.target.querySelector?.("[data-reading]");
  if (list) document.dispatchEvent(new CustomEvent("documents", { detail: list }));
});

// Signing out ends the stream on the server; it is closed here first, or the browser would ask for it again in vain.
const streams = [];
const connect = window.htmx?.createEventSource;
if (connect) {
  window.htmx.createEventSource = (address) => {
    const stream = connect(address);
    streams.push(stream);
    return stream;
  };
}
document.addEventListener("submit", (event) => {
  if (event.target.matches("form[action='/logout']")) for (const stream of streams) stream.close();
});

export function scrollToEnd(root) {
  for (const lines of root.querySelectorAll?.("[data-scroll-end]") ?? []) lines.scrollTop = lines.scrollHeight;
}
