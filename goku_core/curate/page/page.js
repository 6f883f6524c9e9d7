// The choice is kept in the address (#gallery?outcome=rejected&filter=motion_low), so that a view can be sent to somebody.
const rows = JSON.parse(document.getElementById("data").textContent);
const form = document.querySelector(".filters");
const cards = [...document.querySelectorAll(".clip")];
const names = ["outcome", "filter", "label", "score", "least", "most", "order"];
function read() {
  const asked = new URLSearchParams((location.hash.split("?")[1] ?? ""));
  for (const name of names) if (asked.has(name)) form[name].value = asked.get(name);
}
function show() {
  const want = Object.fromEntries(names.map(name => [name, form[name].value]));
  const fits = row => {
    if (["outcome", "filter", "label"].some(name => want[name] && row[name] !== want[name])) return false;
    const score = row[want.score];
    if (want.least !== "" && !(score !== null && score >= Number(want.least))) return false;
    return want.most === "" || (score !== null && score <= Number(want.most));
  };
  let count = 0;
  for (const card of cards) {
    const fit = fits(rows[card.dataset.at]);
    card.hidden = !fit;
    count += fit;
  }
  const sign = { up: 1, down: -1 }[want.order];
  const at = card => Number(card.dataset.at);
  const score = card => rows[at(card)][want.score] ?? Infinity * (sign ?? 1);
  cards.sort((a, b) => (sign ? sign * (score(a) - score(b)) : 0) || at(a) - at(b));
  document.querySelector(".clips").append(...cards);
  document.getElementById("count").textContent = count;
}
form.addEventListener("input", () => {
  show();
  const asked = new URLSearchParams(names.filter(name => form[name].value).map(name => [name, form[name].value]));
  history.replaceState(null, "", "#gallery?" + asked);
});
window.addEventListener("hashchange", () => { read(); show(); });
read();
show();
const seen = new IntersectionObserver(entries => {
  for (const e of entries) e.isIntersecting ? e.target.play().catch(() => e.target.setAttribute("controls", "")) : e.target.pause();
});
for (const video of document.querySelectorAll("video")) {
  video.addEventListener("loadedmetadata", () => { video.title = video.duration.toFixed(1) + " s of the clip"; });
  seen.observe(video);
}
