// Short lines in the corner, read out by screen readers.
const SHOWN_MS = 6000;
const UNDO_MS = 10_000;

export function toast(text, bad = false) {
  const line = document.createElement("div");
  line.className = bad ? "toast-line toast-bad" : "toast-line";
  line.textContent = text;
  document.getElementById("toasts").append(line);
  setTimeout(() => line.remove(), SHOWN_MS);
}

export function adoptToasts() {
  for (const line of document.querySelectorAll("[data-toast]")) {
    // Who is at the button just now is not robbed of it.
    const leave = () => (line.matches(":focus-within, :hover") ? setTimeout(leave, 1000) : line.remove());
    setTimeout(leave, line.querySelector("form") ? UNDO_MS : SHOWN_MS);
  }
  const here = new URL(location.href);
  if (here.searchParams.has("done")) {
    here.searchParams.delete("done");
    here.searchParams.delete("undo");
    history.replaceState(history.state, "", here);
  }
}

// The words of the server where it gave any, else the page's own.
export async function messageOf(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return document.body.dataset.failed;
  }
}
