// The chat page: sends without leaving the page, shows the answer as it is written, survives a lost connection.
// Everything that people or models wrote enters the page as text, never as markup.

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
const address = `${words.base}/messages`;

const CHECK_SOON_MS = 4000;
const CHECK_MS = 30000;
const WAIT_FOR_ANSWER_MS = 90000;

let status = words.status;
let sending = false;
let streams = 0;
let written = 0;
let dots = null;
let personWrites = false;
let checkTimer = 0;
let waitingSince = 0;
const queue = [];
const fieldsOf = new WeakMap();
const known = new Set();
let last = "";

function learn(id) {
  known.add(id);
  if (id > last) last = id;
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

function atEnd() {
  return scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 120;
}

function toEnd() {
  scroll.scrollTop = scroll.scrollHeight;
}

function bubble(author, text) {
  const own = author === "customer";
  const row = element("div", `message ${own ? "own" : "theirs"}`);
  row.append(element("span", "unseen", `${own ? words.you : words.name}:`));
  if (author === "operator") row.append(element("span", "who", words.operator));
  const body = element("p", "bubble", text);
  body.dir = "auto";
  row.append(body);
  return row;
}

function finish(row, item) {
  row.dataset.id = item.id;
  row.removeAttribute("aria-busy");
  row.querySelector(".bubble").textContent = item.text;
  row.querySelector(".fate")?.remove();
  row.classList.remove("unsent");
  for (const file of item.files ?? []) row.append(fileOf(file));
  if (item.buttons?.length) {
    const choices = element("form", "choices");
    for (const { text, data } of item.buttons) {
      const button = element("button", "", text);
      button.type = "button";
      button.value = data;
      choices.append(button);
    }
    row.append(choices);
  }
  if (typeof item.rating === "number") row.append(thumbs(item));
  const time = element("time", "", item.time);
  time.dateTime = item.at;
  time.title = item.exact;
  row.append(time);
  learn(item.id);
}

// A file that was sent: a picture and sound to be seen and heard here, everything else to be saved.
function fileOf({ url, name, shown }) {
  const place = element("p", "sent-file");
  if (shown === "audio") {
    const sound = element("audio");
    sound.controls = true;
    sound.preload = "none";
    sound.src = url;
    sound.setAttribute("aria-label", name);
    place.append(sound);
    return place;
  }
  const link = element("a", "", shown === "image" ? "" : `📎 ${name}`);
  link.href = url;
  if (shown === "image") {
    const picture = element("img");
    picture.alt = name;
    picture.addEventListener("load", () => place.offsetTop + place.offsetHeight > scroll.scrollTop + scroll.clientHeight && toEnd());
    picture.src = url;
    link.target = "_blank";
    link.rel = "noopener";
    link.append(picture);
  } else {
    link.download = "";
  }
  place.append(link);
  return place;
}

// What the visitor thinks of an answer; pressed again, the other thumb takes its place.
function thumbs({ id, rating }) {
  const form = element("form", "thumbs");
  form.method = "post";
  form.action = `${words.base}/ratings`;
  for (const [value, sign, label] of [[1, "👍", words.up], [-1, "👎", words.down]]) {
    const button = element("button");
    button.name = "rating";
    button.value = `rate:${value}:${id}`;
    button.setAttribute("aria-pressed", String(rating === value));
    button.setAttribute("aria-label", label);
    button.title = label;
    const shown = element("span", "", sign);
    shown.setAttribute("aria-hidden", "true");
    button.append(shown);
    form.append(button);
  }
  return form;
}

async function rate(form, button) {
  const before = form.querySelector("[aria-pressed='true']");
  const mark = (one) => form.querySelectorAll("button").forEach((each) => each.setAttribute("aria-pressed", String(each === one)));
  mark(button);
  try {
    const body = new URLSearchParams({ rating: button.value });
    const response = await fetch(form.action, { method: "POST", body, headers: { Accept: "application/json" } });
    if (!response.ok) throw new Error(String(response.status));
  } catch {
    mark(before);
    tell(words.unrated);
  }
}

// Show a message that the server knows. Our own one takes the place of the bubble that was shown while it was under way.
function show(item) {
  if (known.has(item.id)) return;
  const stay = atEnd();
  let row = null;
  if (item.author === "customer") {
    // A typed command comes back as what its button is called: it is the oldest one that the server has not named yet.
    const unnamed = [...log.querySelectorAll(".own:not([data-id])")];
    const same = unnamed.find((one) => one.dataset.text === item.text);
    row = same ?? unnamed.find((one) => one.dataset.text.startsWith("/")) ?? null;
    const place = row ? queue.indexOf(row) : -1;
    if (place >= 0) queue.splice(place, 1);
  }
  if (!row) {
    row = bubble(item.author, item.text);
    log.insertBefore(row, dots);
  }
  finish(row, item);
  if (stay) toEnd();
}

function setStatus(now) {
  status = now;
  const told = answering?.dataset[now] ?? answering?.dataset.bot;
  // Told again only when it changed: it is read out.
  if (told && answering.textContent !== told) answering.textContent = told;
}

// The sign that an answer is being made: while something is awaited and no piece of it has come.
function showDots() {
  const on = streams > written || personWrites;
  if (on && !dots) {
    dots = element("div", "message theirs");
    const inside = element("p", "bubble dots");
    inside.setAttribute("role", "img");
    inside.setAttribute("aria-label", words.writing);
    inside.append(element("i"), element("i"), element("i"));
    dots.append(inside);
    log.append(dots);
    toEnd();
  } else if (!on && dots) {
    dots.remove();
    dots = null;
  }
}

// What is told takes room from the talk: whoever stands at its end stays there.
function tell(text) {
  const stay = atEnd();
  fault.textContent = text;
  fault.hidden = !text;
  if (stay) toEnd();
}

function mark(row) {
  const stay = atEnd();
  row.classList.add("unsent");
  row.querySelector(".fate")?.remove();
  const fate = element("span", "fate", words.unsent);
  const again = element("button", "", words.retry);
  again.type = "button";
  again.addEventListener("click", () => retry(row));
  fate.append(again);
  row.append(fate);
  if (stay) toEnd();
}

async function* eventsOf(response) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += decoder.decode(value, { stream: true });
    const parts = rest.split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const event = /^event: (.+)$/m.exec(part);
      const data = /^data: (.+)$/m.exec(part);
      if (event && data) yield [event[1], JSON.parse(data[1])];
    }
  }
}

async function refusal(response) {
  try {
    const { error } = await response.json();
    return error;
  } catch {
    return { code: "unavailable", message: words.lost };
  }
}

function post(fields) {
  const body = new URLSearchParams({ ...fields, after: last });
  return fetch(address, { method: "POST", body, headers: { Accept: "text/event-stream" } });
}

// Show what comes back. Returns whether the server took the message; null when that is not known.
async function follow(response) {
  if (!response.ok) {
    const error = await refusal(response);
    tell(error.message);
    return false;
  }
  let taken = null;
  let writing = null;
  const stop = () => {
    if (writing) written -= 1;
    writing = null;
  };
  try {
    for await (const [kind, data] of eventsOf(response)) {
      if (kind === "delta") {
        const stay = atEnd();
        if (!writing) {
          writing = bubble("bot", "");
          writing.setAttribute("aria-busy", "true");
          log.append(writing);
          written += 1;
          showDots();
        }
        writing.querySelector(".bubble").append(data.text);
        if (stay) toEnd();
      } else if (kind === "restart") {
        writing?.remove();
        stop();
        showDots();
      } else if (kind === "message") {
        if (writing && data.author === "bot" && !known.has(data.id)) {
          finish(writing, data);
          stop();
        } else {
          show(data);
        }
      } else if (kind === "done") {
        setStatus(data.status);
        data.items.forEach(show);
        taken = true;
      } else if (kind === "error") {
        tell(data.message);
        taken = data.code === "unavailable" ? null : false;
      }
    }
    return taken;
  } catch {
    return taken;
  } finally {
    writing?.remove();
    stop();
  }
}

function expect(change) {
  streams += change;
  showDots();
}

async function history() {
  const response = await fetch(`${address}?after=${last}`, { headers: { Accept: "application/json" } });
  if (!response.ok) throw new Error(String(response.status));
  const { items, status: now, typing } = await response.json();
  items.forEach(show);
  setStatus(now);
  personWrites = typing;
  showDots();
  return items;
}

// The next message leaves when this one is with the server; their answers are shown as they come.
async function deliver(row) {
  sending = true;
  tell("");
  row.classList.remove("unsent");
  row.querySelector(".fate")?.remove();
  expect(1);
  let response = null;
  try {
    response = await post(fieldsOf.get(row));
  } catch {
    // The connection broke: only the server knows whether the message arrived.
  }
  if (!response) await settle(row);
  sending = false;
  next();
  const taken = response ? await follow(response) : true;
  expect(-1);
  if (taken === false) mark(row);
  else if (taken === null) await settle(row);
  plan();
}

async function settle(row) {
  try {
    await history();
  } catch {
    tell(words.lost);
    mark(row);
    return;
  }
  if (row.dataset.id) {
    waitingSince = Date.now();
    plan(CHECK_SOON_MS);
  } else {
    mark(row);
  }
}

async function retry(row) {
  if (sending || row.dataset.id) return;
  try {
    await history();
  } catch {
    tell(words.lost);
    return;
  }
  if (!row.dataset.id && !queue.includes(row)) {
    log.append(row);
    queue.push(row);
  }
  next();
}

function next() {
  if (sending) return;
  const row = queue.shift();
  if (row) deliver(row);
  else plan();
}

function write(text, fields = { text }) {
  const row = bubble("customer", text);
  row.dataset.text = text;
  fieldsOf.set(row, fields);
  log.insertBefore(row, dots);
  toEnd();
  queue.push(row);
  next();
}

// A button says what it says on it, in a bubble of its own.
function command(fields, label) {
  if (sending) return;
  write(label, fields);
}

// A person may answer at any time: look often while one is expected, seldom otherwise, never in a hidden tab.
function plan(delay) {
  clearTimeout(checkTimer);
  if (document.hidden) return;
  const soon = waitingSince || status === "waiting" || status === "human";
  checkTimer = setTimeout(check, delay ?? (soon ? CHECK_SOON_MS : CHECK_MS));
}

async function check() {
  if (!sending && !streams) {
    try {
      const items = await history();
      offline.hidden = true;
      if (waitingSince) {
        const answered = items.some((item) => item.author !== "customer");
        if (answered || Date.now() - waitingSince > WAIT_FOR_ANSWER_MS) {
          waitingSince = 0;
          tell(answered ? "" : words.slow);
        }
      }
    } catch {
      offline.hidden = navigator.onLine;
    }
  }
  plan();
}

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

log.addEventListener("submit", (event) => {
  if (!event.target.matches(".thumbs") || !event.submitter) return;
  event.preventDefault();
  rate(event.target, event.submitter);
});

composer.noValidate = true;
composer.addEventListener("submit", (event) => {
  event.preventDefault();
  if (event.submitter?.name === "operator") {
    command({ operator: event.submitter.value }, event.submitter.textContent.trim());
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

log.addEventListener("click", (event) => {
  const button = event.target.closest(".choices button");
  if (!button) return;
  event.preventDefault();
  command({ data: button.value }, button.textContent);
});

document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(checkTimer) : check()));
window.addEventListener("offline", () => (offline.hidden = false));
window.addEventListener("online", () => {
  offline.hidden = true;
  tell("");
  const waiting = log.querySelector(".unsent");
  if (waiting) retry(waiting);
  else check();
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

for (const row of log.querySelectorAll("[data-id]")) learn(row.dataset.id);
const rows = log.querySelectorAll(".message");
if (rows.length && rows[rows.length - 1].classList.contains("own")) waitingSince = Date.now();
offline.hidden = navigator.onLine;
if (!new URLSearchParams(location.search).has("before")) toEnd();
size();
plan();
