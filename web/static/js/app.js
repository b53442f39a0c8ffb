// What every page starts.
import { focusFault } from "./forms.js";
import { scrollToEnd } from "./live.js";
import { adoptToasts } from "./toast.js";

adoptToasts();
focusFault();
scrollToEnd(document);

const chat = document.querySelector("[data-chat]");
if (chat) import("./try.js").then(({ setUpChat }) => setUpChat(chat));
const finder = document.querySelector("[data-find]");
if (finder) import("./finder.js").then(({ setUpFinder }) => setUpFinder(finder.dataset.find === "keys"));
const demo = document.querySelector("[data-demo]");
if (demo) import("./demo.js").then(({ setUpDemo }) => setUpDemo(demo));
const inbox = document.querySelector("[data-inbox]");
if (inbox) import("./inbox.js").then(({ setUpInbox }) => setUpInbox(inbox));
const charts = document.querySelectorAll("[data-chart]");
if (charts.length) import("./chart.js").then(({ setUpChart }) => charts.forEach(setUpChart));
for (const form of document.querySelectorAll("[data-drop]")) {
  import("./upload.js").then(({ setUpDrop }) => setUpDrop(form));
}

// On the first-run page a document that is ready moves the steps on.
document.addEventListener("documents", ({ detail }) => {
  const [first, second] = ["document", "try"].map((name) => document.querySelector(`[data-flow=${name}]`));
  if (!first || !detail.querySelector(".state-good")) return;
  first.className = "done";
  first.removeAttribute("aria-current");
  second.setAttribute("aria-current", "step");
});
