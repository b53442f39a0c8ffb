// What changed is told by one stream of events (htmx); where it fails the parts are fetched every 15 seconds.
import { toast } from "./toast.js";

const EVERY_MS = 15_000;
// A stream that is back sooner than this was not missed.
const MISSED_MS = 3000;
let timer = 0;
let missed = 0;
let told = false;

function tellOffline() {
  if (!told && !document.hidden) {
    toast(document.body.dataset.offline, true);
    told = true;
  }
}

function refresh() {
  if (document.hidden) return;
  for (const part of document.querySelectorAll("[data-live]")) {
    if (!part.contains(document.activeElement)) window.htmx.trigger(part, "refresh");
  }
}

document.addEventListener("htmx:sseError", () => {
  if (timer) return;
  timer = setInterval(refresh, EVERY_MS);
  missed = setTimeout(tellOffline, MISSED_MS);
});
document.addEventListener("htmx:sseOpen", () => {
  // What happened meanwhile was not heard: while the stream was away, or since the page was made.
  if (timer || document.querySelector("[data-reading='1']")) {
    clearInterval(timer);
    clearTimeout(missed);
    timer = 0;
    refresh();
  }
  told = false;
});
document.addEventListener("htmx:sendError", tellOffline);
document.addEventListener("htmx:responseError", (event) => {
  if (event.detail.xhr.status === 401) location.reload();
});
// Whoever reads further up stays there; whoever is at the end sees what comes.
const END_PX = 80;
let reading = null;
let unfolded = [];
// A button that is replaced while it is pressed is not pressed: what comes meanwhile is fetched again afterwards.
let pressed = null;
let late = [];
document.addEventListener("pointerdown", (event) => {
  pressed = event.target;
});
for (const end of ["pointerup", "pointercancel"]) {
  document.addEventListener(end, () => {
    // The click comes after this event.
    setTimeout(() => {
      pressed = null;
      for (const part of late.splice(0)) window.htmx.trigger(part, "refresh");
    });
  });
}
// Whoever is writing in a part or has opened something there keeps it.
document.addEventListener("htmx:beforeSwap", (event) => {
  const part = event.detail.target;
  if (part.matches("[data-live]") && part.contains(pressed)) {
    event.detail.shouldSwap = false;
    late.push(part);
    return;
  }
  if (part.matches("[data-live]") && part.contains(document.activeElement) && document.activeElement.matches("input, textarea, select")) {
    event.detail.shouldSwap = false;
  }
  unfolded = [...part.querySelectorAll("details[id][open]")].map((part) => part.id);
  const lines = part.querySelector("[data-scroll-end]");
  reading = lines && lines.scrollHeight - lines.scrollTop - lines.clientHeight > END_PX ? lines.scrollTop : null;
});
document.addEventListener("htmx:afterSwap", (event) => {
  for (const id of unfolded) document.getElementById(id)?.setAttribute("open", "");
  const lines = event.detail.target.querySelector?.("[data-scroll-end]");
  if (lines && reading !== null) lines.scrollTop = reading;
  else scrollToEnd(event.detail.target);
  const list = event.detail.target.querySelector?.("[data-reading]");
  if (list) document.dispatchEvent(new CustomEvent("documents", { detail: list }));
});

// Signing out ends the stream on the server; it is closed here first, or the browser would ask for it again in vain.
const streams = [];
const listeners = [];
const connect = window.htmx?.createEventSource;
if (connect) {
  window.htmx.createEventSource = (address) => {
    const stream = connect(address);
    streams.push(stream);
    for (const listen of listeners) listen(stream);
    return stream;
  };
}
document.addEventListener("submit", (event) => {
  if (event.target.matches("form[action='/logout']")) for (const stream of streams) stream.close();
});

// Hand over the stream of events, and each one that takes its place.
export function onStream(listen) {
  listeners.push(listen);
  for (const stream of streams) listen(stream);
}

export function scrollToEnd(root) {
  for (const lines of root.querySelectorAll?.("[data-scroll-end]") ?? []) lines.scrollTop = lines.scrollHeight;
}
