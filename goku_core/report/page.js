const all = (q, from = document) => [...from.querySelectorAll(q)];
const shown = { task: all("[data-task]")[0]?.dataset.task, only: "all" };
function filter() {
  for (const b of all("[data-pick]")) b.setAttribute("aria-pressed", String(b.dataset.pick === shown.task));
  for (const b of all("[data-only]")) b.setAttribute("aria-pressed", String(b.dataset.only === shown.only));
  for (const group of all("[data-task]")) {
    group.hidden = group.dataset.task !== shown.task;
    for (const ask of all(".ask", group)) {
      const fits = t => shown.only === "all" || t.classList.contains("wrong") === (shown.only === "wrong");
      ask.hidden = !all(".tile", ask).some(fits);
    }
  }
}
for (const b of all("[data-pick]")) b.onclick = () => { shown.task = b.dataset.pick; filter(); };
for (const b of all("[data-only]")) b.onclick = () => { shown.only = b.dataset.only; filter(); };
const box = document.querySelector("dialog");
for (const tile of all(".browse .tile")) tile.onclick = () => {
  const wrong = tile.classList.contains("wrong");
  const big = tile.cloneNode(false);
  big.removeAttribute("title");
  box.querySelector(".here").replaceChildren(big);
  big.style.backgroundImage = getComputedStyle(tile).backgroundImage;
  big.style.backgroundSize = getComputedStyle(tile).backgroundSize;
  box.querySelector(".asked").textContent = tile.closest(".ask").dataset.prompt;
  box.querySelector(".said").textContent = wrong ? "wrong: " + tile.dataset.reason : "right";
  box.querySelector(".said").className = "said mark " + (wrong ? "bad" : "good");
  box.querySelector(".dim").textContent = tile.dataset.id + ", seed " + tile.dataset.seed;
  box.showModal();
};
if (box) box.onclick = () => box.close();
filter();
const seen = new IntersectionObserver(entries => {
  for (const e of entries) e.isIntersecting ? e.target.play().catch(() => e.target.setAttribute("controls", "")) : e.target.pause();
});
for (const video of all("video")) seen.observe(video);
