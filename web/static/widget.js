// A bot's chat on any site: <script src="https://…/widget.js" data-bot="…" async></script>
// Optional: data-language="uz|uz-Cyrl|ru|en", data-position="left|right".
// Everything lives in a shadow root. No eval, no inline style or handler, no markup out of strings, no cookie, no image by
// address: the strictest policy of a site only has to allow this script and connections to where it came from.
(() => {
  "use strict";
  const script = document.currentScript;
  const bot = (script && script.dataset.bot) || "";
  if (!/^[A-Za-z0-9_-]{16,32}$/.test(bot)) {
    console.warn("widget.js: data-bot is missing; copy the code from the panel again.");
    return;
  }
  const TAG = "botfactory-chat";
  // A page that includes the code twice has one chat.
  const shownHere = Symbol.for(TAG);
  window[shownHere] = window[shownHere] || new Set();
  if (window[shownHere].has(bot)) return;
  window[shownHere].add(bot);

  const base = new URL(`widget/${bot}`, script.src).href;
  const CHECK_SOON_MS = 4000;
  const CHECK_MS = 30000;
  const WAIT_FOR_ANSWER_MS = 90000;
  const TRIES = 5;
  const SHOWN_PX = 240;

  // What is remembered on this site: the secret that makes the talk the visitor's own, the language, what was seen.
  const place = `botfactory:${bot}`;
  let memory = {};
  const recall = () => {
    try {
      memory = { ...memory, ...JSON.parse(localStorage.getItem(place) || "{}") };
    } catch {
      // Storage is switched off: the talk lasts as long as the page.
    }
  };
  const remember = (change) => {
    recall();
    Object.assign(memory, change);
    try {
      localStorage.setItem(place, JSON.stringify(memory));
    } catch {
      // As above.
    }
  };
  recall();

  let config;
  let words;
  let status = "bot";
  let open = false;
  let loaded = false;
  let sending = false;
  let streams = 0;
  let written = 0;
  let unread = 0;
  let waitingSince = 0;
  let timer = 0;
  let last = "";
  let oldest = null;
  let dots = null;
  const queue = [];
  const known = new Set();
  const sent = new WeakMap();

  const CSS = `
:host { all: initial; --surface: #fff; --text: #171b24; --faint: #5a6474; --line: #8590a2; --soft: #eff3f9; --bad: #b3261e; --warn: #6b3b00; --warn-back: #fff3dc; }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
.root { font: 16px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Arial, sans-serif, "Noto Color Emoji"; color: var(--text); text-align: start; }
button, textarea, select { font: inherit; color: inherit; margin: 0; }
button { cursor: pointer; }
:focus-visible { outline: 3px solid var(--text); outline-offset: 2px; box-shadow: 0 0 0 2px var(--surface); }
.unseen { position: absolute; width: 1px; height: 1px; margin: -1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
svg { display: block; width: 24px; height: 24px; fill: none; stroke: currentColor; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
.launcher { position: fixed; z-index: 2147483000; bottom: calc(var(--botfactory-bottom, 20px) + env(safe-area-inset-bottom)); right: var(--botfactory-right, 20px); display: grid; place-items: center; width: 60px; height: 60px; padding: 0; border: 2px solid var(--surface); border-radius: 50%; background: var(--botfactory-color); color: var(--botfactory-ink); box-shadow: 0 6px 24px rgb(10 20 40 / 30%); }
.launcher svg { width: 28px; height: 28px; }
.left .launcher { right: auto; left: var(--botfactory-left, 20px); }
.badge { position: absolute; top: -6px; right: -6px; min-width: 24px; height: 24px; padding: 0 6px; border: 2px solid var(--surface); border-radius: 12px; background: #b3261e; color: #fff; font-size: 13px; font-weight: 700; line-height: 20px; text-align: center; }
.panel { position: fixed; z-index: 2147483001; bottom: calc(var(--botfactory-bottom, 20px) + env(safe-area-inset-bottom)); right: var(--botfactory-right, 20px); display: flex; flex-direction: column; width: 384px; max-width: calc(100vw - 40px); height: 620px; max-height: calc(100vh - 20px - var(--botfactory-bottom, 20px)); border: 1px solid var(--line); border-radius: 18px; background: var(--surface); overflow: hidden; box-shadow: 0 12px 48px rgb(10 20 40 / 28%); animation: rise .18s ease-out; }
.left .panel { right: auto; left: var(--botfactory-left, 20px); }
@keyframes rise { from { opacity: 0; transform: translateY(12px); } }
header { display: flex; align-items: center; gap: 8px; padding: 8px 8px 8px 16px; background: var(--botfactory-color); color: var(--botfactory-ink); }
header :focus-visible { outline-color: var(--botfactory-ink); outline-offset: -3px; box-shadow: none; }
.title { flex: 1; min-width: 0; }
h2 { margin: 0; font-size: 16px; font-weight: 650; line-height: 1.3; overflow: hidden; overflow-wrap: anywhere; display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; }
.state { margin: 0; font-size: 13px; line-height: 1.3; }
select { max-width: 136px; min-height: 44px; padding: 0 6px; border: 1px solid currentColor; border-radius: 10px; background: var(--botfactory-color); }
.close { flex: none; display: grid; place-items: center; width: 44px; height: 44px; padding: 0; border: 0; border-radius: 10px; background: none; }
.offline { margin: 0; padding: 8px 16px; background: var(--warn-back); color: var(--warn); font-size: 14px; text-align: center; }
.scroll { flex: 1; min-height: 0; overflow-y: auto; overscroll-behavior: contain; padding: 16px; scrollbar-width: thin; }
.scroll:focus-visible { outline-offset: -3px; box-shadow: none; }
.log { display: flex; flex-direction: column; gap: 12px; }
.message { display: flex; flex-direction: column; align-items: flex-start; align-self: flex-start; max-width: 86%; }
.own { align-self: flex-end; align-items: flex-end; }
.bubble { margin: 0; padding: 9px 14px; border-radius: 18px 18px 18px 5px; background: var(--soft); white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: plaintext; }
.own .bubble { border-radius: 18px 18px 5px; background: var(--botfactory-color); color: var(--botfactory-ink); }
.own .bubble.shown { padding: 4px; }
canvas { display: block; max-width: 100%; border-radius: 14px; }
.who { margin: 0 0 3px 4px; font-size: 13px; font-weight: 600; }
time, .fate { margin: 3px 5px 0; font-size: 12px; color: var(--faint); }
.fate { display: flex; gap: 8px; align-items: center; color: var(--bad); }
.file { display: inline-flex; align-items: center; min-height: 44px; padding: 6px 4px; color: inherit; overflow-wrap: anywhere; }
.choices { display: flex; flex-wrap: wrap; gap: 8px; margin-top: 8px; }
.pill { display: inline-flex; align-items: center; gap: 7px; min-height: 44px; padding: 6px 14px; border: 1px solid var(--line); border-radius: 999px; background: none; font-size: 14px; color: var(--text); }
.pill:hover, .line button:hover { background: var(--soft); }
.pill svg { width: 18px; height: 18px; }
.fate .pill { font-size: 13px; }
.earlier { display: flex; margin: 0 auto 12px; }
.note { margin: 14px 0 0; text-align: center; font-size: 14px; color: var(--faint); }
.dots { display: flex; gap: 5px; padding: 14px 16px; }
.dots i { width: 8px; height: 8px; border-radius: 50%; background: var(--faint); animation: dot 1.2s infinite ease-in-out; }
.dots i:nth-child(2) { animation-delay: .15s; }
.dots i:nth-child(3) { animation-delay: .3s; }
@keyframes dot { 0%, 70%, 100% { opacity: .3; } 35% { opacity: 1; transform: translateY(-3px); } }
.fault { margin: 0 12px 8px; padding: 8px 12px; border: 1px solid var(--bad); border-radius: 10px; color: var(--bad); font-size: 14px; }
form { padding: 8px 12px calc(10px + env(safe-area-inset-bottom)); border-top: 1px solid var(--line); }
.line { display: flex; align-items: flex-end; gap: 6px; margin-top: 8px; }
.line button { flex: none; display: grid; place-items: center; width: 46px; height: 46px; padding: 0; border: 0; border-radius: 50%; background: none; }
.line .send, .line .send:hover { background: var(--botfactory-color); color: var(--botfactory-ink); }
.send svg { fill: currentColor; stroke: none; }
textarea { flex: 1; min-width: 0; height: 46px; min-height: 46px; max-height: 130px; padding: 10px 14px; border: 1px solid var(--line); border-radius: 23px; background: var(--surface); resize: none; line-height: 24px; }
textarea::placeholder { color: var(--faint); opacity: 1; }
textarea:focus { outline: 2px solid var(--text); outline-offset: -1px; box-shadow: none; }
.count { margin: 5px 0 0; text-align: end; font-size: 12px; color: var(--faint); }
.count.over { color: var(--bad); }
@media (max-width: 520px), (max-height: 480px) {
  .panel, .left .panel { inset: 0; width: auto; max-width: none; height: 100vh; height: 100dvh; max-height: none; border: 0; border-radius: 0; }
}
@media (prefers-color-scheme: dark) {
  :host { --surface: #171b24; --text: #eef1f6; --faint: #a2adbf; --line: #5f6b80; --soft: #262d3b; --bad: #ffb4ab; --warn: #ffcf87; --warn-back: #3a2c12; }
}
@media (prefers-reduced-motion: reduce) { .panel, .dots i { animation: none; } }
@media (forced-colors: active) { .launcher, .panel, .bubble { border: 1px solid; } }
@media print { .root { display: none; } }`;

  // Making things. Whatever people or models wrote enters as text.

  const make = (tag, attributes = {}, ...inside) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === true) node.setAttribute(name, "");
      else if (value !== false && value != null) node.setAttribute(name, value);
    }
    node.append(...inside);
    return node;
  };
  const icon = (path) => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const drawn = document.createElementNS("http://www.w3.org/2000/svg", "path");
    svg.setAttribute("viewBox", "0 0 24 24");
    svg.setAttribute("aria-hidden", "true");
    drawn.setAttribute("d", path);
    svg.append(drawn);
    return svg;
  };

  const host = make(TAG, { "data-bot": bot });
  const shadow = host.attachShadow({ mode: "open" });
  try {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(CSS);
    shadow.adoptedStyleSheets = [sheet];
  } catch {
    // A browser from before constructable sheets; a site's own policy may refuse this way.
    shadow.append(make("style", {}, CSS));
  }

  const badge = make("span", { class: "badge", "aria-hidden": "true", hidden: true });
  const launcher = make(
    "button",
    { class: "launcher", type: "button", "aria-haspopup": "dialog", "aria-expanded": "false" },
    icon("M21 12a8 8 0 0 1-8 8H4l2-3a8 8 0 1 1 15-5z"),
    badge,
  );
  const title = make("h2", { id: "title" });
  const state = make("p", { class: "state", role: "status" });
  const language = make("select");
  const close = make("button", { class: "close", type: "button" }, icon("M6 6l12 12M18 6 6 18"));
  const offline = make("p", { class: "offline", role: "status", hidden: true });
  const earlier = make("button", { class: "pill earlier", type: "button", hidden: true });
  const greeting = make("div", { class: "message" });
  const log = make("div", { class: "log", role: "log", "aria-live": "polite" }, greeting);
  const note = make("p", { class: "note", hidden: true });
  const scroll = make("div", { class: "scroll", tabindex: "0", role: "region" }, earlier, log, note);
  const fault = make("p", { class: "fault", role: "alert", hidden: true });
  const personWords = make("span");
  const person = make(
    "button",
    { class: "pill", type: "button" },
    icon("M12 4a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM4 20c0-4 3.6-6 8-6s8 2 8 6"),
    personWords,
  );
  const clip = make(
    "button",
    { class: "clip", type: "button" },
    icon("M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9.5h.01"),
  );
  const chooser = make("input", { type: "file", hidden: true, tabindex: "-1" });
  const field = make("textarea", { rows: "1", dir: "auto", autocomplete: "off", enterkeyhint: "send", "aria-describedby": "count" });
  const send = make("button", { class: "send" }, icon("M4 12 20 4l-5 16-3.5-6.5z"));
  const count = make("p", { class: "count", id: "count", "aria-live": "polite", hidden: true });
  const composer = make("form", {}, person, make("div", { class: "line" }, clip, chooser, field, send), count);
  const panel = make(
    "section",
    { class: "panel", role: "dialog", "aria-modal": "false", "aria-labelledby": "title", tabindex: "-1", hidden: true },
    make("header", {}, make("div", { class: "title" }, title, state), language, close),
    offline,
    scroll,
    fault,
    composer,
  );
  composer.noValidate = true;
  const root = make("div", { class: "root" }, launcher, panel);

  const atEnd = () => scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 120;
  const toEnd = () => {
    scroll.scrollTop = scroll.scrollHeight;
  };

  // What is told takes room from the talk: whoever stands at its end stays there.
  const tell = (text) => {
    const stay = atEnd();
    fault.textContent = text;
    fault.hidden = !text;
    if (stay) toEnd();
  };

  const bubble = (author, text) => {
    const own = author === "customer";
    const row = make("div", { class: own ? "message own" : "message" });
    row.append(make("span", { class: "unseen" }, `${own ? words.you : config.name}: `));
    if (author === "operator") row.append(make("span", { class: "who" }, words.operator));
    row.append(make("p", { class: "bubble", dir: "auto" }, text));
    return row;
  };
  const bubbleOf = (row) => row.querySelector(".bubble");

  const forgetFate = (row) => {
    const fate = row.querySelector(".fate");
    if (fate) fate.remove();
  };

  const finish = (row, item) => {
    row.dataset.id = item.id;
    row.removeAttribute("aria-busy");
    // A picture stays to be seen as long as the page does.
    if (!row.querySelector("canvas")) bubbleOf(row).textContent = item.text;
    forgetFate(row);
    for (const { url, name } of item.files || []) {
      // An address on another site's page: to be opened, not loaded into it. What the visitor sent is shown already.
      if (row.querySelector("canvas")) break;
      const link = make("a", { class: "file", href: new URL(url, script.src).href, target: "_blank", rel: "noopener" });
      link.append(`📎 ${name}`);
      row.append(link);
    }
    if (item.buttons && item.buttons.length) {
      const choices = make("div", { class: "choices" });
      for (const { text, data } of item.buttons) {
        const button = make("button", { class: "pill", type: "button" }, text);
        button.addEventListener("click", () => write(text, { data }));
        choices.append(button);
      }
      row.append(choices);
    }
    row.append(make("time", { datetime: item.at, title: item.exact }, item.time));
    known.add(item.id);
    if (item.id > last) last = item.id;
  };

  // A message that the server knows. Our own one takes the place of the bubble that was shown while it was under way.
  const show = (item, before = dots, old = false) => {
    if (known.has(item.id)) return;
    const stay = atEnd();
    let row = null;
    if (item.author === "customer" && !old) {
      const unnamed = [...log.querySelectorAll(".own[data-tried]:not([data-id])")];
      // A typed command comes back as what its button is called: it is the oldest one that the server has not named yet.
      const commands = () => unnamed.find((one) => one.dataset.text.startsWith("/"));
      row = unnamed.find((one) => one.dataset.text === item.text) || commands() || null;
      const waits = row ? queue.indexOf(row) : -1;
      if (waits >= 0) queue.splice(waits, 1);
    }
    if (!row) {
      row = bubble(item.author, item.text);
      log.insertBefore(row, before);
    }
    finish(row, item);
    if (stay && before === dots) toEnd();
  };

  const setStatus = (now) => {
    status = now;
    const told = config.resting ? words.rests : words[now] || words.bot;
    // Told again only when it changed: it is read out.
    if (state.textContent !== told) state.textContent = told;
  };

  // The sign that an answer is being made: while something is awaited and no piece of it has come.
  const showDots = () => {
    const wanted = streams > written;
    if (wanted && !dots) {
      const inside = make("p", { class: "bubble dots", role: "img", "aria-label": words.writing });
      inside.append(make("i"), make("i"), make("i"));
      dots = make("div", { class: "message" }, inside);
      log.append(dots);
      toEnd();
    } else if (!wanted && dots) {
      dots.remove();
      dots = null;
    }
  };

  const setUnread = (n) => {
    unread = n;
    badge.hidden = !n;
    badge.textContent = n > 9 ? "9+" : n;
    launcher.setAttribute("aria-label", n ? `${words.open}. ${words.unread.replace("{n}", n)}` : words.open);
  };

  const seen = () => {
    setUnread(0);
    if (memory.secret && memory.seen !== last) remember({ seen: last });
  };

  const mark = (row) => {
    forgetFate(row);
    const again = make("button", { class: "pill", type: "button" }, words.again);
    again.addEventListener("click", () => retry(row));
    row.append(make("span", { class: "fate" }, words.unsent, again));
    toEnd();
  };

  // Asking the server

  const ask = (path, options = {}) => {
    const address = `${base}/${path}${path.includes("?") ? "&" : "?"}language=${encodeURIComponent(config.language)}`;
    const headers = { ...options.headers, "X-Chat-Secret": memory.secret };
    return fetch(address, { credentials: "omit", cache: "no-store", ...options, headers });
  };

  const history = async (query) => {
    const response = await ask(`messages?${query}`, { headers: { Accept: "application/json" } });
    if (!response.ok) throw new Error(String(response.status));
    return response.json();
  };

  // Everything at first, later what is new; nothing of somebody who has never written.
  const refresh = async () => {
    if (!memory.secret) {
      setStatus("bot");
      return [];
    }
    const first = !last;
    const { items, next, status: now } = await history(first ? "" : `after=${last}`);
    const old = first && items.length;
    // What was said long ago is not read out again.
    if (old) log.setAttribute("aria-live", "off");
    // What the visitor has just written stands below all of it.
    items.forEach((item) => show(item, (first && log.querySelector(".own:not([data-id])")) || dots));
    if (old) setTimeout(() => log.setAttribute("aria-live", "polite"));
    if (first) {
      oldest = next;
      earlier.hidden = !next;
      greeting.hidden = Boolean(next);
    }
    setStatus(now);
    const news = items.filter((item) => item.author !== "customer" && item.id > (memory.seen || ""));
    if (open) seen();
    else if (news.length) setUnread(unread + news.length);
    return items;
  };

  earlier.addEventListener("click", async () => {
    try {
      const before = log.children[1] || null;
      const height = scroll.scrollHeight;
      const { items, next } = await history(`before=${oldest}`);
      items.forEach((item) => show(item, before, true));
      oldest = next;
      greeting.hidden = Boolean(next);
      scroll.scrollTop += scroll.scrollHeight - height;
      scroll.focus();
      earlier.hidden = !next;
    } catch {
      tell(words.lost);
    }
  });

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

  // Show what comes back. Returns whether the server took the message; null when that is not known.
  const follow = async (response) => {
    if (!response.ok) {
      const refused = await response.json().catch(() => null);
      tell(refused && refused.error ? refused.error.message : words.lost);
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
          bubbleOf(writing).append(data.text);
          if (stay) toEnd();
        } else if (kind === "restart") {
          if (writing) writing.remove();
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
          data.items.forEach((item) => show(item));
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
      if (writing) writing.remove();
      stop();
      if (open) seen();
    }
  };

  const expect = (change) => {
    streams += change;
    showDots();
  };

  const post = (fields) => {
    const picture = Boolean(fields.file);
    const body = picture ? new FormData() : new URLSearchParams();
    for (const [name, value] of Object.entries({ ...fields, after: last })) body.append(name, value);
    return ask(picture ? "pictures" : "messages", { method: "POST", body, headers: { Accept: "text/event-stream" } });
  };

  // The next message leaves when this one is with the server; their answers are shown as they come.
  const deliver = async (row) => {
    sending = true;
    tell("");
    forgetFate(row);
    expect(1);
    // Another tab of this site may have begun a talk meanwhile.
    recall();
    if (!memory.secret) remember({ secret: config.secret });
    else if (!last) await refresh().catch(() => {});
    row.dataset.tried = "1";
    let response = null;
    try {
      response = await post(sent.get(row));
    } catch {
      // The connection broke: only the server knows whether the message arrived.
    }
    if (!response) await settle(row);
    sending = false;
    next();
    const taken = response ? await follow(response) : true;
    expect(-1);
    if (taken === false) mark(row);
    else if (response && (taken === null || !row.dataset.id)) await settle(row);
    plan();
  };

  const settle = async (row) => {
    try {
      await refresh();
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
  };

  const retry = async (row) => {
    if (sending || row.dataset.id) return;
    try {
      await refresh();
    } catch {
      tell(words.lost);
      return;
    }
    if (!row.dataset.id && !queue.includes(row)) {
      log.append(row);
      queue.push(row);
    }
    next();
  };

  const next = () => {
    if (sending) return;
    const row = queue.shift();
    if (row) deliver(row);
    else plan();
  };

  function write(text, fields = { text }) {
    const row = bubble("customer", text);
    row.dataset.text = text;
    sent.set(row, fields);
    log.insertBefore(row, dots);
    toEnd();
    queue.push(row);
    next();
    return row;
  }

  // A picture is drawn, not loaded: a site's policy for images does not matter.
  const draw = async (row, file) => {
    let picture;
    try {
      picture = await createImageBitmap(file);
    } catch {
      return;
    }
    const share = Math.min(1, SHOWN_PX / Math.max(picture.width, picture.height));
    const canvas = make("canvas", {
      width: Math.max(1, Math.round(picture.width * share)),
      height: Math.max(1, Math.round(picture.height * share)),
      role: "img",
      "aria-label": words.photo,
    });
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    picture.close();
    const stay = atEnd();
    bubbleOf(row).textContent = "";
    bubbleOf(row).append(canvas);
    bubbleOf(row).classList.add("shown");
    if (stay) toEnd();
  };

  const give = (file) => {
    if (!config.picture.types.includes(file.type)) tell(words.kind);
    else if (file.size > config.picture.bytes) tell(words.large);
    else draw(write(words.photo, { file }), file);
  };

  // A person may answer at any time: look often while one is expected, seldom otherwise, never in a hidden tab.
  const plan = (delay) => {
    clearTimeout(timer);
    if (document.hidden || !memory.secret) return;
    const soon = waitingSince || status === "waiting" || status === "human";
    timer = setTimeout(check, delay || (soon ? CHECK_SOON_MS : CHECK_MS));
  };

  const check = async () => {
    if (!sending && !streams) {
      try {
        const items = await refresh();
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
  };

  // Opening and closing

  const enter = async () => {
    open = true;
    panel.hidden = false;
    launcher.hidden = true;
    launcher.setAttribute("aria-expanded", "true");
    offline.hidden = navigator.onLine;
    size();
    toEnd();
    // On a phone the keyboard would cover what is to be read first.
    (matchMedia("(pointer: fine)").matches ? field : panel).focus();
    seen();
    if (!loaded) {
      loaded = true;
      await check();
      toEnd();
    }
  };

  const leave = () => {
    open = false;
    panel.hidden = true;
    launcher.hidden = false;
    launcher.setAttribute("aria-expanded", "false");
    launcher.focus();
  };

  const size = () => {
    field.style.height = "auto";
    field.style.height = `${Math.min(field.scrollHeight + 2, 130)}px`;
    const length = [...field.value.trim()].length;
    const over = length > config.limit;
    count.hidden = length < config.limit * 0.9;
    count.textContent = `${length} / ${config.limit}`;
    count.classList.toggle("over", over);
    field.setAttribute("aria-invalid", String(over));
  };

  const submit = () => {
    const text = field.value.trim();
    const long = [...text].length > config.limit;
    field.focus();
    if (!text || long) {
      tell(long ? words.long : words.empty);
      return;
    }
    field.value = "";
    size();
    tell("");
    write(text);
  };

  launcher.addEventListener("click", enter);
  close.addEventListener("click", leave);
  composer.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  field.addEventListener("input", () => {
    tell("");
    size();
  });
  panel.addEventListener("keydown", (event) => {
    // The site's own keys are not meant while somebody writes here.
    event.stopPropagation();
    if (event.isComposing || event.keyCode === 229) return;
    if (event.key === "Escape") leave();
    else if (event.key === "Enter" && !event.shiftKey && event.target === field) {
      event.preventDefault();
      submit();
    }
  });
  person.addEventListener("click", () => write(words.person, { operator: "1" }));
  clip.addEventListener("click", () => chooser.click());
  chooser.addEventListener("change", () => {
    const [file] = chooser.files;
    chooser.value = "";
    tell("");
    if (file) give(file);
    field.focus();
  });
  language.addEventListener("change", async () => {
    remember({ language: language.value });
    try {
      dress(await configure());
    } catch {
      tell(words.lost);
      language.value = config.language;
    }
  });
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : plan(1)));
  addEventListener("offline", () => {
    offline.hidden = false;
  });
  addEventListener("online", () => {
    offline.hidden = true;
    tell("");
    const fate = log.querySelector(".fate");
    if (fate) retry(fate.closest(".message"));
    else plan(1);
  });

  // How it looks and what it says: the owner's choice, in the visitor's language.

  const configure = async () => {
    const wanted = memory.language || script.dataset.language || "";
    const response = await fetch(`${base}/config?language=${encodeURIComponent(wanted)}`, {
      credentials: "omit",
      cache: "no-store",
      headers: { Accept: "application/json" },
    });
    if (!response.ok) throw Object.assign(new Error(String(response.status)), { refused: response.status < 500 });
    return response.json();
  };

  const dress = (given) => {
    config = given;
    words = given.words;
    host.lang = given.language;
    root.lang = given.language;
    host.style.setProperty("--botfactory-color", given.color);
    host.style.setProperty("--botfactory-ink", given.ink);
    root.classList.toggle("left", (script.dataset.position || given.position) === "left");
    title.textContent = given.name;
    language.hidden = given.languages.length < 2;
    language.replaceChildren(
      ...given.languages.map(({ code, name }) => make("option", { value: code, lang: code }, name)),
    );
    language.value = given.language;
    for (const [node, label] of [
      [language, "language"],
      [close, "close"],
      [scroll, "talk"],
      [log, "talk"],
      [clip, "picture"],
      [field, "message"],
      [send, "send"],
    ]) {
      node.setAttribute("aria-label", words[label]);
    }
    field.placeholder = words.write;
    personWords.textContent = words.person;
    earlier.textContent = words.earlier;
    offline.textContent = words.offline;
    note.textContent = words.resting;
    note.hidden = !given.resting;
    chooser.accept = given.picture.types.join(",");
    greeting.replaceChildren(...bubble("bot", given.greeting).childNodes);
    setStatus(status);
    setUnread(unread);
  };

  const start = async (tries) => {
    try {
      dress(await configure());
    } catch (error) {
      if (error.refused || tries >= TRIES) console.warn("widget.js: the chat cannot be shown here.", error.message);
      else setTimeout(() => start(tries + 1), CHECK_MS * tries);
      return;
    }
    shadow.append(root);
    document.body.append(host);
    plan(1);
  };

  if (document.body) start(1);
  else addEventListener("DOMContentLoaded", () => start(1));
})();
