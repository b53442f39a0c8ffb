// The chat page: what is its own. The talk itself is talk.js.

import { make, startTalk } from "./talk.js";

const room = document.getElementById("room");
const words = room.dataset;
const log = document.getElementById("log");
const scroll = document.getElementById("scroll");
const composer = document.getElementById("composer");
const field = document.getElementById("text");
const sendButton = composer.querySelector(".send");
const fault = document.getElementById("fault");
const count = document.getElementById("count");
const offline = document.getElementById("offline");
// Who answers; not there while the bot rests.
const answering = document.getElementById("answering");
const limit = Number(words.limit);
const clip = document.getElementById("clip");
const chooser = document.getElementById("chooser");

const talk = startTalk({
  log,
  scroll,
  fault,
  offline,
  words: () => words,
  address: (path) => path,
  sound: true,
  picture: ({ url, name, width, height }, link, plain) => {
    const picture = make("img", { alt: name, width: width || null, height: height || null });
    picture.addEventListener("error", plain);
    // Of an old one nobody knows how large it is.
    const stay = !width && talk.atEnd();
    picture.addEventListener("load", () => stay && talk.toEnd());
    picture.src = url;
    link.append(picture);
  },
  here: () => true,
  open: () => true,
  ask: (path, options) => fetch(`${words.base}/${path}`, options),
  begin: async () => {},
  first: () => {},
  heard: () => {},
  status: (now) => {
    const told = answering?.dataset[now] ?? answering?.dataset.bot;
    // Told again only when it changed: it is read out.
    if (told && answering.textContent !== told) answering.textContent = told;
  },
});
const { tell, toEnd, write } = talk;

function size() {
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight + 2, 150)}px`;
  const length = [...field.value.trim()].length;
  const over = length > limit;
  count.hidden = length < limit * 0.9;
  count.textContent = `${length} / ${limit}`;
  count.classList.toggle("over", over);
  field.setAttribute("aria-invalid", String(over));
  sendButton.disabled = over;
  if (!over && fault.textContent === words.long) tell("");
}

composer.noValidate = true;
composer.addEventListener("submit", (event) => {
  event.preventDefault();
  if (event.submitter?.name === "operator") {
    write(event.submitter.textContent.trim(), { operator: event.submitter.value });
    return;
  }
  const text = field.value.trim();
  if (!text) {
    tell(words.empty);
    field.focus();
    return;
  }
  if ([...text].length > limit) {
    tell(words.long);
    field.focus();
    return;
  }
  field.value = "";
  size();
  tell("");
  write(text);
  field.focus();
});

// Without script there is no way to see what was chosen before it is sent: then the button is not there.
clip.hidden = false;
clip.addEventListener("click", () => chooser.click());
chooser.addEventListener("change", () => {
  const [file] = chooser.files;
  chooser.value = "";
  tell("");
  if (file) talk.give(file, { types: chooser.accept.split(","), bytes: Number(words.bytes) });
  field.focus();
});

field.addEventListener("input", () => {
  if (fault.textContent === words.empty) tell("");
  size();
});
field.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing && matchMedia("(pointer: fine)").matches) {
    event.preventDefault();
    composer.requestSubmit(sendButton);
  }
});

document.addEventListener("click", (event) => {
  const menu = document.querySelector(".languages[open]");
  if (menu && !menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  const menu = document.querySelector(".languages[open]");
  if (menu && event.key === "Escape") {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

for (const { dataset } of log.querySelectorAll("[data-id]")) talk.learn(dataset.id);
for (const picture of log.querySelectorAll(".sent-file img")) {
  const plain = () => picture.replaceWith(`📎 ${picture.alt}`);
  if (picture.complete && !picture.naturalWidth) plain();
  else picture.addEventListener("error", plain);
}
talk.setStatus(words.status);
if (log.lastElementChild?.classList.contains("own")) talk.awaitAnswer(true);
offline.hidden = navigator.onLine;
if (!new URLSearchParams(location.search).has("before")) toEnd();
size();
talk.plan();
