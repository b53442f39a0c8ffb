// The inbox: keys, drafts, ready answers, and who else is here. Without it everything is reached by links and forms.
import { onStream } from "./live.js";

const PULSE_MS = 20_000;
const AGAIN_MS = 2500;
const LOOKING_MS = 45_000;
const TYPING_MS = 8000;
const TYPING_EVERY_MS = 4000;
const IDLE_MS = 6000;
const SEND_MS = 10_000;

// Private windows may have no store: nothing is kept there.
const keep = {
  get(store, name) {
    try {
      return globalThis[store].getItem(name);
    } catch {
      return null;
    }
  },
  set(store, name, value) {
    try {
      if (value) globalThis[store].setItem(name, value);
      else globalThis[store].removeItem(name);
    } catch {
      return;
    }
  },
};

export function setUpInbox(inbox) {
  const field = document.getElementById("reply-text");
  setUpTitle(inbox);
  setUpKeys(inbox, field);
  if (!inbox.dataset.talk) return;
  const file = document.getElementById("reply-file");
  if (field && file) {
    setUpFile(file, field);
  }
  if (field) {
    setUpDraft(inbox.dataset.talk, field);
    setUpReady(inbox, field);
  }
  setUpPresence(inbox, field);
}

// The chosen file's name stands on the button, and a file may go without words.
function setUpFile(file, field) {
  const name = document.querySelector("[data-file-name]");
  const none = document.querySelector("[data-file-none]");
  const plain = name.textContent;
  const show = () => {
    const [chosen] = file.files;
    name.textContent = chosen ? chosen.name : plain;
    none.hidden = !chosen;
    field.required = !chosen;
  };
  file.addEventListener("change", show);
  none.addEventListener("click", () => {
    file.value = "";
    show();
    file.focus();
  });
  show();
}

// How many wait stands in the title of the window; a sound, if it was asked for, when more do.
function setUpTitle(inbox) {
  const desk = inbox.querySelector("[data-desk]");
  const plain = document.title.replace(/^\(\d+\) /, "");
  const waiting = () => Number(desk.querySelector("[data-attention]")?.dataset.attention ?? 0);
  let known = waiting();
  document.addEventListener("htmx:afterSwap", ({ detail }) => {
    if (detail.target !== desk) return;
    const now = waiting();
    document.title = now ? `(${now}) ${plain}` : plain;
    if (now > known && keep.get("localStorage", "sound") === "on") ring();
    known = now;
  });
}

function ring() {
  // Browsers play nothing on a page that nobody has touched yet.
  if (!navigator.userActivation?.hasBeenActive) return;
  const sound = new AudioContext();
  const tone = sound.createOscillator();
  const loudness = sound.createGain();
  loudness.gain.setValueAtTime(0.15, sound.currentTime);
  loudness.gain.exponentialRampToValueAtTime(0.001, sound.currentTime + 0.4);
  tone.frequency.value = 880;
  tone.connect(loudness).connect(sound.destination);
  tone.start();
  tone.stop(sound.currentTime + 0.4);
  tone.addEventListener("ended", () => sound.close());
}

function setUpKeys(inbox, field) {
  const dialog = document.getElementById("keys");
  const on = document.getElementById("keys-on");
  const sound = document.getElementById("sound-on");
  on.checked = keep.get("localStorage", "keys") !== "off";
  sound.checked = keep.get("localStorage", "sound") === "on";
  on.addEventListener("change", () => keep.set("localStorage", "keys", on.checked ? "" : "off"));
  sound.addEventListener("change", () => {
    keep.set("localStorage", "sound", sound.checked ? "on" : "");
    if (sound.checked) ring();
  });
  inbox.parentElement.querySelector("[data-keys]")?.addEventListener("click", () => dialog.showModal());

  const step = (by) => {
    const lines = [...inbox.querySelectorAll(".talk-line")];
    const here = lines.findIndex((line) => line.hasAttribute("aria-current"));
    const next = lines[here < 0 ? (by > 0 ? 0 : lines.length - 1) : here + by];
    if (next) next.click();
  };
  // By the place of the key: people write in two alphabets.
  const withAlt = {
    KeyJ: () => step(1),
    KeyK: () => step(-1),
    KeyE: () => inbox.querySelector("button[name=status][value=closed]")?.click(),
  };
  document.addEventListener("keydown", (event) => {
    if (!on.checked || dialog.open || event.isComposing) return;
    if (event.altKey && !event.ctrlKey && !event.metaKey && withAlt[event.code]) {
      event.preventDefault();
      withAlt[event.code]();
      return;
    }
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, textarea, select")) return;
    if (event.key === "?") {
      event.preventDefault();
      dialog.showModal();
    } else if (event.code === "KeyN" && inbox.dataset.talk) {
      event.preventDefault();
      document.getElementById("note-box").open = true;
      document.getElementById("note-text").focus();
    } else if (event.key === "/" && field) {
      event.preventDefault();
      field.focus();
      if (!field.value) {
        field.value = "/";
        field.dispatchEvent(new Event("input", { bubbles: true }));
      }
    }
  });
  field?.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing && !event.defaultPrevented) {
      event.preventDefault();
      field.form.requestSubmit(field.form.querySelector("button"));
    }
  });
}

// What was begun is still there after looking elsewhere; what was sent is not.
function setUpDraft(talk, field) {
  const name = `draft:${talk}`;
  // Two conversations of one customer have become one while somebody was writing in the other.
  const former = new URLSearchParams(location.search).get("former");
  if (former && !keep.get("sessionStorage", name)) {
    keep.set("sessionStorage", name, keep.get("sessionStorage", `draft:${former}`));
    keep.set("sessionStorage", `draft:${former}`, "");
  }
  const plain = (text) => text.replaceAll("\r\n", "\n").trim();
  const kept = keep.get("sessionStorage", name);
  const sent = [...document.querySelectorAll("#talk .said-operator .bubble")].at(-1)?.textContent ?? "";
  if (kept && plain(kept) === plain(sent)) keep.set("sessionStorage", name, "");
  else if (kept && !field.value) field.value = kept;
  field.addEventListener("input", () => keep.set("sessionStorage", name, field.value));
  // Whoever is writing has not read what came meanwhile: the server asks them to, once.
  const seen = document.getElementById("seen");
  document.addEventListener("htmx:afterSwap", ({ detail }) => {
    if (detail.target.id === "talk" && !field.value.trim()) {
      seen.value = detail.target.querySelector("[data-seen]")?.dataset.seen ?? seen.value;
    }
  });
}

function setUpReady(inbox, field) {
  const box = document.getElementById("ready");
  const links = [...box.querySelectorAll("[data-text]")];
  if (!links.length) return;
  const none = box.querySelector(".ready-none");
  let chosen = null;

  const mark = (link) => {
    chosen?.classList.remove("chosen");
    chosen = link ?? null;
    chosen?.classList.add("chosen");
    chosen?.scrollIntoView({ block: "nearest" });
    if (chosen) field.setAttribute("aria-activedescendant", chosen.id);
    else field.removeAttribute("aria-activedescendant");
  };
  const shown = () => links.filter((link) => !link.parentElement.hidden);
  const asked = () => (/^\/\S*$/.test(field.value) ? field.value.slice(1).toLowerCase() : null);
  const look = () => {
    const word = asked();
    for (const link of links) {
      const fits = !word || link.dataset.shortcut.startsWith(word) || link.dataset.text.toLowerCase().includes(word);
      link.parentElement.hidden = !fits;
    }
    const found = shown();
    none.textContent = found.length ? "" : inbox.dataset.none;
    mark(word === null ? null : found[0]);
  };
  const put = (link) => {
    if (asked() !== null) field.value = link.dataset.text;
    else field.setRangeText(link.dataset.text, field.selectionStart, field.selectionEnd, "end");
    box.open = false;
    field.focus();
    field.dispatchEvent(new Event("input", { bubbles: true }));
  };

  field.addEventListener("input", () => {
    const word = asked();
    if (word !== null) box.open = true;
    else if (chosen) box.open = false;
    look();
  });
  field.addEventListener("keydown", (event) => {
    if (asked() === null || !box.open) return;
    const found = shown();
    const place = found.indexOf(chosen);
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const by = event.key === "ArrowDown" ? 1 : -1;
      mark(found[(place + by + found.length) % found.length]);
    } else if ((event.key === "Enter" || event.key === "Tab") && chosen && !event.isComposing) put(chosen);
    else if (event.key === "Escape") box.open = false;
    else return;
    event.preventDefault();
  });
  for (const link of links) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      put(link);
    });
  }
}

function setUpPresence(inbox, field) {
  const { talk, me } = inbox.dataset;
  const place = document.getElementById("presence");
  const words = place.querySelector("[data-words]");
  const people = new Map();

  const show = () => {
    const now = Date.now();
    const names = { looking: [], typing: [] };
    for (const [id, one] of people) {
      if (now - one.at > LOOKING_MS) people.delete(id);
      else names[one.state === "typing" && now - one.at < TYPING_MS ? "typing" : "looking"].push(one.name);
    }
    const say = (pattern, list) => (list.length ? pattern.replace("{names}", () => list.join(", ")) : "");
    const text = [say(inbox.dataset.typing, names.typing), say(inbox.dataset.looking, names.looking)].filter(Boolean).join(" · ");
    // Told again only when it changed: it is read out.
    if (words.textContent !== text) words.textContent = text;
  };
  const hear = ({ person, name, state }) => {
    if (person === me) return;
    if (state === "gone") people.delete(person);
    else people.set(person, { name, state, at: Date.now() });
    show();
  };
  for (const one of place.querySelectorAll("[data-person]")) {
    hear({ person: one.dataset.person, name: one.dataset.name, state: one.dataset.state });
  }
  onStream((stream) => stream.addEventListener(`presence-${talk}`, (event) => hear(JSON.parse(event.data))));
  setInterval(show, 2000);

  const send = (state, more) =>
    fetch(`/inbox/${talk}/presence/${state}`, {
      method: "POST",
      headers: { "X-CSRF-Token": document.body.dataset.csrf },
      ...more,
    }).catch(() => {
      // Said again with the next pulse; that there is no connection the stream of events tells.
    });
  // One after the other: "looking" that overtakes "typing" would end it. Of what waits only the last counts.
  let sending = false;
  let next = "";
  const say = async (state) => {
    next = state;
    if (sending) return;
    sending = true;
    while (next) {
      const now = next;
      next = "";
      await send(now, { signal: AbortSignal.timeout(SEND_MS) });
    }
    sending = false;
  };
  // Nothing is waited for on a page that is being left.
  const leave = () => {
    next = "";
    send("gone", { keepalive: true });
  };
  const look = () => {
    if (!document.hidden) say("looking");
  };
  look();
  // Once more: the page before may say only now that it was left.
  setTimeout(() => {
    if (!idle) look();
  }, AGAIN_MS);
  setInterval(() => {
    if (!idle) look();
  }, PULSE_MS);
  document.addEventListener("visibilitychange", () => (document.hidden ? leave() : look()));
  addEventListener("pagehide", leave);

  let idle = 0;
  let said = 0;
  field?.addEventListener("input", () => {
    clearTimeout(idle);
    const stop = () => {
      idle = 0;
      said = 0;
      look();
    };
    if (!field.value.trim() || field.value.startsWith("/")) {
      if (said) stop();
      return;
    }
    idle = setTimeout(stop, IDLE_MS);
    if (Date.now() - said > TYPING_EVERY_MS) {
      said = Date.now();
      say("typing");
    }
  });
}
