// look.py puts PATH in front of this, where the page is.

// The page's language, and how the painting server is.
document.documentElement.lang = navigator.language;

async function askForHealth() {
  let painter = "offline";
  try {
    const answer = await fetch(`${PATH}/health`, { cache: "no-store" });
    if (answer.ok) painter = (await answer.json()).painter;
  } catch { /* the page's own server is away */ }
  const sign = document.getElementById("painter");
  if (sign) {
    const back = painter === "ready" && sign.dataset.painter !== "ready";
    sign.dataset.painter = painter;
    // What could not be painted meanwhile is painted now.
    if (back) document.querySelector("#again:not(.hidden)")?.click();
  }
  setTimeout(askForHealth, sign ? 3000 : 200);
}
askForHealth();

// A file that is too large need not travel to be refused.
for (const kind of ["change", "drop", "paste"]) {
  window.addEventListener(kind, (event) => {
    const most = Number(document.getElementById("painter")?.dataset.most);
    const { files } = event.dataTransfer ?? event.clipboardData ?? event.target;
    if (![...(files ?? [])].some((file) => file.size > most)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (kind === "change") event.target.value = "";
    document.querySelector("#too-large").click();
  }, true);
}
