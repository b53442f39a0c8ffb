// Dropping and choosing files: a bar for the way here; the list below shows the reading.
import { messageOf } from "./toast.js";

const KINDS = [".pdf", ".docx", ".csv", ".txt"];
const SPREADSHEETS = [".xlsx", ".xls", ".xlsm", ".ods"];
const PICTURES = [".jpg", ".jpeg", ".png", ".webp"];

export function setUpDrop(form) {
  const input = form.querySelector("input[type=file]");
  const lines = form.querySelector(".uploads");
  let underWay = 0;
  const say = (text) => {
    const line = document.createElement("div");
    line.className = "upload-line";
    line.textContent = text;
    lines.append(line);
    return line;
  };
  // It stays until somebody tries again: of twenty files the first may be refused minutes before anybody looks.
  const fail = (line, text) => {
    line.classList.add("bad");
    line.textContent = text;
  };

  function check(file) {
    const named = (text) => text.replace("{name}", file.name);
    const isOf = (kinds) => kinds.some((kind) => file.name.toLowerCase().endsWith(kind));
    if (isOf(PICTURES)) {
      document.getElementById("picture")?.setAttribute("open", "");
      return named(form.dataset.picture);
    }
    if (isOf(SPREADSHEETS)) return `${file.name}: ${form.dataset.spreadsheet}`;
    if (!isOf(KINDS)) return named(form.dataset.wrongKind);
    if (file.size > Number(form.dataset.max) * 1024 * 1024) return named(form.dataset.tooLarge);
    return "";
  }

  // Every file that waits its turn is seen from the beginning.
  function queue(file) {
    const trouble = check(file);
    if (trouble) return fail(say(""), trouble);
    const words = form.dataset.uploading.replace("{name}", file.name);
    const line = say(words);
    const bar = document.createElement("progress");
    bar.className = "bar";
    bar.max = 100;
    bar.value = 0;
    bar.setAttribute("aria-label", words);
    line.append(bar);
    return { file, line, bar };
  }

  function send({ file, line, bar }) {
    const body = new FormData();
    body.append("file", file, file.name);
    return new Promise((done) => {
      const request = new XMLHttpRequest();
      request.open("POST", form.action);
      request.setRequestHeader("X-CSRF-Token", document.body.dataset.csrf);
      request.setRequestHeader("Accept", "application/json");
      request.upload.addEventListener("progress", (event) => {
        if (event.lengthComputable) bar.value = (100 * event.loaded) / event.total;
      });
      request.addEventListener("load", async () => {
        if (request.status === 202) line.remove();
        else fail(line, `${file.name}: ${await messageOf(new Response(request.responseText))}`);
        window.htmx.trigger("#documents", "refresh");
        done();
      });
      request.addEventListener("error", () => {
        fail(line, `${file.name}: ${document.body.dataset.failed}`);
        done();
      });
      request.send(body);
    });
  }

  async function sendAll(files) {
    lines.querySelectorAll(".bad").forEach((line) => line.remove());
    const queued = files.map(queue).filter(Boolean);
    underWay += queued.length;
    for (const each of queued) {
      await send(each);
      underWay -= 1;
    }
  }

  // Whoever leaves now takes the files along that are not here yet.
  window.addEventListener("beforeunload", (event) => {
    if (underWay) event.preventDefault();
  });

  input.required = false;
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = "";
    sendAll(files);
  });
  for (const name of ["dragenter", "dragover"]) {
    form.addEventListener(name, (event) => {
      event.preventDefault();
      form.classList.add("over");
    });
  }
  for (const name of ["dragleave", "drop"]) form.addEventListener(name, () => form.classList.remove("over"));
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    sendAll([...event.dataTransfer.files]);
  });
}
