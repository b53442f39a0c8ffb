// A bot's chat on any site: <script src="https://…/widget.js" data-bot="…" async></script>
// Optional: data-language="uz|uz-Cyrl|ru|en", data-position="left|right".
// Everything lives in a shadow root. No eval, no inline style or handler, no markup out of strings, no cookie, no image by
// address: the strictest policy of a site only has to allow this script and connections to where it came from.
(() => {
  "use strict";
  // talk.js stands here.
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
  const TRY_AGAIN_MS = 30000;
  const TRIES = 5;

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
  let open = false;
  let unread = 0;
  let oldest = null;

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
.head { display: flex; align-items: center; gap: 8px; padding: 8px 8px 8px 16px; background: var(--botfactory-color); color: var(--botfactory-ink); }
.head :focus-visible { outline-color: var(--botfactory-ink); outline-offset: -3px; box-shadow: none; }
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
.bubble.shown { padding: 4px; }
.bubble.shown, .sent-file.seen a { width: fit-content; max-width: 100%; }
canvas { display: block; max-width: 100%; height: auto; border-radius: 14px; background: var(--soft); }
.sent-file { display: block; max-width: 100%; }
.message > .sent-file { margin-top: 6px; }
.sent-file a { display: inline-flex; align-items: center; min-height: 44px; color: inherit; overflow-wrap: anywhere; }
.seen a { display: block; border-radius: 14px; }
.who { margin: 0 0 3px 4px; font-size: 13px; font-weight: 600; }
time, .fate { margin: 3px 5px 0; font-size: 12px; color: var(--faint); }
.fate { display: flex; gap: 8px; align-items: center; color: var(--bad); }
.thumbs { display: flex; gap: 4px; margin-top: 4px; }
.thumbs button { min-width: 44px; min-height: 44px; padding: 4px 10px; border: 1px solid transparent; border-radius: 999px; background: none; filter: grayscale(1); opacity: .75; }
.thumbs button:hover { border-color: var(--line); }
.thumbs button[aria-pressed="true"] { border-color: var(--text); background: var(--soft); filter: none; opacity: 1; }
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
    make("div", { class: "head" }, make("div", { class: "title" }, title, state), language, close),
    offline,
    scroll,
    fault,
    composer,
  );
  composer.noValidate = true;
  const root = make("div", { class: "root" }, launcher, panel);

  // Pictures of long ago are fetched when they come near.
  const near = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        near.unobserve(target);
        target.dispatchEvent(new Event("near"));
      }
    },
    { root: scroll, rootMargin: "400px" },
  );

  const picture = ({ url, name, width, height }, link, plain) => {
    // How large an old one is, is not known: the place stays as it is, whatever comes.
    const [canvas, draw] = drawn(name, width || SHOWN_PX, height || SHOWN_PX * 0.75);
    canvas.addEventListener("near", async () => {
      try {
        const answer = await fetch(`${base}/${url.slice(1)}`, { credentials: "omit" });
        if (!answer.ok) throw new Error(String(answer.status));
        draw(await createImageBitmap(await answer.blob()));
      } catch {
        plain();
      }
    });
    link.append(canvas);
    near.observe(canvas);
  };

  const setUnread = (n) => {
    unread = n;
    badge.hidden = !n;
    badge.textContent = n > 9 ? "9+" : n;
    launcher.setAttribute("aria-label", n ? `${words.open}. ${words.unread.replace("{n}", n)}` : words.open);
  };

  const seen = () => {
    setUnread(0);
    if (memory.secret && memory.seen !== talk.last()) remember({ seen: talk.last() });
  };

  const talk = startTalk({
    log,
    scroll,
    fault,
    offline,
    words: () => ({ ...words, name: config.name }),
    address: (path) => new URL(path, script.src).href,
    sound: false,
    picture,
    here: () => {
      // Another tab of this site may have begun a talk meanwhile.
      if (!memory.secret) recall();
      return Boolean(memory.secret);
    },
    open: () => open,
    ask: (path, options = {}) => {
      const address = `${base}/${path}${path.includes("?") ? "&" : "?"}language=${encodeURIComponent(config.language)}`;
      const headers = { ...options.headers, "X-Chat-Secret": memory.secret };
      return fetch(address, { credentials: "omit", cache: "no-store", ...options, headers });
    },
    begin: async () => {
      recall();
      if (!memory.secret) remember({ secret: config.secret });
      else if (!talk.last()) await talk.refresh().catch(() => {});
    },
    first: (next) => {
      oldest = next;
      earlier.hidden = !next;
      greeting.hidden = Boolean(next);
    },
    heard: (items) => {
      const news = items.filter((item) => item.author !== "customer" && item.id > (memory.seen || ""));
      if (open) seen();
      else if (news.length) setUnread(unread + news.length);
    },
    status: (now) => {
      const told = config.resting ? words.rests : words[now] || words.bot;
      // Told again only when it changed: it is read out.
      if (state.textContent !== told) state.textContent = told;
    },
  });
  const { tell, toEnd, write } = talk;

  earlier.addEventListener("click", async () => {
    try {
      const height = scroll.scrollHeight;
      oldest = await talk.earlier(oldest, log.children[1] || null);
      greeting.hidden = Boolean(oldest);
      scroll.scrollTop += scroll.scrollHeight - height;
      scroll.focus();
      earlier.hidden = !oldest;
    } catch {
      tell(words.lost);
    }
  });

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
    if (talk.last()) {
      talk.plan(0);
      return;
    }
    await talk.refresh().catch(() => {
      offline.hidden = navigator.onLine;
    });
    toEnd();
    talk.plan();
  };

  const leave = () => {
    open = false;
    panel.hidden = true;
    launcher.hidden = false;
    launcher.setAttribute("aria-expanded", "false");
    launcher.focus();
    talk.plan();
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
    if (file) talk.give(file, config.picture);
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
    greeting.replaceChildren(...talk.bubble("bot", given.greeting).childNodes);
    talk.setStatus();
    setUnread(unread);
  };

  const start = async (tries) => {
    try {
      dress(await configure());
    } catch (error) {
      if (error.refused || tries >= TRIES) console.warn("widget.js: the chat cannot be shown here.", error.message);
      else setTimeout(() => start(tries + 1), TRY_AGAIN_MS * tries);
      return;
    }
    shadow.append(root);
    document.body.append(host);
    talk.plan(1);
  };

  if (document.body) start(1);
  else addEventListener("DOMContentLoaded", () => start(1));
})();
